"""Precision and recall of distributions (PRD): the whole trade-off as a curve."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.extras import training_extra
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["PRDCurve", "prd", "prd_curve"]

_SMALLEST_ANGLE = 1e-10  # that of the authors' program


class PRDCurve(NamedTuple):
    """Pairs of precision and recall that a model attains, the precision rising."""

    precision: Tensor
    """float64 [A], rising."""

    recall: Tensor
    """float64 [A], falling."""

    def f_beta(self, beta: float) -> float:
        """The largest (1 + β²) p r/(β² p + r) on the curve; β > 1 weighs recall more."""
        p, r = self.precision, self.recall
        weighted = beta**2 * p + r
        f = torch.where(weighted > 0, (1 + beta**2) * p * r / weighted, 0.0)
        return f.max().item()

    @property
    def f8(self) -> float:
        """F_8, which is near the largest recall."""
        return self.f_beta(8)

    @property
    def f_eighth(self) -> float:
        """F_{1/8}, which is near the largest precision."""
        return self.f_beta(1 / 8)

    @property
    def auc(self) -> float:
        """The area under precision as a function of recall, by the trapezoidal rule, in [0, 1]."""
        # At the end of vanishing recall the best precision is attained.
        precision = torch.cat([self.precision, self.precision[-1:]])
        recall = torch.cat([self.recall, torch.zeros_like(self.recall[-1:])])
        return torch.trapezoid(precision, 1 - recall).item()


def prd_curve(reference: Tensor, model: Tensor, num_angles: int = 1001) -> PRDCurve:
    r"""The PRD curve of two discrete distributions on the same K outcomes.

    For slopes λ = tan(φ), with A angles φ evenly spaced from 10⁻¹⁰ to π/2 − 10⁻¹⁰, with p the
    reference and q the model,

    .. math:: \text{precision}(\lambda) = \sum_k \min(\lambda p_k, q_k), \qquad
              \text{recall}(\lambda) = \sum_k \min(p_k, q_k / \lambda).

    Args:
        reference: p, probabilities [K] or anything proportional to them, such as counts.
        model: q, likewise.
        num_angles: A, the number of slopes; odd, so that the slope 1 is one of them.

    Raises:
        ValueError: the two are not [K] of equal K, are negative or not finite, or have no mass.

    Source:
        Sajjadi, Bachem, Lucic, Bousquet and Gelly, "Assessing Generative Models via Precision and
        Recall", 2018.

    Example:
        >>> curve = prd_curve(torch.ones(10), torch.tensor([1.0] * 4 + [0.0] * 6))
        >>> curve.precision.max().item(), curve.recall.max().item()
        (1.0, 0.4)
        >>> round(curve.f8, 3), round(curve.f_eighth, 3)
        (0.404, 0.977)
    """
    if num_angles < 3 or num_angles % 2 == 0:
        raise ValueError(f"prd_curve: num_angles = {num_angles}, expected an odd number from 3 on")
    if reference.ndim != 1 or reference.shape != model.shape:
        raise ValueError(
            f"prd_curve: reference has shape {tuple(reference.shape)} and model "
            f"{tuple(model.shape)}, expected [K] twice"
        )
    p, q = reference.double(), model.double().to(reference.device)
    for name, mass in (("reference", p), ("model", q)):
        if not (mass.isfinite().all() and (mass >= 0).all() and mass.sum() > 0):
            raise ValueError(f"prd_curve: {name} is not a distribution: {mass.tolist()[:5]} …")
    p, q = p / p.sum(), q / q.sum()
    angles = torch.linspace(
        _SMALLEST_ANGLE,
        math.pi / 2 - _SMALLEST_ANGLE,
        num_angles,
        dtype=torch.float64,
        device=p.device,
    )
    slope = angles.tan()[:, None]
    # A product with the rounded slope may exceed the other side's sum, 1, by rounding.
    precision = torch.minimum(slope * p, q).sum(1).clamp(max=1)
    recall = torch.minimum(p, q / slope).sum(1).clamp(max=1)
    return PRDCurve(precision, recall)


def prd(
    real: Tensor,
    generated: Tensor,
    features: Features = pixel_features,
    *,
    num_clusters: int = 20,
    num_runs: int = 10,
    num_angles: int = 1001,
    seed: int = 0,
) -> PRDCurve:
    """The PRD curve of two sets of images, on clusters of their features.

    The features of both sets together are clustered by k-means (scikit-learn's MiniBatchKMeans,
    ten starts), the curve is that of the two histograms over the clusters, and the curves of
    several runs are averaged. The two sets need equal numbers: clusters settle where there are more
    points.

    Args:
        real: Images [N, ...]; with the default `features` also a matrix [N, D].
        generated: Images [N, ...].
        features: Maps images [B, ...] to features [B, D].
        num_clusters: Number of clusters, at most 2N.
        num_runs: Number of clusterings.
        num_angles: Number of points of the curve.
        seed: of the clusterings.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
        ValueError: the sets differ in number or in dimension, or there are more clusters than
            images.

    Source:
        Sajjadi et al., 2018, whose program also averages ten clusterings into 20 clusters.

    Example:
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> round(prd(x, x, num_runs=1).auc, 6), prd(x, x + 100, num_runs=1).auc
        (1.0, 0.0)
    """
    x, y = (extract_features(images, features).double().cpu() for images in (real, generated))
    if x.shape != y.shape:
        raise ValueError(
            f"prd: features of shape {tuple(x.shape)} and {tuple(y.shape)}, expected as many real "
            "images as generated ones, and one dimension"
        )
    if num_runs < 1 or not 1 <= num_clusters <= 2 * len(x):
        raise ValueError(
            f"prd: num_clusters = {num_clusters} and num_runs = {num_runs}; expected 1 to "
            f"{2 * len(x)} clusters, the number of images, and at least 1 run"
        )
    with training_extra("prd"):
        from sklearn.cluster import MiniBatchKMeans
    both = torch.cat([x, y]).numpy()
    curves = []
    for run in range(num_runs):
        kmeans = MiniBatchKMeans(n_clusters=num_clusters, n_init=10, random_state=seed + run)
        cluster = torch.from_numpy(kmeans.fit_predict(both)).long()
        counts = (cluster[: len(x)], cluster[len(x) :])
        p, q = (torch.bincount(part, minlength=num_clusters) for part in counts)
        curves.append(prd_curve(p, q, num_angles))
    return PRDCurve(
        torch.stack([curve.precision for curve in curves]).mean(0),
        torch.stack([curve.recall for curve in curves]).mean(0),
    )
