"""Which pixels of a film are not seen: a region of every frame, or whole frames."""

import numpy as np
import torch
from torch import Tensor

from gencore.ops._support.checks import finite

__all__ = ["copy_previous", "hide_frames", "hide_regions"]


def hide_regions(shape: tuple[int, ...], size: float, *, seed: int) -> Tensor:
    """Where films are visible that have a square hidden at a random place of every frame.

    Args:
        shape: [N, T, C, H, W] of the films.
        size: side of the square as a part of H and of W, from 0 to 1.
        seed: of the places. Those of the first films do not depend on how many there are.

    Returns:
        bool [N, T, 1, H, W].

    Example:
        >>> from gencore.recipes.video.hidden_pixels import hide_regions
        >>> (~hide_regions((2, 5, 3, 10, 10), 0.4, seed=0)).sum((2, 3, 4)).unique()
        tensor([16])
    """
    _check("hide_regions", size)
    num, length, _, *sides = shape
    mask = torch.ones(num, length, 1, *sides, dtype=torch.bool)
    edges = [round(size * side) for side in sides]
    for film in range(num):
        random = np.random.default_rng([seed, film])
        for frame in range(length):
            row, column = (
                int(random.integers(side - edge + 1))
                for side, edge in zip(sides, edges, strict=True)
            )
            mask[film, frame, :, row : row + edges[0], column : column + edges[1]] = False
    return mask


def hide_frames(shape: tuple[int, ...], part: float, *, seed: int) -> Tensor:
    """Where films are visible that have random frames missing, but never the first.

    Args:
        shape: [N, T, C, H, W] of the films.
        part: of the frames that are missing, from 0 to 1.
        seed: of the choice, as of `hide_regions`.

    Returns:
        bool [N, T, 1, 1, 1].

    Example:
        >>> from gencore.recipes.video.hidden_pixels import hide_frames
        >>> (~hide_frames((2, 10, 3, 8, 8), 0.5, seed=0)).sum(1).flatten()
        tensor([5, 5])
    """
    _check("hide_frames", part)
    num, length = shape[:2]
    mask = torch.ones(num, length, 1, 1, 1, dtype=torch.bool)
    missing = min(round(part * length), length - 1)
    for film in range(num):
        order = np.random.default_rng([seed, film]).permutation(length - 1)[:missing]
        mask[film, torch.from_numpy(order) + 1] = False
    return mask


def copy_previous(frames: Tensor, mask: Tensor) -> Tensor:
    """Films whose hidden pixels are as they were last seen, or, before that, will first be seen;
    the mean of what is visible where they never are.

    Args:
        frames: [N, T, ...].
        mask: where they are visible, of a shape that broadcasts to that of the frames.
    """
    seen = mask.expand_as(frames)
    time = torch.arange(frames.shape[1], device=frames.device)
    time = time.view(1, -1, *(1,) * (frames.dim() - 2)).expand_as(frames)
    last = torch.where(seen, time, -1).cummax(1).values
    first = torch.where(seen, time, frames.shape[1]).amin(1, keepdim=True).expand_as(last)
    source = torch.where(last >= 0, last, first.clamp(max=frames.shape[1] - 1))
    copied = torch.where(seen, frames, 0).gather(1, source)
    mean = torch.where(seen, frames, 0).sum() / seen.sum().clamp(min=1)
    return torch.where(seen.any(1, keepdim=True), copied, mean)


def _check(owner: str, part: float) -> None:
    if not 0 <= finite(owner, "the hidden part", part) <= 1:
        raise ValueError(f"{owner}: the hidden part is {part}; expected 0 to 1")
