"""All noise of a sample that undoes a diffusion, and the way between two of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.checks import finite

__all__ = ["DiffusionNoise", "slerp"]


class DiffusionNoise(NamedTuple):
    """What a sample is a function of: its start and the noise of every step at every level."""

    start: Tensor
    """[N, ...]: x_T."""
    steps: Tensor
    """[T, K, N, ...]: ε of each step at each level t, in the order of t and not of time."""

    def slerp(self, other: "DiffusionNoise", weight: float) -> "DiffusionNoise":
        """The noise on the way to another one: `slerp` of the starts and of every step's noise."""
        # The rows of a step are the last dimensions but those of a point.
        lead = self.steps.shape[: self.steps.dim() - self.start.dim() + 1]
        rows, others = (noise.steps.flatten(0, len(lead) - 1) for noise in (self, other))
        return DiffusionNoise(
            slerp(self.start, other.start, weight),
            slerp(rows, others, weight).unflatten(0, lead),
        )


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    r"""Spherical interpolation of each row of a with that of b.

    .. math:: \frac{\sin((1 - w)\Omega)}{\sin\Omega} a + \frac{\sin(w\Omega)}{\sin\Omega} b, \qquad
              \cos\Omega = \frac{\langle a, b\rangle}{\lVert a\rVert \lVert b\rVert}

    Rows of independent normals are nearly orthogonal and of norm √D, and so is every point between
    them: its coefficients' squares add up to about 1. Weights 0 and 1 give a and b bit for bit.
    Rows that are parallel are interpolated linearly.

    Args:
        a, b: [N, ...].
        weight: w.

    Raises:
        ValueError: for shapes that differ, or a weight that is not finite.

    Example:
        >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
        tensor([[0.7071, 0.7071]])

    References:
        Shoemake, "Animating rotation with quaternion curves", 1985; White, "Sampling generative
        networks", 2016.
    """
    if a.shape != b.shape or a.dim() < 1:
        raise ValueError(
            f"slerp: a has shape {list(a.shape)} and b {list(b.shape)}; expected the same, [N, ...]"
        )
    weight = finite("slerp", "weight", weight)
    if weight in (0.0, 1.0):
        return (b if weight else a).clone()
    rows, others = a.reshape(len(a), -1).double(), b.reshape(len(b), -1).double()
    norms = rows.norm(dim=1) * others.norm(dim=1)
    cosine = ((rows * others).sum(1) / norms.clamp_min(torch.finfo(torch.float64).tiny)).clamp(
        -1, 1
    )
    angle = cosine.acos()
    is_parallel = (angle.sin() < 1e-6) | (norms == 0)
    sine = torch.where(is_parallel, 1.0, angle.sin())
    of_a = torch.where(is_parallel, 1 - weight, ((1 - weight) * angle).sin() / sine)
    of_b = torch.where(is_parallel, weight, (weight * angle).sin() / sine)
    return (of_a[:, None] * rows + of_b[:, None] * others).reshape(a.shape).to(a.dtype)
