"""The inception score of a classifier's predictions on samples, and a variant without a bound."""

import torch
from torch import Tensor

__all__ = ["inception_score", "inception_score_splits", "tweaked_inception_score"]


def inception_score(logits: Tensor) -> float:
    r"""How sure and how varied a classifier's predictions on samples are.

    .. math:: \exp\Big(\frac1N \sum_n \mathrm{KL}\big(p(\cdot|x_n) \,\|\, \bar p\big)\Big),
              \qquad \bar p = \frac1N \sum_n p(\cdot|x_n)

    It lies in [1, K]: 1 if all predictions are alike, K if each is certain of one class and the
    classes are even. Report the classifier; only with the Inception network of
    :class:`gencore.metrics.InceptionFeatures` is it the published score. It grows with N.

    Args:
        logits: The classifier's unnormalised log-probabilities [N, K]; −inf for probability zero.

    Raises:
        TypeError: logits are not floating point.
        ValueError: logits are not [N, K] with N, K ≥ 1, or do not define probabilities.

    Source:
        Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen, "Improved Techniques for Training
        GANs", 2016, section 4.

    Example:
        >>> round(inception_score(1000 * torch.eye(10)), 6), inception_score(torch.zeros(5, 10))
        (10.0, 1.0)
    """
    log_p = log_probabilities("inception_score", logits)
    p = log_p.exp()
    negative_entropy = torch.special.xlogy(p, p).sum(1).mean()
    return score_of_means(p.mean(0), negative_entropy).item()


def score_of_means(mean_p: Tensor, mean_negative_entropy: Tensor) -> Tensor:
    """The score, from the means of p(·|x) and of Σ p log p over the samples."""
    marginal = torch.special.xlogy(mean_p, mean_p).sum()
    return (mean_negative_entropy - marginal).clamp(min=0).exp()


def inception_score_splits(logits: Tensor, num_splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation of the inception score over consecutive parts of the samples.

    This is how scores are published: of 50,000 samples in ten parts. A part of fewer samples has a
    lower score.

    Args:
        logits: [N, K], N ≥ 2 · num_splits.
        num_splits: Number of parts, of equal size up to one.

    Raises:
        ValueError: fewer than two parts, or parts of fewer than two samples.

    Example:
        >>> mean, std = inception_score_splits(1000 * torch.eye(10).repeat(10, 1))
        >>> round(mean, 6), std
        (10.0, 0.0)
    """
    if not 2 <= num_splits <= len(logits) // 2:
        raise ValueError(
            f"inception_score_splits: num_splits = {num_splits} of {len(logits)} samples, expected "
            "at least 2 parts of at least 2 samples"
        )
    scores = torch.tensor(
        [inception_score(part) for part in torch.tensor_split(logits, num_splits)],
        dtype=torch.float64,
    )
    return scores.mean().item(), scores.std(correction=0).item()


def tweaked_inception_score(logits: Tensor, *, min_log_prob: float | None = None) -> float:
    r"""The marginal prediction against each one: the divergence reversed, and no exponential.

    .. math:: I' = \frac1N \sum_n \mathrm{KL}\big(\bar p \,\|\, p(\cdot|x_n)\big)

    It is 0 if all predictions are alike, as of a collapsed generator. Of K even classes predicted
    with the confidence 1 − ε it is

    .. math:: -\log K - \tfrac1K \log(1 - \varepsilon)
              - \tfrac{K-1}{K} \log\tfrac{\varepsilon}{K-1},

    which has no bound: it grows as ε falls, and is infinite once a prediction gives a class that
    others predict the probability zero. So compare values of one classifier only.

    Args:
        logits: The classifier's unnormalised log-probabilities [N, K]. They are normalised in
            float64 by a log-softmax, so finite logits never give a probability of zero.
        min_log_prob: If given, log-probabilities below are raised to it, which bounds the score by
            its negative; not done by default. State it with the score.

    Raises:
        TypeError: logits are not floating point.
        ValueError: logits are not [N, K] with N, K ≥ 1, do not define probabilities, or
            `min_log_prob` is not negative.

    Source:
        Zhao, Mathieu and LeCun, "Energy-based Generative Adversarial Network", 2017, section 4.1;
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, eq. (6.62).

    Example:
        >>> p = torch.full((10, 10), 0.01 / 9, dtype=torch.float64)
        >>> round(tweaked_inception_score(p.fill_diagonal_(0.99).log()), 4)
        3.8206
    """
    if min_log_prob is not None and not min_log_prob < 0:
        raise ValueError(
            f"tweaked_inception_score: min_log_prob = {min_log_prob}, expected a negative number"
        )
    log_p = log_probabilities("tweaked_inception_score", logits)
    mean_log_p = log_p.clamp(min=min_log_prob).mean(0) if min_log_prob else log_p.mean(0)
    return tweaked_score_of_means(log_p.exp().mean(0), mean_log_p).item()


def tweaked_score_of_means(mean_p: Tensor, mean_log_p: Tensor) -> Tensor:
    """The tweaked score, from the means of p(·|x) and of log p(·|x) over the samples."""
    # A class that nothing predicts adds 0, not 0 · (−inf).
    cross = torch.where(mean_p > 0, mean_p * mean_log_p, 0.0).sum()
    return (torch.special.xlogy(mean_p, mean_p).sum() - cross).clamp(min=0)


def log_probabilities(function: str, logits: Tensor) -> Tensor:
    """Normalised log-probabilities in float64, of checked logits [N, K]."""
    if not logits.is_floating_point():
        raise TypeError(f"{function}: logits are {logits.dtype}, expected floating point")
    if logits.ndim != 2 or logits.numel() == 0:
        raise ValueError(
            f"{function}: logits have shape {tuple(logits.shape)}, expected [N, K] and not empty"
        )
    log_p = logits.double().log_softmax(1)
    if log_p.isnan().any():
        raise ValueError(f"{function}: logits hold NaN or +inf, or a row of -inf only")
    return log_p
