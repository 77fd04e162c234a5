"""How a Fréchet distance depends on the number of samples, and its limit at infinitely many."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.frechet import frechet_distance
from gencore.metrics.distances.moments import GaussianMoments, StreamingMoments, gaussian_moments
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["SampleSizeFit", "fit_sample_size", "frechet_at_infinity"]


class SampleSizeFit(NamedTuple):
    """The line distance = value + slope/N through distances at several numbers of samples."""

    value: float
    """The distance at infinitely many samples."""

    slope: float
    """How much is added by finite numbers, times N."""

    sizes: Tensor
    """The numbers of samples N, int64 [S]."""

    distances: Tensor
    """The distances at these numbers, float64 [S]."""


def fit_sample_size(sizes: Sequence[int] | Tensor, distances: Sequence[float]) -> SampleSizeFit:
    r"""Least squares of distance = value + slope/N.

    The bias of a Fréchet distance is proportional to 1/N to first order. Of N samples of N(0, I)
    in D dimensions against N(0, I) itself, the slope is D + D(D + 1)/4: D by the mean, and
    D(D + 1)/4 by the covariance. A subset of n of N samples, against all of them, has
    slope · (1/n − 1/N).

    Args:
        sizes: Numbers of samples N, at least two different ones.
        distances: The distance at each.

    Raises:
        ValueError: the two differ in length, or fewer than two sizes differ.

    Source:
        Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them",
        2020.

    Example:
        >>> fit = fit_sample_size([10, 20, 40], [3.0, 2.0, 1.5])
        >>> round(fit.value, 6), round(fit.slope, 6)
        (1.0, 20.0)
    """
    n = torch.as_tensor(sizes, dtype=torch.int64, device="cpu")
    d = torch.as_tensor(distances, dtype=torch.float64, device="cpu")
    if n.ndim != 1 or n.shape != d.shape or len(n.unique()) < 2 or not (n > 0).all():
        raise ValueError(
            f"fit_sample_size: sizes {n.tolist()} and {d.numel()} distances, expected as many "
            "distances as sizes, and at least two different positive sizes"
        )
    inverse = 1 / n.double()
    offset = inverse - inverse.mean()
    slope = (offset @ d) / offset.square().sum()
    return SampleSizeFit((d.mean() - slope * inverse.mean()).item(), slope.item(), n, d)


def frechet_at_infinity(
    generated: Tensor,
    reference: GaussianMoments | StreamingMoments | Tensor,
    features: Features = pixel_features,
    *,
    sizes: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> SampleSizeFit:
    r"""The Fréchet distance that infinitely many generated samples would have, by extrapolation.

    Distances of random subsets of the generated samples to the reference are taken at several sizes
    N, and the line value + slope/N is fitted. On Inception features the value is called FID_∞. The
    bias that the *reference* has by its own number of samples remains, the same for all models that
    are compared with it.

    Args:
        generated: Images [N, ...]; with the default `features` also a matrix [N, D].
        reference: Moments of the data's features, or images.
        features: Maps images [B, ...] to features [B, D].
        sizes: Sizes of the subsets; if None, 15 between N/10 and N, evenly spaced. The line
            wants sizes well above the dimension D, where the bias is small against its own slope.
        generator: Source of randomness on the CPU, for the subsets; the default one if None.

    Raises:
        ValueError: a size is below 2 or above N, or fewer than two sizes differ.

    Source:
        Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them",
        2020, who take 15 sizes from 5,000 to 50,000.

    Example:
        >>> x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0))
        >>> exact = GaussianMoments(torch.zeros(4), torch.eye(4), 0)
        >>> fit = frechet_at_infinity(x, exact, generator=torch.Generator().manual_seed(1))
        >>> abs(fit.value) < frechet_distance(x[:400], exact) / 4
        True
    """
    vectors = extract_features(generated, features)
    if isinstance(reference, Tensor):
        reference = gaussian_moments(reference, features)
    num = len(vectors)
    if sizes is None:
        sizes = torch.linspace(max(num // 10, 2), num, 15).round().long().tolist()
    if not all(2 <= size <= num for size in sizes):
        raise ValueError(
            f"frechet_at_infinity: sizes are {list(sizes)}, expected from 2 to {num}, the number "
            "of generated samples"
        )
    distances = [
        frechet_distance(
            vectors[torch.randperm(num, generator=generator)[:size].to(vectors.device)], reference
        )
        for size in sizes
    ]
    return fit_sample_size(sizes, distances)
