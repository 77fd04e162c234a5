"""Planar transforms: a shear along one direction (Rezende and Mohamed 2015)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from gencore.nn.bracketed_root import bracketed_root, newton_steps
from gencore.nn.transforms.amortised import AmortisedParameters
from gencore.nn.transforms.base import Transform
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Planar"]

_IDENTITY = math.log(math.e - 1)  # where softplus is 1


class Planar(Transform):
    r"""A planar transform, explicit from data to latents.

    .. math:: z = x + \hat u \tanh(w^\top x + b), \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = \log\left(1 + w^\top\hat u\,(1 - \tanh^2(w^\top x + b))\right)

    û is u moved along w such that wᵀû = −1 + softplus(wᵀu + log(e − 1)) > −1, which is what makes
    the map invertible; u = 0 is the identity. The inverse finds α = wᵀx as the root of the
    increasing function α + wᵀû·tanh(α + b) − wᵀz, and is differentiable to the third order.
    `Inverse(Planar(...))` is explicit from latents to data, as in the paper.

    Args:
        features: D.
        context_size: C; with a context u, w and b are an affine function of it, as in amortised
            inference; 0 for none.

    Shape:
        [N, D] → [N, D], and contexts [N, C].

    Raises:
        ValueError: for no features, and for data or a context of another shape.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015, eqs. (10) to
        (12) and Appendix A.1.

    Example:
        >>> import torch
        >>> from gencore.nn import Planar
        >>> planar = Planar(2)
        >>> z, log_det = planar(torch.zeros(5, 2))
        >>> torch.allclose(planar.inverse(z)[0], torch.zeros(5, 2), atol=1e-6)
        True
    """

    def __init__(self, features: int, *, context_size: int = 0) -> None:
        super().__init__()
        u, w = 0.01 * torch.randn(features), torch.randn(features) / math.sqrt(max(features, 1))
        initial = torch.cat([u, w, torch.zeros(1)])
        self.parameters_of = AmortisedParameters("Planar", initial, features, context_size)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, u_hat, w, b, least = self._enter(x, context)
        t = torch.tanh((wide * w).sum(1, keepdim=True) + b)
        return (wide + u_hat * t).to(x.dtype), _log_slope(t, least)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, u_hat, w, b, least = self._enter(z, context)
        t = torch.tanh(_root((wide * w).sum(1, keepdim=True) + b, least))
        return (wide - u_hat * t).to(z.dtype), -_log_slope(t, least)

    def _enter(
        self, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x, û, w, b and the smallest slope 1 + wᵀû, as rows in the accumulation dtype."""
        raw = self.parameters_of(x, context)
        dtype = accumulation_dtype(x)
        u, w, b = raw.to(dtype).split([x.shape[1], x.shape[1], 1], dim=1)
        product = (w * u).sum(1, keepdim=True)
        least = functional.softplus(product + _IDENTITY)
        length = w.square().sum(1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
        return x.to(dtype), u + (least - 1 - product) * w / length, w, b, least


def _log_slope(t: Tensor, least: Tensor) -> Tensor:
    """log(1 + wᵀû(1 − t²)) of t = tanh(·), without the cancellation, [N]."""
    return (t.square() + least * (1 - t.square())).log().squeeze(1)


def _root(target: Tensor, least: Tensor) -> Tensor:
    """a such that a + wᵀû·tanh(a) = target."""
    with torch.no_grad():
        search = _opaque_search if torch.compiler.is_compiling() else _search
        a = search(target, least)
    return newton_steps(_excess(target, least), a)


def _excess(target: Tensor, least: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """a + wᵀû·tanh(a) − target as a function of a, with its slope."""

    def function(a: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.tanh(a)
        return a + (least - 1) * t - target, t.square() + least * (1 - t.square())

    return function


def _search(target: Tensor, least: Tensor) -> Tensor:
    reach = (least - 1).abs()
    return bracketed_root(_excess(target, least), target, target - reach, target + reach)


@torch.library.custom_op("gencore::planar_root", mutates_args=())
def _opaque_search(target: Tensor, least: Tensor) -> Tensor:
    """The search as one operator of a graph: how many steps it takes depends on the data."""
    return _search(target, least)


@_opaque_search.register_fake
def _(target: Tensor, least: Tensor) -> Tensor:
    return torch.empty_like(target)
