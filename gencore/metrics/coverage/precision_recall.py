"""Precision and recall by the neighbourhoods of single images."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.nearest import k_nearest, points_in_balls
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["PrecisionRecall", "precision_recall"]


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]."""

    precision: float
    """Fraction of the generated images that lie where the real ones are."""

    recall: float
    """Fraction of the real images that lie where the generated ones are."""


def precision_recall(
    real: Tensor, generated: Tensor, k: int = 3, features: Features = pixel_features
) -> PrecisionRecall:
    r"""Improved precision and recall: two manifolds, each the union of balls around its images.

    The ball around an image of a set reaches as far as the k-th nearest other image of the set.

    .. math:: \text{precision} = \frac{1}{M} \sum_{j=1}^{M}
              1\Big[\exists i: \|y_j - x_i\| \le \|x_i - NN_k(x_i)\|\Big]

    of generated y and real x; recall is the same with the two exchanged. Both depend on k and on
    the numbers of images: compare values of equal ones. One outlier among the images of a set makes
    a large ball, and with it a large measure: see :func:`gencore.metrics.density_coverage`.

    Args:
        real: Images [N, ...], N > k; with the default `features` also a matrix [N, D].
        generated: Images [M, ...], M > k.
        k: Which neighbour sets the radius.
        features: Maps images [B, ...] to features [B, D].

    Raises:
        ValueError: the features differ in dimension, or k is not in [1, min(N, M) − 1].

    Source:
        Kynkäänniemi, Karras, Laine, Lehtinen and Aila, "Improved Precision and Recall Metric for
        Assessing Generative Models", 2019, eq. (1) and (2).

    Example:
        >>> line = torch.arange(10.0)[:, None]
        >>> precision_recall(line, line[:5], k=1)
        PrecisionRecall(precision=1.0, recall=0.6)
    """
    x, y = (extract_features(images, features) for images in (real, generated))
    return PrecisionRecall(_covered(y, by=x, k=k), _covered(x, by=y, k=k))


def _covered(points: Tensor, by: Tensor, k: int) -> float:
    """Fraction of the points that lie in the balls around the others."""
    name = "precision_recall"
    radii = k_nearest(by, by, k, among_themselves=True, caller=name).distances[:, -1]
    inside = [part.any(1) for part in points_in_balls(points, by, radii, caller=name)]
    return torch.cat(inside).double().mean().item()
