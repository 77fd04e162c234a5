"""The Langevin step in torch, the twin of the kernels, and the numbers that both take."""

import math
from typing import NamedTuple

from torch import Tensor

from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.random import reference_normal

__all__ = ["LangevinSettings", "langevin_reference"]


class LangevinSettings(NamedTuple):
    """What the family's schemas share, in their order; per-chain tensors replace the numbers."""

    key: Tensor | None
    step_sizes: Tensor | None
    noise_scales: Tensor | None
    step_size: float
    noise_scale: float
    prior_precision: float
    grad_clamp: float
    clamp_min: float
    clamp_max: float
    first_element: int

    @property
    def clips_grad(self) -> bool:
        return self.grad_clamp < math.inf

    @property
    def clamps_state(self) -> bool:
        return self.clamp_min > -math.inf or self.clamp_max < math.inf


def langevin_reference(
    x: Tensor, grad: Tensor, noise: Tensor | None, s: LangevinSettings
) -> Tensor:
    """The step in pure PyTorch, in the accumulation dtype."""
    accumulate = accumulation_dtype(x)

    def coefficient(values: Tensor | None, value: float) -> Tensor | float:
        if values is None or x.numel() == 0:
            return value
        return values.repeat_interleave(x.numel() // values.numel()).view(x.shape)

    state, drift = x.to(accumulate), grad.to(accumulate)
    if s.clips_grad:
        drift = drift.clamp(-s.grad_clamp, s.grad_clamp)
    drift = drift + s.prior_precision * state
    result = state - coefficient(s.step_sizes, s.step_size) * drift
    if noise is None and s.key is not None:
        noise = reference_normal(x.shape, s.key, s.first_element, accumulate)
    if noise is not None:
        scale = coefficient(s.noise_scales, s.noise_scale)
        result = result + scale * noise.to(accumulate)
    if s.clamps_state:
        result = result.clamp(s.clamp_min, s.clamp_max)
    return result.to(x.dtype)
