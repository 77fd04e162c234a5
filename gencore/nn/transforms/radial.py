"""Radial transforms: contraction or expansion around a point (Rezende and Mohamed 2015)."""

import torch
from torch import Tensor
from torch.nn import functional

from gencore.nn.transforms.amortised import AmortisedParameters
from gencore.nn.transforms.base import Transform
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Radial"]


class Radial(Transform):
    r"""A radial transform around a point x₀, explicit from data to latents.

    .. math:: z = x + \frac{\beta}{\alpha + r}(x - x_0), \quad r = \lVert x - x_0\rVert, \qquad
              \left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = \left(\frac{s + r}{\alpha + r}\right)^{D-1}
                \frac{r^2 + 2\alpha r + \alpha s}{(\alpha + r)^2}

    with s = α + β. Both α and s are softplus of a parameter, so that β > −α, which is what makes
    the map invertible; equal ones are the identity. The inverse is in closed form: the distance r
    is the positive root of r² + (s − ρ)r − αρ = 0, where ρ = ‖z − x₀‖. `Inverse(Radial(...))` is
    explicit from latents to data, as in the paper.

    Args:
        features: D.
        context_size: C; with a context x₀ and the raw α and s are an affine function of it; 0 for
            none.

    Shape:
        [N, D] → [N, D], and contexts [N, C].

    Raises:
        ValueError: for no features, and for data or a context of another shape.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015, eqs. (13), (14)
        and Appendix A.2.

    Example:
        >>> import torch
        >>> from gencore.nn import Radial
        >>> radial = Radial(2)
        >>> z, log_det = radial(torch.zeros(5, 2))
        >>> torch.allclose(radial.inverse(z)[0], torch.zeros(5, 2), atol=1e-6)
        True
    """

    def __init__(self, features: int, *, context_size: int = 0) -> None:
        super().__init__()
        initial = torch.cat([torch.randn(features), torch.zeros(1), 0.01 * torch.randn(1)])
        self.parameters_of = AmortisedParameters("Radial", initial, features, context_size)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, center, alpha, s = self._enter(x, context)
        offset = wide - center
        r = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
        z = center + offset * (s + r) / (alpha + r)
        return z.to(x.dtype), _log_det(r, alpha, s, x.shape[1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, center, alpha, s = self._enter(z, context)
        offset = wide - center
        rho = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
        b = s - rho
        root = (b.square() + 4 * alpha * rho).sqrt()
        # Of the root's two forms, the one that adds numbers of a sign.
        r = torch.where(b > 0, 2 * alpha * rho / (root + b.abs()), 0.5 * (root - b))
        x = center + offset * (alpha + r) / (s + r)
        return x.to(z.dtype), -_log_det(r, alpha, s, z.shape[1])

    def _enter(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, x₀, α and s, as rows in the accumulation dtype."""
        raw = self.parameters_of(x, context)
        dtype = accumulation_dtype(x)
        center, alpha, s = raw.to(dtype).split([x.shape[1], 1, 1], dim=1)
        return x.to(dtype), center, functional.softplus(alpha), functional.softplus(s)


def _log_det(r: Tensor, alpha: Tensor, s: Tensor, features: int) -> Tensor:
    tangential = ((s + r) / (alpha + r)).log()
    radial = ((r.square() + 2 * alpha * r + alpha * s) / (alpha + r).square()).log()
    return ((features - 1) * tangential + radial).squeeze(1)
