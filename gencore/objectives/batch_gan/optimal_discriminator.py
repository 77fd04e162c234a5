"""The best discriminator of mixed batches whose two densities are known."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.objectives.batch_gan.real_counts import beta_count_probabilities, log_binomials

__all__ = ["MixedBatchDensities", "mixed_batch_log_probs", "optimal_batch_discriminator"]


class MixedBatchDensities(NamedTuple):
    """Logarithms of the two densities of batches that the discriminator compares."""

    balanced: Tensor
    """log P(y) of mixed batches, [N]."""
    unbalanced: Tensor
    """log Q(y), [N], of mixed batches that are drawn again with weights #β/B: more data."""


def mixed_batch_log_probs(
    real_log_prob: Tensor, fake_log_prob: Tensor, count_probabilities: Tensor | None = None
) -> MixedBatchDensities:
    r"""The densities of a mixed batch and of one with more data, from those of its points.

    .. math:: P(y) = \sum_{k=0}^B \frac{P(\#\beta = k)}{\binom Bk} c_k(y), \qquad
              Q(y) = \frac{1}{\bar u} \sum_{k=0}^B \frac kB \frac{P(\#\beta = k)}{\binom Bk} c_k(y)

    with ū = E[#β/B], and c_k the sum of ∏ p_1(y_i)^{β_i} p_2(y_i)^{1−β_i} over the masks β with k
    ones. For a uniform law of #β they are p_balanced and p_unbalanced of (4.7). In the place of
    the 2^B masks stands a recursion over the points, of O(B²) in the space of logarithms,

    .. math:: c_k \leftarrow c_{k-1} p_1(y_i) + c_k p_2(y_i).

    Args:
        real_log_prob: log p_1 of the points of N batches under the law of data, [N, B].
        fake_log_prob: log p_2 under that of samples, like it.
        count_probabilities: P(#β = k), [B + 1]; uniform by default. They are those of
            :func:`beta_count_probabilities` for a Beta(a, b) prior, and of
            :func:`smoothing_count_probabilities` for batch smoothing.

    Returns:
        Both logarithms; their gradients are finite where both densities are positive.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (4.6), (4.7),
        §4.7.

    Example:
        >>> import torch
        >>> real, fake = torch.tensor([[0.8]]).log(), torch.tensor([[0.2]]).log()
        >>> balanced, unbalanced = mixed_batch_log_probs(real, fake)  # of one point
        >>> balanced.exp(), unbalanced.exp()
        (tensor([0.5000]), tensor([0.8000]))
    """
    owner = "mixed_batch_log_probs"
    laws = _compare(owner, real_log_prob, fake_log_prob, count_probabilities)
    largest = torch.maximum(real_log_prob, fake_log_prob).sum(1)
    return MixedBatchDensities(
        largest + laws.log_mixed, largest + laws.log_weighted - laws.mean_proportion.log()
    )


def optimal_batch_discriminator(
    real_log_prob: Tensor, fake_log_prob: Tensor, count_probabilities: Tensor | None = None
) -> Tensor:
    r"""The expected proportion of data in a batch y, which is the best output of a discriminator.

    .. math:: D^*(y) = \mathbb E\left[\frac{\#\beta}{B} \,\middle|\, y\right]
              = \bar u \frac{Q(y)}{P(y)} \qquad (4.20), (4.26)

    It is ½ p_unbalanced/p_balanced (4.6) for a uniform law of #β, p_1/(p_1 + p_2) for one point,
    and ū, which is a/(a + b) for a Beta(a, b) prior, where p_1 = p_2.

    Args:
        real_log_prob: as for `mixed_batch_log_probs`, like the next two.
        fake_log_prob: as there.
        count_probabilities: as there.

    Returns:
        D*, [N].

    Raises:
        ValueError: as there.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.2, §4.7.

    Example:
        >>> import torch
        >>> real, fake = torch.tensor([[0.6, 0.3]]).log(), torch.tensor([[0.2, 0.1]]).log()
        >>> optimal_batch_discriminator(real, fake)  # c ∝ (1, 6, 9): (½·3 + 9)/(1 + 3 + 9)
        tensor([0.8077])
    """
    owner = "optimal_batch_discriminator"
    laws = _compare(owner, real_log_prob, fake_log_prob, count_probabilities)
    return (laws.log_weighted - laws.log_mixed).exp()


class _Laws(NamedTuple):
    """P(y) and ū Q(y) over ∏ max(p_1, p_2)(y_i), which leaves numbers of moderate size."""

    log_mixed: Tensor
    log_weighted: Tensor
    mean_proportion: Tensor
    """ū."""


def _compare(owner: str, real: Tensor, fake: Tensor, probabilities: Tensor | None) -> _Laws:
    if real.shape != fake.shape or real.dim() != 2 or not real.shape[1]:
        raise ValueError(
            f"{owner}: real_log_prob and fake_log_prob have shapes {list(real.shape)} and "
            f"{list(fake.shape)}; expected [N, B] twice, with B of 1 or more"
        )
    size = real.shape[1]
    if probabilities is None:
        probabilities = beta_count_probabilities(size)
    if probabilities.shape != (size + 1,):
        raise ValueError(
            f"{owner}: count_probabilities have shape {list(probabilities.shape)}; expected "
            f"[{size + 1}], for 0 to {size} data"
        )
    proportions = torch.arange(size + 1).to(real) / size
    log_binomial = log_binomials(size).to(probabilities.device)
    log_of_masks = (probabilities.double().log() - log_binomial).to(real)
    largest = torch.maximum(real, fake)
    log_terms = log_of_masks + _log_sums_over_masks(real - largest, fake - largest)
    return _Laws(
        log_terms.logsumexp(1),
        (log_terms + proportions.log()).logsumexp(1),
        (proportions * probabilities.to(real)).sum(),
    )


def _log_sums_over_masks(real: Tensor, fake: Tensor) -> Tensor:
    """log c_k, [N, B + 1]: of the sums over all masks with k = 0, …, B ones."""
    sums = real.new_zeros(len(real), 1)
    for log_p1, log_p2 in zip(real.split(1, 1), fake.split(1, 1), strict=True):
        one_more, as_many = sums + log_p1, sums + log_p2
        both = torch.logaddexp(one_more[:, :-1], as_many[:, 1:])
        sums = torch.cat([as_many[:, :1], both, one_more[:, -1:]], 1)
    return sums
