"""Backward warping, forward and backward, beside torch's grid_sample."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import warp


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shapes = [(16, 3, 64, 64), (16, 64, 32, 32)]
    for shape in shapes[:1] if quick else shapes:
        yield from _training(shape, device)


def _grid_sample(x: Tensor, flow: Tensor) -> Tensor:
    """The same function, as a user writes it: the grid is built in each call."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device)[:, None] + flow[:, 1]
    columns = torch.arange(width, device=x.device) + flow[:, 0]
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
    return functional.grid_sample(x, grid, align_corners=True)


def _training(shape: tuple[int, ...], device: torch.device) -> Iterator[Case]:
    images, channels, height, width = shape
    x = torch.randn(shape, device=device, requires_grad=True)
    flow = (2 * torch.randn(images, 2, height, width, device=device)).requires_grad_()
    case = Case(
        "warp", "warp", f"{images}x{channels}x{height}x{width}",
        forms(lambda: warp(x, flow), lambda: _grid_sample(x, flow)),
        elements=x.numel(),
        headline=True,
    )  # fmt: skip
    # Read x and the flow, write y; read both and y's gradient, write their gradients.
    image, field = 4 * x.numel(), 4 * flow.numel()
    yield from passes(
        case, warp, [x, flow], [torch.randn_like(x)],
        forward_bytes=2 * image + field, backward_bytes=3 * image + 2 * field,
    )  # fmt: skip
