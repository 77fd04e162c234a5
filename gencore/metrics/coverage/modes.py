"""Which modes of a known mixture the samples of a model cover."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.nearest import k_nearest

__all__ = ["ModeCoverage", "mode_coverage", "mode_coverage_of_counts", "nearest_mode"]


class ModeCoverage(NamedTuple):
    """How samples spread over the modes."""

    num_modes: int
    """Number of modes with at least one high-quality sample near them."""

    high_quality: float
    """Fraction of the samples that are of high quality: near enough to a mode."""

    kl_to_uniform: float
    """KL(histogram of the high-quality samples over the modes ‖ uniform), in nats; infinite
    without high-quality samples."""

    counts: Tensor
    """High-quality samples of each mode, int64 [K]."""


def mode_coverage(samples: Tensor, modes: Tensor, radius: float) -> ModeCoverage:
    r"""The modes of an even mixture that samples cover, and how evenly.

    A sample belongs to its nearest mode and is of high quality if that is within the radius; a mode
    is covered if it has a high-quality sample. With ĥ_k the fraction of the high-quality samples at
    mode k,

    .. math:: \mathrm{KL}(\hat h \| u) = \log K + \sum_{k=1}^{K} \hat h_k \log \hat h_k,

    0 for an even spread and log K for a single mode.

    Args:
        samples: [N, D].
        modes: The modes' centres, [K, D].
        radius: How far a high-quality sample may be from its mode; three standard deviations of a
            mode are usual.

    Raises:
        ValueError: samples or modes are not [N, D] and [K, D], there are none, or the radius is not
            positive.

    Source:
        Srivastava, Valkov, Russell, Gutmann and Sutton, "VEEGAN: Reducing Mode Collapse in GANs
        using Implicit Variational Learning", 2017; Lin, Khetan, Fanti and Oh,
        "PacGAN: The power of two samples in generative adversarial networks", 2018.

    Example:
        >>> modes = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
        >>> samples = torch.tensor([[0.1, 0.0], [9.9, 0.0], [10.0, 0.2], [5.0, 5.0]])
        >>> result = mode_coverage(samples, modes, radius=0.5)
        >>> result.num_modes, result.high_quality, result.counts.tolist()
        (2, 0.75, [1, 2, 0, 0])
    """
    counts = nearest_mode(samples, modes, radius)
    return mode_coverage_of_counts(counts, len(samples))


def nearest_mode(samples: Tensor, modes: Tensor, radius: float) -> Tensor:
    """Number of samples of high quality of each mode, int64 [K]."""
    if not radius > 0:
        raise ValueError(f"mode_coverage: radius = {radius}, expected a positive number")
    if samples.ndim != 2 or modes.ndim != 2 or min(len(samples), len(modes)) == 0:
        raise ValueError(
            f"mode_coverage: samples have shape {tuple(samples.shape)} and modes "
            f"{tuple(modes.shape)}, expected [N, D] and [K, D] and not empty"
        )
    nearest = k_nearest(samples, modes, 1, caller="mode_coverage")
    good = nearest.indices[nearest.distances <= radius]
    return torch.bincount(good, minlength=len(modes))


def mode_coverage_of_counts(counts: Tensor, num_samples: int) -> ModeCoverage:
    """The measures, from the numbers of high-quality samples of each mode, [K]."""
    num_good = int(counts.sum())
    if num_good == 0:
        return ModeCoverage(0, 0.0, math.inf, counts)
    fraction = counts.double() / num_good
    kl = math.log(len(counts)) + torch.special.xlogy(fraction, fraction).sum().item()
    return ModeCoverage(int((counts > 0).sum()), num_good / num_samples, max(kl, 0.0), counts)
