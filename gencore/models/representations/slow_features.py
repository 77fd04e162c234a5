"""Slow feature analysis: functions of a signal that change as little as they can."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["SlowFeatures", "quadratic_expansion"]

T = TypeVar("T", bound="SlowFeatures")


class SlowFeatures(nn.Module):
    r"""Functions y = g(x) of a signal x(t) with unit variance, without correlation, and slow:

    .. math:: \min\ \Delta(y_j) = \langle \dot y_j^2 \rangle \quad \text{with} \quad
              \langle y_j \rangle = 0, \quad \langle y_j^2 \rangle = 1, \quad
              \langle y_i y_j \rangle = 0 \ \ (i < j)

    With g linear in x, or in the expansion of x by all products of two of its entries, the minimum
    is a closed form: the eigenvectors of the smallest eigenvalues of the generalised problem

    .. math:: \langle \dot z \dot z^T \rangle\, w_j = \Delta_j\, \langle z z^T \rangle\, w_j,
              \qquad y_j = w_j^T z, \qquad z = \text{expansion}(x) - \text{mean}.

    The derivative is the difference of neighbours in time. Directions in which z hardly varies,
    less than `tolerance` of the greatest variance with each entry of z in units of its standard
    deviation, are left out: there rounding errors would look like features. The
    sign of a feature is arbitrary; here the largest of its weights is positive.

    Args:
        features: D, of the signal.
        num_features: J, how many slow features.
        degree: 1 for linear functions, 2 for quadratic ones.
        tolerance: least variance of a direction that is used, as a part of the largest.

    Attributes:
        mean: of the expansion, [E].
        weight: w, [E, J].
        slowness: Δ, [J], ascending; 2 for white noise.
        fitted: whether there has been a `fit`.

    Raises:
        ValueError: a size is below 1, the degree is not 1 or 2, or the tolerance is not in [0, 1).

    References:
        Wiskott and Sejnowski, "Slow feature analysis: unsupervised learning of invariances", 2002,
        section 2; Bruna, "Inference and representation", lecture 11, whose slide asks for
        ⟨Φ(x_t), Φ(x_s)⟩ ≈ h(|t − s|).

    Example:
        >>> import torch
        >>> from gencore.models import SlowFeatures
        >>> t = torch.linspace(0, 20, 2000)
        >>> slow, fast = t.cos(), (11 * t).sin()
        >>> x = torch.stack([slow + fast, slow - 2 * fast], 1)     # what is seen: two mixtures
        >>> y = SlowFeatures(2, 1).fit(x)(x)
        >>> bool(torch.corrcoef(torch.stack([y[:, 0], slow]))[0, 1].abs() > 0.999)
        True
    """

    mean: Tensor
    weight: Tensor
    slowness: Tensor
    fitted: Tensor

    def __init__(
        self, features: int, num_features: int, *, degree: int = 1, tolerance: float = 1e-7
    ) -> None:
        super().__init__()
        check_positive("SlowFeatures", features=features, num_features=num_features)
        if degree not in (1, 2) or not 0 <= tolerance < 1:
            raise ValueError(
                f"SlowFeatures: degree is {degree} and tolerance {tolerance}; expected 1 or 2, and "
                "0 <= tolerance < 1"
            )
        expanded = features if degree == 1 else features * (features + 3) // 2
        if num_features > expanded:
            raise ValueError(
                f"SlowFeatures: num_features is {num_features}; expected at most {expanded}, as "
                "many as there are functions to combine"
            )
        self.features, self.degree, self.tolerance = features, degree, tolerance
        self.register_buffer("mean", torch.zeros(expanded))
        self.register_buffer("weight", torch.zeros(expanded, num_features))
        self.register_buffer("slowness", torch.zeros(num_features))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self: T, x: Tensor) -> T:
        """The slow features of a signal [T, D], or of several [N, T, D] that are not continued in
        each other. It computes in float64, in the memory of the expanded signals.

        Returns:
            The module itself.

        Raises:
            ValueError: x has another shape, too few times, or is not finite; or it varies in fewer
                directions than there are features to find.
        """
        x = x[None] if x.ndim == 2 else x
        if x.ndim != 3 or x.shape[2] != self.features or len(x) < 1 or x.shape[1] < 2:
            raise ValueError(
                f"SlowFeatures.fit: x has shape {list(x.shape)}; expected [T, {self.features}] or "
                f"[N, T, {self.features}], with two times or more"
            )
        if not bool(x.isfinite().all()):
            raise ValueError("SlowFeatures.fit: x is not all finite")
        z = self._expand(x.detach().double())
        mean = z.flatten(0, 1).mean(0)
        z = z - mean
        # Entries in units of their own, so that the tolerance does not depend on these.
        scale = z.square().flatten(0, 1).mean(0).sqrt()
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        variance, direction = torch.linalg.eigh(_second_moment(z / scale))
        used = variance > self.tolerance * variance[-1].clamp(min=torch.finfo(z.dtype).tiny)
        num = self.weight.shape[1]
        if int(used.sum()) < num:
            raise ValueError(
                f"SlowFeatures.fit: the signal varies in {int(used.sum())} directions (tolerance "
                f"{self.tolerance}); expected at least the {num} of num_features"
            )
        # After whitening, ⟨zzᵀ⟩ = I, the generalised problem is an ordinary one.
        whiten = direction[:, used] / variance[used].sqrt() / scale[:, None]
        slowness, rotation = torch.linalg.eigh(_second_moment(z.diff(dim=1) @ whiten))
        weight = whiten @ rotation[:, :num]
        largest = weight.gather(0, weight.abs().argmax(0, keepdim=True))
        self.weight.copy_(weight * largest.sign())
        self.mean.copy_(mean)
        self.slowness.copy_(slowness[:num])
        self.fitted.fill_(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The features of signals [..., D], [..., J], the slowest first, each time by itself.

        Raises:
            RuntimeError: before `fit`.
            ValueError: x has another number of entries.
        """
        if not self.fitted:
            raise RuntimeError("SlowFeatures: there is nothing fitted; call fit first")
        if x.shape[-1:] != (self.features,):
            raise ValueError(
                f"SlowFeatures: x has shape {list(x.shape)}; expected [..., {self.features}]"
            )
        return (self._expand(x) - self.mean) @ self.weight

    def _expand(self, x: Tensor) -> Tensor:
        return x if self.degree == 1 else quadratic_expansion(x)

    def extra_repr(self) -> str:
        return f"{self.features}, {self.weight.shape[1]}, degree={self.degree}"


def quadratic_expansion(x: Tensor) -> Tensor:
    """The entries of x [..., D] and all products xᵢxⱼ with i ≤ j, [..., D(D + 3)/2].

    Example:
        >>> quadratic_expansion(torch.tensor([2.0, 3.0]))
        tensor([2., 3., 4., 6., 9.])
    """
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return torch.cat([x, x[..., first] * x[..., second]], -1)


def _second_moment(z: Tensor) -> Tensor:
    """⟨zzᵀ⟩ over signals and times [N, T, E]."""
    rows = z.flatten(0, 1)
    return rows.T @ rows / len(rows)
