"""Which modes of a known mixture the samples of a model cover."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.nearest import k_nearest

__all__ = ["ModeCoverage", "high_quality_counts", "mode_coverage", "mode_coverage_of_counts"]


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
    counts = high_quality_counts(samples, modes, radius)
    return mode_coverage_of_counts(counts, len(samples))


def high_quality_counts(samples: Tensor, modes: Tensor, radius: float) -> Tensor:
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


def mode_coverage_of_counts(counts: Tensor, num_samples: int | None = None) -> ModeCoverage:
    """The measures of `mode_coverage`, from the number of high-quality samples of each mode.

    It serves where a classifier tells which mode a sample belongs to, as of MNIST's digits, one in
    each colour channel, with 1000 modes.

    Args:
        counts: Numbers of samples, integers [K].
        num_samples: Number of all samples; the sum of the counts if None.

    Raises:
        ValueError: counts are not [K] integers, or some negative, or more than the samples.

    Example:
        >>> result = mode_coverage_of_counts(torch.tensor([5, 0, 5, 0]), 20)
        >>> result.num_modes, result.high_quality, round(result.kl_to_uniform, 4)
        (2, 0.5, 0.6931)
    """
    if counts.ndim != 1 or counts.numel() == 0 or counts.is_floating_point() or counts.min() < 0:
        raise ValueError(
            f"mode_coverage_of_counts: counts are {counts.dtype} of shape {tuple(counts.shape)}, "
            "expected integers [K], none of them negative"
        )
    num_good = int(counts.sum())
    num_samples = num_good if num_samples is None else num_samples
    if num_samples < num_good:
        raise ValueError(
            f"mode_coverage_of_counts: num_samples = {num_samples}, expected at least {num_good}, "
            "the sum of the counts"
        )
    if num_good == 0:
        return ModeCoverage(0, 0.0, math.inf, counts)
    fraction = counts.double() / num_good
    kl = math.log(len(counts)) + torch.special.xlogy(fraction, fraction).sum().item()
    return ModeCoverage(int((counts > 0).sum()), num_good / num_samples, max(kl, 0.0), counts)
