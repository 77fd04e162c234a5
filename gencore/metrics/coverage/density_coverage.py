"""Density and coverage: precision and recall that single outliers do not move."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.nearest import k_nearest, points_in_balls
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["DensityCoverage", "density_coverage"]


class DensityCoverage(NamedTuple):
    """Both near 1 for a perfect model."""

    density: float
    """How densely the generated images lie around real ones, at least 0, may exceed 1."""

    coverage: float
    """Fraction of the real images that have a generated one near them, in [0, 1]."""


def density_coverage(
    real: Tensor, generated: Tensor, k: int = 5, features: Features = pixel_features
) -> DensityCoverage:
    r"""How many balls around real images hold a generated one, and how many of the balls do.

    With B_i the closed ball around the real x_i that reaches to its k-th nearest other real image,

    .. math:: \text{density} = \frac{1}{k M} \sum_{j=1}^{M} \sum_{i=1}^{N} 1[y_j \in B_i],
              \qquad
              \text{coverage} = \frac{1}{N} \sum_{i=1}^{N} 1[\exists j: y_j \in B_i].

    If both sets have the same continuous distribution, the expected density is 1 and the expected
    coverage 1 − Π_{j=1}^{k} (N − j)/(N + M − j), which k is to bring near 1.

    Args:
        real: Images [N, ...], N > k; with the default `features` also a matrix [N, D].
        generated: Images [M, ...].
        k: Which neighbour sets the radius.
        features: Maps images [B, ...] to features [B, D].

    Raises:
        ValueError: the features differ in dimension, or k is not in [1, N − 1].

    Source:
        Naeem, Oh, Uh, Choi and Yoo, "Reliable Fidelity and Diversity Metrics for Generative
        Models", 2020, section 3. Their code takes open balls, which differ on exact
        copies only: of the real images themselves the density is 1 with these and 1 + 1/k here.

    Example:
        >>> line = torch.arange(10.0)[:, None]
        >>> density_coverage(line, line[:5], k=2)
        DensityCoverage(density=1.5, coverage=0.6)
    """
    x, y = (extract_features(images, features) for images in (real, generated))
    name = "density_coverage"
    radii = k_nearest(x, x, k, among_themselves=True, caller=name).distances[:, -1]
    pairs = 0
    covered = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for part in points_in_balls(y, x, radii, caller=name):
        pairs += int(part.sum())
        covered |= part.any(0)
    return DensityCoverage(pairs / (k * len(y)), covered.double().mean().item())
