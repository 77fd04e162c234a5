"""Variances of the two gradient estimators of a Gaussian expectation (Yan 2022, §2.1.5)."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["EstimatorVariances", "estimator_variances"]


class EstimatorVariances(NamedTuple):
    """Exact variances of the estimates from one draw, [k] each."""

    score_mean: Tensor
    """Of the score-function gradient (REINFORCE) by the mean, T_μ."""
    score_variance: Tensor
    """Of that by the variance."""
    reparametrised_mean: Tensor
    """Of the reparametrised gradient by the mean, S_μ."""
    reparametrised_variance: Tensor
    """Of that by the variance, likewise."""


def estimator_variances(
    value: Tensor, gradient: Tensor, hessian: Tensor, std: Tensor
) -> EstimatorVariances:
    r"""Variances of the score-function and reparametrised gradients of E f(z), z ~ N(μ, diag σ²):

    .. math::

        f(z) &= C + W^\top (z - \mu) + \tfrac12 (z - \mu)^\top H (z - \mu) \\
        T_{\mu_i} &= f \, \frac{z_i - \mu_i}{\sigma_i^2} , \qquad
        S_{\mu_i} = \frac{\partial f}{\partial z_i} \\
        T_{\sigma_i} &= f \Big[ \frac{(z_i - \mu_i)^2}{2 \sigma_i^4} - \frac1{2 \sigma_i^2} \Big] ,
        \qquad S_{\sigma_i} = \frac{\partial f}{\partial z_i} \frac{\varepsilon_i}{2 \sigma_i}

    Always Var T_μ ≥ 3/2 Var S_μ and Var T_σ ≥ 3 Var S_σ.

    Args:
        value: C, [].
        gradient: W, [k].
        hessian: H, symmetric [k, k].
        std: σ > 0, [k].

    Raises:
        ValueError: the shapes do not fit.

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.1.5; the
        moments of f are those of Stein's identity.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> estimator_variances(torch.tensor(-1.5), 0 * one, torch.ones(1, 1), one).score_mean
        tensor([1.5000])
    """
    k = len(std) if std.ndim == 1 else -1
    if value.ndim or gradient.shape != (k,) or hessian.shape != (k, k):
        raise ValueError(
            "estimator_variances: expected value [], gradient [k], hessian [k, k] and std [k], got "
            f"{list(value.shape)}, {list(gradient.shape)}, {list(hessian.shape)}, {list(std.shape)}"
        )
    a, b = std * gradient, std[:, None] * hessian * std
    diagonal = b.diagonal()
    mean = value + diagonal.sum() / 2
    square = mean**2 + a.square().sum() + b.square().sum() / 2
    slope = a**2 + b.square().sum(1)
    curvature = 2 * slope + 2 * mean * diagonal
    fourth = 6 * diagonal**2 + 4 * curvature + 2 * square
    return EstimatorVariances(
        (square + curvature) / std**2 - gradient**2,
        fourth / (4 * std**4) - hessian.diagonal() ** 2 / 4,
        b.square().sum(1) / std**2,
        (slope + diagonal**2) / (4 * std**4),
    )
