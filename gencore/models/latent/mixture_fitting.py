"""Expectation maximisation of mixtures of Gaussians."""

import math
import warnings

import torch
from torch import Tensor

from gencore.extras import training_extra
from gencore.models.latent.names import MixtureCovariance

__all__ = ["component_log_prob", "expectation_maximisation"]

Parameters = tuple[Tensor, Tensor, Tensor]
"""log πₖ [K], μₖ [K, L] and the Cholesky factors [K or 1, L, L] or standard deviations
[K or 1, L or 1]."""


_CACHED = 2**15  # numbers


def component_log_prob(z: Tensor, log_weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """log πₖ + log N(z; μₖ, Σₖ) of vectors [N, L], [N, K].

    Args:
        z: vectors.
        log_weights: log πₖ, [K].
        means: μₖ, [K, L].
        factors: Cholesky factors [K or 1, L, L], or standard deviations [K or 1, L or 1].
    """
    residual = z - means[:, None]
    if factors.dim() == 3:
        # All vectors are right-hand sides of one system a component, in the order LAPACK wants.
        scaled = torch.linalg.solve_triangular(factors, residual.mT, upper=False).mT
        scales = factors.diagonal(dim1=1, dim2=2)
    else:
        scaled, scales = residual / factors[:, None], factors
    log_det = scales.log().expand(len(scales), z.shape[1]).sum(1)
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    return log_weights - log_det - constant - 0.5 * scaled.square().sum(2).T


def expectation_maximisation(
    z: Tensor,
    components: int,
    covariance: MixtureCovariance,
    min_variance: float,
    *,
    max_steps: int,
    tolerance: float,
    seed: int,
) -> Parameters:
    """The parameters of a mixture of float64 vectors [N, L], from the clusters of k-means.

    Args:
        z: vectors.
        components: K.
        covariance: of the components, as of `GaussianMixture`.
        min_variance: the least of their variances in any direction.
        max_steps: at most so many.
        tolerance: it stops where a step gains less, in nats a vector.
        seed: of k-means.
    """
    labels, means = _clusters(z, components, seed)
    responsibilities = torch.nn.functional.one_hot(labels, components).to(z.dtype)
    parameters = _maximise(z, responsibilities, means, covariance, min_variance)
    reached = -math.inf
    # Their differences from all the means stay in the cache.
    parts = z.split(max(1, _CACHED // (components * z.shape[1])))
    for _ in range(max_steps):
        each = torch.cat([component_log_prob(part, *parameters) for part in parts])
        before, reached = reached, each.logsumexp(1).mean().item()
        parameters = _maximise(z, each.softmax(1), parameters[1], covariance, min_variance)
        if reached - before < tolerance:
            break
    return parameters


def _clusters(z: Tensor, components: int, seed: int) -> tuple[Tensor, Tensor]:
    """The cluster of each vector and the centres of all, by k-means."""
    with training_extra("GaussianMixture.fit"):
        from numpy.random import RandomState
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

    # The random numbers of scikit-learn's own mixture, so that both start alike.
    means = KMeans(components, n_init=1, random_state=RandomState(seed % 2**32))
    with warnings.catch_warnings():
        # Of fewer different vectors than components: some stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = means.fit(z.numpy()).labels_
    return torch.from_numpy(labels).long(), torch.from_numpy(means.cluster_centers_).to(z)


def _maximise(
    z: Tensor,
    responsibilities: Tensor,
    old_means: Tensor,
    covariance: MixtureCovariance,
    min_variance: float,
) -> Parameters:
    """The parameters of the largest expected likelihood, none of whose variances is below the
    least: of all matrices Σ ⪰ εI the best is the scatter with its eigenvalues raised to ε."""
    epsilon = torch.finfo(z.dtype).eps
    mass = responsibilities.sum(0)
    is_empty = mass <= epsilon
    mass = mass.clamp(min=epsilon)[:, None]
    means = torch.where(is_empty[:, None], old_means, responsibilities.T @ z / mass)
    log_weights = (mass[:, 0] / mass.sum()).log()

    # One component at a time stays in the cache.
    parts = zip(means, responsibilities.T[..., None], strict=True)
    residuals = ((z - mean, weight) for mean, weight in parts)
    if covariance in ("full", "tied"):
        scatter = torch.stack([r.T @ (weight * r) for r, weight in residuals])
        if covariance == "tied":
            scatter, mass = scatter.sum(0, keepdim=True), mass.sum(0, keepdim=True)
        return log_weights, means, _factors(scatter / mass[..., None], min_variance)
    squares = torch.stack([(weight.T @ r.square()).squeeze(0) for r, weight in residuals])
    if covariance != "diagonal":
        squares = squares.mean(1, keepdim=True)
    if covariance == "tied_spherical":
        squares, mass = squares.sum(0, keepdim=True), mass.sum(0, keepdim=True)
    return log_weights, means, (squares / mass).clamp(min=min_variance).sqrt()


def _factors(covariances: Tensor, min_variance: float) -> Tensor:
    """Cholesky factors of matrices [K, L, L] after their eigenvalues are raised to the least."""
    values, vectors = torch.linalg.eigh(covariances)
    roots = vectors * values.clamp(min=min_variance).sqrt().unsqueeze(1)
    # Of a root A = (QR)ᵀ of AAᵀ the triangle Rᵀ is another; it exists however small the least is.
    upper = torch.linalg.qr(roots.mT).R
    return (upper * upper.diagonal(dim1=1, dim2=2).sign().unsqueeze(2)).mT
