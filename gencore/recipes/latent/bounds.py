"""Bounds of the likelihood of images, summed over them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gencore.models.latent.importance_bounds import ImportanceBounds

__all__ = ["bound_sums"]

_CHUNK = 50


@torch.no_grad()
def bound_sums(
    model: ImportanceBounds,
    x: Tensor,
    numbers: Iterable[int],
    *,
    key: Tensor,
    first: int,
    chunk_size: int = _CHUNK,
    **posterior: Any,
) -> dict[int, float]:
    """The sums of the importance-weighted bounds of log p(x), in nats, by their numbers of latents.

    Args:
        model: in evaluation mode.
        x: images in [0, 1].
        numbers: of latents of an image.
        key, first, posterior: as for `log_prob_bound`.
        chunk_size: latents of an image that are decoded at once, which bounds the memory.
    """
    return {
        num: model.log_prob_bound(
            x, num, chunk_size=chunk_size, key=key, first=first, **posterior
        ).double().sum().item()
        for num in numbers
    }  # fmt: skip
