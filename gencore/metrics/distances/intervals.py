"""Confidence intervals of a distance between two sets, by resampling the sets."""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Interval", "block_interval", "bootstrap_interval"]


class Interval(NamedTuple):
    """An estimate, its standard error, and an interval that holds its expectation."""

    value: float
    standard_error: float
    low: float
    high: float


def bootstrap_interval(
    distance: Callable[[Tensor, Tensor], float],
    a: Tensor,
    b: Tensor,
    *,
    num_resamples: int = 100,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Interval:
    r"""Interval of a distance from sets that are drawn anew, with replacement, from the two sets.

    The standard error s is the standard deviation of the distance over the resamples, the interval
    value ± z s with the normal quantile z. It covers the distance's expectation *at these numbers
    of samples*: the bias of a Fréchet distance by finite numbers is not taken away. Nor does the
    interval hold for two sets of one and the same distribution, where the Fréchet distance is not
    nearly normal. For an unbiased kernel distance use :func:`block_interval`: a resample holds some
    points twice, which adds to it.

    Args:
        distance: Maps two sets [N, ...] and [M, ...] to a number; a Fréchet distance on features
            is faster from the features than from the images.
        a: The first set, [N, ...].
        b: The second set, [M, ...].
        num_resamples: Number of resamples of both sets.
        level: Probability that the interval holds the expectation.
        generator: Source of randomness on the CPU; the default one if None.

    Raises:
        ValueError: fewer than two resamples, or a level outside (0, 1).

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.1.

    Example:
        >>> from gencore.metrics import frechet_distance
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> interval = bootstrap_interval(
        ...     frechet_distance, x[:250], 1 + x[250:], generator=torch.Generator().manual_seed(1)
        ... )
        >>> interval.low < 2 < interval.high
        True
    """
    _check("bootstrap_interval", "num_resamples", num_resamples, level)
    values = [
        distance(*(_resample(each, generator) for each in (a, b))) for _ in range(num_resamples)
    ]
    error = torch.tensor(values, dtype=torch.float64).std().item()
    value = distance(a, b)
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(value, error, value - half, value + half)


def block_interval(
    distance: Callable[[Tensor, Tensor], float],
    a: Tensor,
    b: Tensor,
    *,
    num_blocks: int = 10,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Interval:
    r"""Interval of a distance from the disjoint blocks that the two sets are cut into at random.

    With d_b the distance between the b-th blocks and B blocks,

        value = mean(d_b),    s² = var(d_b)/B,    value ± t_{B−1} s,

    where t is Student's quantile. The blocks are independent, so the interval holds whatever the
    distribution of d_b, nearly. It is meant for an unbiased distance, as
    :func:`gencore.metrics.kernel_distance`: then the value estimates the same as the distance of
    the whole sets does, with somewhat more noise. Of a biased distance it gives the expectation at
    the size of a block.

    Args:
        distance: Maps two sets [N/B, ...] and [M/B, ...] to a number.
        a: The first set, [N, ...].
        b: The second set, [M, ...].
        num_blocks: B; what is left of a set that it does not divide is not used.
        level: Probability that the interval holds the expectation.
        generator: Source of randomness on the CPU, for the cut; the default one if None.

    Raises:
        ValueError: fewer than two blocks, more blocks than half the elements of a set, or a level
            outside (0, 1).

    Source:
        Zaremba, Gretton and Blaschko, "B-tests: Low Variance Kernel Two-Sample Tests", 2013.

    Example:
        >>> from gencore.metrics import kernel_distance
        >>> x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> interval = block_interval(
        ...     kernel_distance, x[:1000], x[1000:], generator=torch.Generator().manual_seed(1)
        ... )
        >>> interval.low < 0 < interval.high
        True
    """
    _check("block_interval", "num_blocks", num_blocks, level)
    if 2 * num_blocks > min(len(a), len(b)):
        raise ValueError(
            f"block_interval: num_blocks = {num_blocks} of sets of {len(a)} and {len(b)}, expected "
            "blocks of at least 2"
        )
    blocks = zip(
        *(
            torch.randperm(len(each), generator=generator)[: len(each) // num_blocks * num_blocks]
            .view(num_blocks, -1)
            .to(each.device)
            for each in (a, b)
        ),
        strict=True,
    )
    values = torch.tensor([distance(a[i], b[j]) for i, j in blocks], dtype=torch.float64)
    value, error = values.mean().item(), values.std().item() / num_blocks**0.5
    half = _student_quantile((1 + level) / 2, num_blocks - 1) * error
    return Interval(value, error, value - half, value + half)


def _resample(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return x[torch.randint(len(x), (len(x),), generator=generator).to(x.device)]


def _check(function: str, name: str, number: int, level: float) -> None:
    if number < 2:
        raise ValueError(f"{function}: {name} = {number}, expected at least 2")
    if not 0 < level < 1:
        raise ValueError(f"{function}: level = {level}, expected a number in (0, 1)")


def _student_quantile(probability: float, freedom: int) -> float:
    """Student's t, from the normal quantile by four terms in 1/ν.

    Exact formulas serve one and two degrees of freedom, where the series is poor. Abramowitz and
    Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    p = torch.tensor(probability, dtype=torch.float64)
    if freedom == 1:
        return torch.tan(torch.pi * (p - 0.5)).item()
    if freedom == 2:
        return ((2 * p - 1) / (2 * p * (1 - p)).sqrt()).item()
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
