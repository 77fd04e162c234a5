"""Backward warping, forward and backward, beside torch's grid_sample and kornia's remap."""

from collections.abc import Iterator
from importlib.util import find_spec

import torch
from harness import Call, Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import warp


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shapes = [(16, 3, 64, 64), (16, 64, 64, 64), (16, 64, 32, 32), (2, 8, 32, 32, 32)]
    for shape in shapes[:1] if quick else shapes:
        yield from _training(shape, device)


def _grid_sample(x: Tensor, flow: Tensor) -> Tensor:
    """The same function, as a user writes it: the grid is built in each call."""
    sizes = x.shape[2:]
    along = []
    for a, size in enumerate(reversed(sizes)):  # the last dimension's displacement is first
        places = torch.arange(size, device=x.device).view(-1, *[1] * a)
        along.append(2 * (places + flow[:, a]) / (size - 1) - 1)
    return functional.grid_sample(x, torch.stack(along, -1), align_corners=True)


def _training(shape: tuple[int, ...], device: torch.device) -> Iterator[Case]:
    images, _, *sizes = shape
    x = torch.randn(shape, device=device, requires_grad=True)
    flow = (2 * torch.randn(images, len(sizes), *sizes, device=device)).requires_grad_()
    contenders = forms(lambda: warp(x, flow), lambda: _grid_sample(x, flow))
    if len(sizes) == 2 and find_spec("kornia"):
        contenders["kornia"] = _kornia(x, flow)
    case = Case(
        "warp", "warp", "x".join(map(str, shape)), contenders,
        elements=x.numel(),
        headline=True,
    )  # fmt: skip
    # Read x and the flow, write y; read both and y's gradient, write their gradients.
    image, field = 4 * x.numel(), 4 * flow.numel()
    yield from passes(
        case, warp, [x, flow], [torch.randn_like(x)],
        forward_bytes=2 * image + field, backward_bytes=3 * image + 2 * field,
    )  # fmt: skip


def _kornia(x: Tensor, flow: Tensor) -> Call:
    from kornia.geometry.transform import remap

    rows, columns = (torch.arange(size, device=x.device) for size in x.shape[2:])
    return lambda: remap(x, columns + flow[:, 0], rows[:, None] + flow[:, 1], align_corners=True)
