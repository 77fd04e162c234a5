"""What the steps of a diffusion between some of its levels are, seen from their noisy ends."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gencore.models.diffusion.noise_schedule import NoiseSchedule

__all__ = ["GaussianSteps"]


@dataclass(frozen=True)
class GaussianSteps:
    r"""Coefficients of K steps from levels s to levels t > s of a diffusion, each float64 [K].

    With the mean scales ā of the levels and β = 1 − ā_t²/ā_s², a step's posterior is

    .. math:: q(x_s \mid x_t, x_0) = N(c_0 x_0 + c_t x_t, \tilde\beta I), \quad
              c_0 = \frac{\bar a_s \beta}{1 - \bar a_t^2}, \quad
              c_t = \frac{\bar a_t}{\bar a_s} \frac{1 - \bar a_s^2}{1 - \bar a_t^2}, \quad
              \tilde\beta = \beta \frac{1 - \bar a_s^2}{1 - \bar a_t^2}

    Example:
        >>> steps = GaussianSteps.between(NoiseSchedule([0.36, 0.5]), [0, 1, 2])
        >>> steps.start_weight[0], steps.posterior_variance[0]  # the step from the data
        (tensor(1., dtype=torch.float64), tensor(0., dtype=torch.float64))

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020, (6)-(7).
    """

    level: Tensor
    """t, int64."""
    scale: Tensor
    """ā_t."""
    noise_std: Tensor
    """√(1 - ā_t²)."""
    scale_before: Tensor
    """ā_s."""
    variance: Tensor
    """β."""
    start_weight: Tensor
    """c₀."""
    noisy_weight: Tensor
    """c_t."""
    posterior_variance: Tensor
    """β̃; 0 in the step from the data."""
    positive_variance: Tensor
    """β̃, and in the step from the data, where it is 0, that of the next step; β of a single one."""

    @classmethod
    def between(cls, schedule: NoiseSchedule, levels: Sequence[int]) -> "GaussianSteps":
        """Those from each of some levels of a schedule to the next, as `NoiseSchedule.merged`."""
        variance = schedule.merged(levels).variances
        scales = schedule.mean_scales[list(levels)]
        before, after = scales[:-1], scales[1:]
        noise, noise_before = 1 - after**2, 1 - before**2
        posterior = variance * noise_before / noise
        positive = posterior.clone()
        positive[0] = posterior[1] if len(posterior) > 1 else variance[0]
        return cls(
            level=torch.tensor(list(levels[1:]), device="cpu"),
            scale=after,
            noise_std=noise.sqrt(),
            scale_before=before,
            variance=variance,
            start_weight=before * variance / noise,
            noisy_weight=after / before * noise_before / noise,
            posterior_variance=posterior,
            positive_variance=positive,
        )

    def __len__(self) -> int:
        return len(self.level)

    def to(self, device: torch.device) -> "GaussianSteps":
        """On a device."""
        return GaussianSteps(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
