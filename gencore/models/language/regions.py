"""What a captioner attends to: descriptors of image regions, and where the regions are."""

import torch
from torch import Tensor

from gencore.sizes import check_positive

__all__ = ["box_regions", "cell_boxes", "grid_regions", "window_boxes"]


def grid_regions(activations: Tensor) -> Tensor:
    """The positions of a feature map as regions, row by row: [N, C, H, W] → [N, H·W, C].

    Of `gencore.nn.SpatialTransformerRegions` the descriptors are taken alike.

    Raises:
        ValueError: the map is not [N, C, H, W].

    Source:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.3,
        activation grid.

    Example:
        >>> grid_regions(torch.zeros(5, 8, 6, 7)).shape
        torch.Size([5, 42, 8])
    """
    _check_map("grid_regions", activations)
    return activations.flatten(2).mT


def cell_boxes(height: int, width: int) -> Tensor:
    """The boxes of the cells of a grid, row by row, [height·width, 4]: left, top, right and bottom
    edge as parts of the image's sides.

    Example:
        >>> cell_boxes(1, 2)
        tensor([[0.0000, 0.0000, 0.5000, 1.0000],
                [0.5000, 0.0000, 1.0000, 1.0000]])
    """
    check_positive("cell_boxes", height=height, width=width)
    top, left = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corners = torch.stack([left, top, left + 1, top + 1], -1).flatten(0, 1)
    return corners / torch.tensor([width, height, width, height])


def window_boxes(height: int, width: int, sizes: tuple[int, ...]) -> Tensor:
    """All square windows of a grid with one of these sides in cells, [R, 4] as of `cell_boxes`:
    proposals that need no network.

    Raises:
        ValueError: a size is below 1 or does not fit in the grid.

    Example:
        >>> len(window_boxes(4, 4, (2, 3)))
        13
    """
    check_positive("window_boxes", height=height, width=width)
    if not sizes or min(sizes) < 1 or max(sizes) > min(height, width):
        raise ValueError(
            f"window_boxes: sizes is {sizes}; expected sides from 1 to {min(height, width)} cells"
        )
    windows = []
    for size in sizes:
        first = cell_boxes(height, width).view(height, width, 4)
        across, down = width - size + 1, height - size + 1
        windows.append(torch.cat([first[:down, :across, :2], first[size - 1 :, size - 1 :, 2:]], 2))
    return torch.cat([window.flatten(0, 1) for window in windows])


def box_regions(activations: Tensor, boxes: Tensor) -> Tensor:
    """The greatest activations in each box of an image, [N, R, C]: descriptors of proposals.

    A box has the cells that it overlaps, and at least the cell with its centre.

    Args:
        activations: [N, C, H, W].
        boxes: [N, R, 4], or [R, 4] for all images: left, top, right and bottom edge as parts of
            the image's sides.

    Raises:
        ValueError: the shapes do not fit, or a box does not lie in the image or has its edges the
            wrong way round.

    Source:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.3, object
        proposals pooled to one cell.

    Example:
        >>> box_regions(torch.arange(6.0).view(1, 1, 2, 3), torch.tensor([[0, 0, 0.6, 0.5]]))
        tensor([[[1.]]])
    """
    _check_map("box_regions", activations)
    boxes = boxes.expand(len(activations), -1, -1) if boxes.ndim == 2 else boxes
    if boxes.ndim != 3 or boxes.shape[2] != 4 or len(boxes) != len(activations):
        raise ValueError(
            f"box_regions: boxes have shape {list(boxes.shape)}; expected [R, 4] or "
            f"[{len(activations)}, R, 4]"
        )
    if ((boxes < 0) | (boxes > 1)).any() or (boxes[..., :2] > boxes[..., 2:]).any():
        raise ValueError(
            "box_regions: a box does not lie in the image; expected 0 <= left <= right <= 1 and "
            "0 <= top <= bottom <= 1"
        )
    height, width = activations.shape[2:]
    rows, columns = (
        _covered(boxes[..., axis], boxes[..., axis + 2], number)
        for axis, number in ((1, height), (0, width))
    )
    inside = rows[..., None] & columns[..., None, :]  # [N, R, H, W]
    # One box of all images at a time: the map of every box at once would be R times as large.
    pooled = [
        activations.masked_fill(~inside[:, region, None], -torch.inf).amax((2, 3))
        for region in range(boxes.shape[1])
    ]
    if not pooled:
        return activations.new_zeros(len(activations), 0, activations.shape[1])
    return torch.stack(pooled, 1)


def _covered(low: Tensor, high: Tensor, number: int) -> Tensor:
    """Which of the cells of [0, 1] the intervals [...] overlap, bool [..., number]."""
    edges = torch.arange(number + 1, device=low.device, dtype=low.dtype) / number
    overlap = (low[..., None] < edges[1:]) & (high[..., None] > edges[:-1])
    centre = ((low + high) / 2 * number).floor().clamp(max=number - 1)
    return overlap | (torch.arange(number, device=low.device) == centre[..., None])


def _check_map(function: str, activations: Tensor) -> None:
    if activations.ndim != 4 or 0 in activations.shape[1:]:
        raise ValueError(
            f"{function}: activations have shape {list(activations.shape)}; expected [N, C, H, W]"
        )
