r"""Gaussian densities of 8-bit images, in bits per dimension, that a likelihood model has to beat.

The levels x in 0…255 are dequantised uniformly, y = x + u with u ~ U[0, 1)^D, as flows are trained
and measured. Of a Gaussian N(m, Σ) over y the expectation over u is exact:

.. math:: \mathbb{E}_u[-\log \mathcal{N}(x + u; m, \Sigma)] = \tfrac12\log\det(2\pi\Sigma)
          + \tfrac12 (x + \tfrac12 - m)^\top \Sigma^{-1} (x + \tfrac12 - m)
          + \tfrac{1}{24}\operatorname{tr}\Sigma^{-1}

and so are the moments of y: those of x, shifted by ½, and 1/12 more variance in every dimension.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["full_gaussian_bits", "independent_gaussian_bits"]

_NOISE_VARIANCE = 1 / 12

# Squared levels: standard deviations from a twentieth of a level to 64 of the 256.
_RIDGES = tuple(2.0**power for power in range(-9, 13))


def independent_gaussian_bits(train: Tensor, test: Tensor) -> float:
    """Bits per dimension of test images under the maximum-likelihood Gaussian of every pixel.

    A pixel that never changes in the training images keeps the noise's variance, 1/12.

    Args:
        train: uint8 [N, ...] with N ≥ 1.
        test: uint8 [M, ...] of the same shape but for M ≥ 1.

    Returns:
        −log₂ p(test) / D, averaged over the images and, exactly, over the dequantisation noise.

    Raises:
        TypeError: images are not uint8.
        ValueError: a set is empty, or the shapes do not fit each other.

    Example:
        >>> images = torch.randint(256, (500, 1, 4, 4), dtype=torch.uint8)
        >>> 8.2 < independent_gaussian_bits(images, images) < 8.3
        True
    """
    fitted, held_out = _levels("independent_gaussian_bits", train, test)
    variance = fitted.var(0, correction=0) + _NOISE_VARIANCE
    return _bits(held_out - fitted.mean(0), variance)


def full_gaussian_bits(train: Tensor, test: Tensor, ridges: Sequence[float] = _RIDGES) -> float:
    """Bits per dimension of test images under a Gaussian with all covariances.

    The covariance is that of maximum likelihood plus λ on the diagonal, without which it is
    singular, or follows the training images too closely, as soon as these are few. Every fifth
    training image is held out to choose λ; then all are fitted.

    Args:
        train: uint8 [N, ...] with N ≥ 2.
        test: uint8 [M, ...] of the same shape but for M ≥ 1.
        ridges: candidates for λ, in squared levels; by default 2⁻⁹, 2⁻⁸, …, 2¹².

    Returns:
        −log₂ p(test) / D, averaged over the images and, exactly, over the dequantisation noise. It
        takes O(D³) time and O(D²) memory: tens of seconds for 3×32×32.

    Raises:
        TypeError: images are not uint8.
        ValueError: a set is too small, the shapes do not fit each other, or `ridges` is empty or
            holds a negative number.

    Example:
        >>> images = torch.randint(256, (500, 1, 1, 1), dtype=torch.uint8).expand(-1, 1, 4, 4)
        >>> full_gaussian_bits(images, images) < 1
        True
    """
    fitted, held_out = _levels("full_gaussian_bits", train, test)
    if len(fitted) < 2:
        raise ValueError("full_gaussian_bits: train holds 1 image, expected at least 2")
    if len(ridges) == 0 or not all(ridge >= 0 for ridge in ridges):
        raise ValueError(f"full_gaussian_bits: ridges are {ridges}, expected numbers from 0")
    ridge = ridges[0]
    if len(ridges) > 1:
        is_held_out = torch.arange(len(fitted)) % 5 == 1
        mean, axes, variance = _principal_axes(fitted[~is_held_out])
        along = (fitted[is_held_out] - mean) @ axes
        ridge = min(ridges, key=lambda ridge: _bits(along, variance + ridge))
    mean, axes, variance = _principal_axes(fitted)
    return _bits((held_out - mean) @ axes, variance + ridge)


def _levels(function: str, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets as float64 [N, D]."""
    for name, images in (("train", train), ("test", test)):
        if images.dtype != torch.uint8:
            raise TypeError(f"{function}: {name} is {images.dtype}, expected torch.uint8")
        if images.ndim < 2 or images.numel() == 0:
            raise ValueError(
                f"{function}: {name} has shape {list(images.shape)}, expected [N, ...], not empty"
            )
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"{function}: test images have shape {list(test.shape[1:])}, expected "
            f"{list(train.shape[1:])} as in train"
        )
    return train.flatten(1).double(), test.flatten(1).double()


def _principal_axes(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], less the noise's ½, of dequantised levels, the axes [D, D] along which they are
    uncorrelated, as columns, and their variances [D] along these."""
    covariance = levels.T.cov(correction=0).reshape(levels.shape[1], -1)
    variance, axes = torch.linalg.eigh(covariance)
    # Rounding leaves some of the variances that are 0 below it.
    return levels.mean(0), axes, variance.clamp(min=0) + _NOISE_VARIANCE


def _bits(centred: Tensor, variance: Tensor) -> float:
    """Bits per dimension of levels [M, D] less the mean, along axes where the Gaussian has these
    variances [D]; on every axis of unit length the noise adds its variance to the squares."""
    squares = centred.square().mean(0) + _NOISE_VARIANCE
    nats = 0.5 * ((2 * math.pi * variance).log() + squares / variance)
    return nats.mean().item() / math.log(2)
