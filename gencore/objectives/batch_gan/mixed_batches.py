"""Batches that mix data and samples, for a discriminator to guess the proportion."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gencore.objectives.batch_gan.real_counts import check_smoothing
from gencore.ops import random_key
from gencore.ops._support.checks import check_count
from gencore.ops.random import philox_uniform

__all__ = ["MixedBatches", "mix_batches", "mixing_masks"]


class MixedBatches(NamedTuple):
    """N batches, each of B points of which some are data and the others samples."""

    samples: Tensor
    """m_β, [N, B, ...]; the gradient reaches data and samples."""
    proportions: Tensor
    """u = #β/B, the part of each batch that is data, [N]: what the discriminator has to guess."""


def mixing_masks(
    num_batches: int,
    batch_size: int,
    smoothing: float = 0.5,
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    r"""Which points of mixed batches are data, by batch smoothing with γ.

    .. math:: p^* \sim U([0, \gamma] \cup [1 - \gamma, 1]), \qquad
              \beta \sim \operatorname{Bernoulli}(p^*)^B

    For γ = 0 batches are pure, all data or all samples, as in (4.1). For γ = ½ each number of data
    has the same probability, 1/(B + 1). The smaller γ is, the easier is the discriminator's task.
    :func:`smoothing_count_probabilities` has the law of the number of data.

    Args:
        num_batches: N.
        batch_size: B.
        smoothing: γ, from 0 to ½.
        generator: draws the key where none is given.
        key: int64 [seed, offset], on the device of the masks.
        first: number of batches before these, of other processes.

    Returns:
        β, bool [N, B], true where a point is to be data.

    Raises:
        ValueError: for sizes below 1 or a γ out of range.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.1.

    Example:
        >>> import torch
        >>> mixing_masks(3, 4, 0.0, key=torch.tensor([5, 0]))  # pure batches
        tensor([[ True,  True,  True,  True],
                [False, False, False, False],
                [False, False, False, False]])
    """
    check_count("mixing_masks", "num_batches", num_batches, least=1)
    check_count("mixing_masks", "batch_size", batch_size, least=1)
    check_count("mixing_masks", "first", first)
    smoothing = check_smoothing("mixing_masks", smoothing)
    key = random_key(generator) if key is None else key
    size = (num_batches, 1 + batch_size)
    draws = philox_uniform(size, key, first_element=first * size[1])
    of_batch, of_point = draws.split([1, batch_size], 1)
    low, high = 2 * smoothing * of_batch, 1 - 2 * smoothing * (1 - of_batch)
    return of_point < torch.where(of_batch < 0.5, low, high)


def mix_batches(real: Tensor, fake: Tensor, masks: Tensor) -> tuple[MixedBatches, MixedBatches]:
    r"""Mixed batches, and those of the points that they leave out.

    .. math:: m_\beta(x, \tilde x) = x \odot \beta + \tilde x \odot (1 - \beta) \qquad (4.2)

    The second are m_{1−β}(x, x̃). The two together have every point once.

    Args:
        real: data x, [N, B, ...].
        fake: samples x̃, like them.
        masks: β, bool [N, B].

    Raises:
        ValueError: for samples or masks of another shape.
        TypeError: for masks that are not bool.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.3.1.

    Example:
        >>> import torch
        >>> real, fake = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-1.0, -2.0, -3.0]])
        >>> mixed, complement = mix_batches(real, fake, torch.tensor([[True, False, True]]))
        >>> mixed
        MixedBatches(samples=tensor([[ 1., -2.,  3.]]), proportions=tensor([0.6667]))
        >>> complement
        MixedBatches(samples=tensor([[-1.,  2., -3.]]), proportions=tensor([0.3333]))
    """
    if real.shape != fake.shape or real.dim() < 2:
        raise ValueError(
            f"mix_batches: real and fake have shapes {list(real.shape)} and {list(fake.shape)}; "
            "expected [N, B, ...] twice"
        )
    if masks.dtype != torch.bool:
        raise TypeError(f"mix_batches: masks are {masks.dtype}; expected torch.bool")
    if masks.shape != real.shape[:2]:
        raise ValueError(
            f"mix_batches: masks have shape {list(masks.shape)}; expected {list(real.shape[:2])}"
        )

    def mixed(chosen: Tensor) -> MixedBatches:
        each = chosen.view(*chosen.shape, *[1] * (real.dim() - 2))
        return MixedBatches(torch.where(each, real, fake), chosen.to(real.dtype).mean(1))

    return mixed(masks), mixed(~masks)
