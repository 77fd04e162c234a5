"""Patches of clips in which something moves."""

import numpy as np
from torch import Tensor

__all__ = ["draw_motion_patch", "motion_of"]

_NUM_TRIES = 10


def motion_of(clip: Tensor) -> float:
    """How much changes from frame to frame: the root mean square of the differences of levels, as a
    part of 255, over pixels, channels and neighbouring frames.

    Args:
        clip: uint8 [T, C, H, W], T ≥ 2.

    Example:
        >>> import torch
        >>> motion_of(torch.tensor([0, 51], dtype=torch.uint8).view(2, 1, 1, 1))
        0.2
    """
    return clip.float().diff(dim=0).square().mean().sqrt().item() / 255


def draw_motion_patch(
    clip: Tensor, size: int, *, min_motion: float = 0.0, random: np.random.Generator
) -> Tensor:
    """Cut a square out of a clip at a place where enough moves.

    Places are drawn until one has at least `min_motion`, ten times at most; then the one that moves
    most is taken.

    Args:
        clip: uint8 [T, C, H, W].
        size: side of the square, at most H and W.
        min_motion: as of `motion_of`.
        random: draws the places.

    Returns:
        uint8 [T, C, size, size].

    Raises:
        ValueError: the clip is smaller.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §4.3, which takes patches "after
        making sure they show enough movement, quantified by the L² distance".

    Example:
        >>> import torch
        >>> clip = torch.randint(256, (5, 3, 40, 60), dtype=torch.uint8)
        >>> draw_motion_patch(clip, 32, min_motion=0.1, random=np.random.default_rng(0)).shape
        torch.Size([5, 3, 32, 32])
    """
    height, width = clip.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise ValueError(
            f"draw_motion_patch: size is {size}; expected 1 to {min(height, width)}, the shorter "
            f"side of frames of {height} x {width}"
        )
    best, most = clip, -1.0
    for _ in range(1 if min_motion <= 0 or height == width == size else _NUM_TRIES):
        top = int(random.integers(height - size + 1))
        left = int(random.integers(width - size + 1))
        patch = clip[..., top : top + size, left : left + size]
        if min_motion <= 0:
            return patch
        if (motion := motion_of(patch)) > most:
            best, most = patch, motion
        if most >= min_motion:
            break
    return best
