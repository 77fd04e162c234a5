"""Scores that take from the likelihood what has nothing to do with the data's meaning."""

import math

from torch import Tensor

__all__ = ["complexity_score", "likelihood_ratio_score"]


def complexity_score(log_prob: Tensor, bits: Tensor) -> Tensor:
    r"""Input complexity: the code length of a model less that of a general compressor.

    .. math:: S(x) = -\log_2 p(x) - L(x)

    A simple image has a high likelihood under any model; its file is short too. The score is the
    logarithm of the ratio of the compressor's implied probability 2^{−L} to the model's: the
    higher, the less the image is like the data. Both terms are bits.

    Args:
        log_prob: log p(x) of images in nats, or a bound of it, [N]. It has to be of the levels, as
            those of pixel models and of :class:`gencore.models.LevelLikelihood` are; the density of
            a flow becomes one by the bins of its dequantisation.
        bits: L(x) of the same images, [N], such as of :func:`compressed_bits`.

    Returns:
        [N], float64, in bits.

    Raises:
        ValueError: the two are not [N] both.

    Source:
        Serrà et al., "Input complexity and out-of-distribution detection with likelihood-based
        generative models", 2020, (1). Yan, "Deep Generative Models: Design, Improvements and
        Applications", 2022, §4.2.6.

    Example:
        >>> import math, torch
        >>> from gencore.metrics import complexity_score
        >>> complexity_score(torch.tensor([-8.0 * math.log(2)]), torch.tensor([3.0]))
        tensor([5.0000], dtype=torch.float64)
    """
    _check("complexity_score", log_prob=log_prob, bits=bits)
    return -log_prob.double() / math.log(2) - bits.double()


def likelihood_ratio_score(log_prob: Tensor, background_log_prob: Tensor) -> Tensor:
    r"""The likelihood under a model of the background, less that under the model of the data.

    .. math:: S(x) = \log p_0(x) - \log p(x)

    What both models know of an image, such as the colour of its ground, cancels. The background
    model is one like the other that trains on images of which some values are replaced by noise
    (:func:`gencore.data.mutate_pixels`). The source has the opposite sign; here, as of all scores,
    the higher, the less an image is like the data.

    Args:
        log_prob: log p(x), or a bound of it, [N].
        background_log_prob: log p₀(x) of the same images, [N].

    Returns:
        [N], float64, in the unit of what was given.

    Raises:
        ValueError: the two are not [N] both.

    Source:
        Ren et al., "Likelihood Ratios for Out-of-Distribution Detection", 2019, (5). Yan, "Deep
        Generative Models: Design, Improvements and Applications", 2022, §4.2.6.

    Example:
        >>> import torch
        >>> from gencore.metrics import likelihood_ratio_score
        >>> likelihood_ratio_score(torch.tensor([-3.0]), torch.tensor([-5.0]))
        tensor([-2.], dtype=torch.float64)
    """
    _check("likelihood_ratio_score", log_prob=log_prob, background_log_prob=background_log_prob)
    return background_log_prob.double() - log_prob.double()


def _check(owner: str, **values: Tensor) -> None:
    first, second = values.values()
    if first.dim() != 1 or first.shape != second.shape:
        given = " and ".join(f"{name} {list(value.shape)}" for name, value in values.items())
        raise ValueError(f"{owner}: got {given}; expected [N] both")
