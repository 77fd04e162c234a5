"""The Fréchet distance between Gaussians fitted to two sets of features."""

import torch
from torch import Tensor

from gencore.metrics.distances.moments import GaussianMoments, StreamingMoments, gaussian_moments
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["frechet_distance"]


def frechet_distance(
    a: GaussianMoments | StreamingMoments | Tensor,
    b: GaussianMoments | StreamingMoments | Tensor,
    features: Features = pixel_features,
) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of the Gaussians fitted to two sets of features:

        ‖μ_a − μ_b‖² + Tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^{1/2}).

    Report it as "Fréchet distance on X features", with the number of samples. It is called FID on
    one particular Inception network only, :class:`gencore.metrics.InceptionFeatures`. The estimate
    is biased upwards by the finite number of samples, so compare only values that were computed
    with equal numbers, or their limits (:func:`gencore.metrics.frechet_at_infinity`).

    With Σ = L Lᵀ, L = U Λ^{1/2} from the symmetric eigendecomposition Σ = U Λ Uᵀ, the trace of
    (Σ_a Σ_b)^{1/2} is the sum of the singular values of L_aᵀ L_b. It needs no square root of a
    non-symmetric matrix and holds for covariances of any rank.

    Args:
        a: Moments of features; or images [N, ...] that `features` is applied to; or, with the
            default `features`, a matrix of features [N, D].
        b: The same for the other set.
        features: Maps images [B, ...] to features [B, D]. Moments are taken as they are.

    Returns:
        The distance, in squared units of the features; zero only for equal moments.

    Raises:
        ValueError: the two differ in dimension, a set has fewer than two elements, or the moments
            are not finite.

    Source:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, "GANs Trained by a Two Time-Scale
        Update Rule Converge to a Local Nash Equilibrium", 2017, eq. (6); Dowson and Landau, "The
        Fréchet Distance between Multivariate Normal Distributions", 1982.

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(x, x + 0.5), 6)
        1.0
    """
    mean_a, covariance_a, _ = _as_moments(a, features)
    mean_b, covariance_b, _ = _as_moments(b, features)
    if mean_a.shape != mean_b.shape:
        raise ValueError(
            f"frechet_distance: features of dimension {len(mean_a)} and {len(mean_b)}, expected "
            "the same dimension"
        )
    mean_b, covariance_b = mean_b.to(mean_a.device), covariance_b.to(mean_a.device)
    cross = torch.linalg.svdvals(_factor(covariance_a).T @ _factor(covariance_b)).sum()
    distance = (mean_a - mean_b).square().sum()
    distance = distance + covariance_a.trace() + covariance_b.trace() - 2 * cross
    # Of equal moments the terms cancel, and rounding may leave a negative rest.
    return float(distance.clamp(min=0))


def _as_moments(
    x: GaussianMoments | StreamingMoments | Tensor, features: Features
) -> GaussianMoments:
    if isinstance(x, StreamingMoments):
        x = x.result()
    elif isinstance(x, Tensor):
        x = gaussian_moments(x, features)
    dim = x.mean.shape[-1] if x.mean.ndim else 0
    if x.mean.shape != (dim,) or x.covariance.shape != (dim, dim):
        raise ValueError(
            f"frechet_distance: mean of shape {tuple(x.mean.shape)} and covariance of shape "
            f"{tuple(x.covariance.shape)}, expected [D] and [D, D]"
        )
    if not (x.mean.isfinite().all() and x.covariance.isfinite().all()):
        raise ValueError("frechet_distance: the moments hold NaN or infinite values")
    return GaussianMoments(x.mean.double(), x.covariance.double(), x.num_samples)


def _factor(covariance: Tensor) -> Tensor:
    """Return L with L Lᵀ = Σ."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    # The zero eigenvalues of a rank-deficient Σ come out as rounding of either sign, whose square
    # root would be felt: √1e-16 = 1e-8. Below the rounding of the largest they are taken as zero.
    cutoff = eigenvalues[-1] * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    eigenvalues = torch.where(eigenvalues > cutoff, eigenvalues, 0.0)
    factor: Tensor = eigenvectors * eigenvalues.sqrt()
    return factor
