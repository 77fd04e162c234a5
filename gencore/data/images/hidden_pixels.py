"""Masks of the pixels that a model of images has to fill in."""

import math

import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.data.names import MASK_NAMES, MaskName
from gencore.ops import random_key, split_key
from gencore.ops.random import philox_uniform

__all__ = ["hidden_pixels"]

_DOODLE_FRACTION, _PEPPER_FRACTION = 0.25, 0.6
# A doodle is a curve of so many waves along each axis, drawn by so many points.
_WAVES, _POINTS = 3, 96


def hidden_pixels(
    name: MaskName,
    num: int,
    size: tuple[int, int],
    *,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Which pixels of each image are hidden, by one of three kinds of masks.

    - "square": a square of half of the shorter side, at a random place;
    - "doodle": a quarter of the pixels, those nearest to a random closed curve;
    - "pepper": each pixel by itself, with probability 0.6.

    Args:
        name: the kind.
        num: number of images N.
        size: (H, W).
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset].
        first: number of images before these. With one key, the masks of a part of a batch are
            those of the whole.

    Returns:
        bool [N, 1, H, W], True where a pixel is hidden.

    Raises:
        ValueError: for another name, or sides below 2.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.2.3.3: squares of 32 of 64 pixels, doodles of about a
        quarter of the pixels, salt and pepper of about 60 %. How its doodles are drawn is not said.

    Example:
        >>> masks = {name: hidden_pixels(name, 100, (32, 32)) for name in MASK_NAMES}
        >>> [round(mask.float().mean().item(), 1) for mask in masks.values()]
        [0.2, 0.2, 0.6]
    """
    check_choice("hidden_pixels", "name", name, MASK_NAMES)
    height, width = size
    if min(size) < 2:
        raise ValueError(f"hidden_pixels: size is {height}x{width}; expected sides of 2 or more")
    key = random_key(generator) if key is None else key
    if name == "pepper":
        hidden = _uniform((num, 1, height, width), key, first) < _PEPPER_FRACTION
    elif name == "square":
        side = min(size) // 2
        place = _uniform((num, 2), key, first)
        rooms = torch.tensor([height - side + 1, width - side + 1], device=key.device)
        top, left = (place * rooms).long().unbind(1)
        rows, columns = (torch.arange(length, device=key.device) for length in size)
        in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
        in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)
        hidden = (in_rows[:, :, None] & in_columns[:, None])[:, None]
    else:
        hidden = torch.cat([
            _doodles(min(256, num - start), size, key, first + start)
            for start in range(0, num, 256)
        ]) if num else torch.zeros(0, 1, *size, dtype=torch.bool, device=key.device)  # fmt: skip
    return hidden


def _doodles(num: int, size: tuple[int, int], key: Tensor, first: int) -> Tensor:
    """The pixels nearest to curves whose coordinates are sums of waves of random phases."""
    phase_key, height_key = split_key(key, 2)
    phases = 2 * math.pi * _uniform((num, 1, 2, _WAVES), phase_key, first)
    # Slow waves are the higher ones, or the curve would be a tangle.
    frequency = torch.arange(1, _WAVES + 1, device=key.device)
    heights = (0.4 + 0.6 * _uniform((num, 1, 2, _WAVES), height_key, first)) / frequency
    time = 2 * math.pi * torch.arange(_POINTS, device=key.device)[:, None, None] / _POINTS
    curve = (heights * torch.sin(frequency * time + phases)).sum(-1)  # [N, points, 2]
    reach = curve.abs().amax((1, 2), keepdim=True)
    lengths = torch.tensor(size, device=key.device)
    curve = 0.5 * (lengths - 1) + 0.45 * lengths * curve / reach
    grid = torch.cartesian_prod(*(torch.arange(float(side), device=key.device) for side in size))
    distance = torch.cdist(grid.expand(num, -1, -1), curve).amin(2)
    count = round(_DOODLE_FRACTION * len(grid))
    nearest = distance.topk(count, largest=False).indices
    hidden = torch.zeros(num, len(grid), dtype=torch.bool, device=key.device)
    return hidden.scatter_(1, nearest, True).view(num, 1, *size)


def _uniform(shape: tuple[int, ...], key: Tensor, first: int) -> Tensor:
    return philox_uniform(shape, key, first_element=first * math.prod(shape[1:]))
