"""The nearest training images of samples, and balls around feature vectors."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.distances.pairwise import squared_distances
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["NearestNeighbors", "k_nearest", "nearest_neighbors", "points_in_balls"]


class NearestNeighbors(NamedTuple):
    """The nearest points of each query, the nearest first."""

    distances: Tensor
    """Euclidean distance in feature space, float64 [N, k]."""

    indices: Tensor
    """Place in the set of points, int64 [N, k]."""


def nearest_neighbors(
    samples: Tensor,
    training: Tensor,
    k: int = 1,
    features: Features = pixel_features,
    *,
    batch_size: int = 256,
) -> NearestNeighbors:
    """The k training images that are nearest to each sample, by Euclidean distance of features.

    A model that copies its training data shows distances near zero. An exact copy has distance 0.
    Of equal distances, any may come first.

    Args:
        samples: Images [N, ...]; with the default `features` also a matrix of features [N, D].
        training: Images [M, ...], M ≥ k.
        k: Number of neighbours.
        features: Maps images [B, ...] to features [B, D].
        batch_size: Number of samples that are compared with all the training images at a time.

    Raises:
        ValueError: the features differ in dimension, or k is not in [1, M].

    Example:
        >>> training = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> nearest_neighbors(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), training)
        NearestNeighbors(distances=tensor([[0.],
                [1.]], dtype=torch.float64), indices=tensor([[1],
                [0]]))
    """
    queries = extract_features(samples, features)
    points = extract_features(training, features)
    return k_nearest(queries, points, k, batch_size=batch_size, caller="nearest_neighbors")


def k_nearest(
    queries: Tensor,
    points: Tensor,
    k: int,
    *,
    among_themselves: bool = False,
    batch_size: int = 256,
    caller: str = "k_nearest",
) -> NearestNeighbors:
    """`nearest_neighbors` of feature vectors [N, D] among others [M, D].

    With ``among_themselves`` the two sets are the same one, and no vector is its own neighbour.
    """
    queries, points = _same_space(queries, points, caller)
    others = len(points) - among_themselves
    if not 1 <= k <= others:
        raise ValueError(f"{caller}: k = {k}, expected 1 to {others}, the number of neighbours")
    # The product of matrices is fast and finds the candidates. Its distances are differences of
    # large squares, which rounding hurts where they are small; those of the candidates are
    # computed once more from differences, and a few more candidates keep the order right.
    num_candidates = min(k + 4, others)
    distances, indices = [], []
    for start in range(0, max(len(queries), 1), batch_size):
        part = queries[start : start + batch_size]
        squared = squared_distances(part, points)
        if among_themselves:
            rows = torch.arange(len(part), device=part.device)
            squared[rows, start + rows] = torch.inf
        candidates = squared.topk(num_candidates, largest=False).indices
        exact = (points[candidates] - part[:, None]).norm(dim=2)
        order = exact.argsort(stable=True)[:, :k]
        distances.append(exact.gather(1, order))
        indices.append(candidates.gather(1, order))
    return NearestNeighbors(torch.cat(distances), torch.cat(indices))


def points_in_balls(
    points: Tensor, centres: Tensor, radii: Tensor, *, batch_size: int = 256, caller: str
) -> Iterator[Tensor]:
    """For each batch of points: which closed balls hold them, bool [B, M].

    Args:
        points: [N, D].
        centres: [M, D].
        radii: [M].
    """
    points, centres = _same_space(points, centres, caller)
    size = centres.square().sum(1)
    for part in torch.split(points, batch_size):
        # A point on the sphere is in the ball, whichever way its distance was rounded.
        rounding = 1e-12 * (part.square().sum(1, keepdim=True) + size)
        yield squared_distances(part, centres) <= radii.square() + rounding


def _same_space(x: Tensor, y: Tensor, caller: str) -> tuple[Tensor, Tensor]:
    """Both in float64, on one device and moved by one shift, near the origin."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{caller}: features have shape {tuple(x.shape)} and {tuple(y.shape)}, expected "
            "[N, D] and [M, D]"
        )
    y = y.double()
    centre = y.mean(0)
    return x.to(y) - centre, y - centre
