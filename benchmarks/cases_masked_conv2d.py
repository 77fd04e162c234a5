"""Masked convolutions of PixelCNN's kinds, forward and backward, beside a masked weight."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import masked_conv2d
from gencore.ops.masked_conv2d import live_taps


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    for side in (3,) if quick else (3, 5, 7):
        yield from _layer(16, 64, 64, 32, side, 1, device)
    if not quick:
        yield from _layer(16, 96, 96, 32, 3, 3, device)


def _layer(
    images: int,
    inputs: int,
    outputs: int,
    size: int,
    side: int,
    groups: int,
    device: torch.device,
) -> Iterator[Case]:
    x = torch.randn(images, inputs, size, size, device=device, requires_grad=True)
    weight = torch.randn(outputs, inputs, side, side, device=device)
    weight = (weight / (inputs * side * side) ** 0.5).requires_grad_()
    bias = torch.randn(outputs, device=device, requires_grad=True)
    live = live_taps(weight, "B", groups)
    mask = live.to(weight.dtype)

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return masked_conv2d(x, weight, bias, mask="B", channel_groups=groups)

    def eager() -> Tensor:
        return functional.conv2d(x, weight * mask, bias, padding=side // 2)

    inputs_of = x, weight, bias
    case = Case(
        "masked-conv2d", f"masked_conv2d {side}x{side}, mask B, groups {groups}",
        f"{images} x {inputs} x {size} x {size}, {outputs} out",
        forms(lambda: ours(*inputs_of), eager),
    )  # fmt: skip
    products = images * size * size * int(live.sum())
    grad = torch.randn(images, outputs, size, size, device=device)
    # A product and a sum, forward and for each of two gradients.
    yield from passes(
        case, ours, inputs_of, [grad], forward_flops=2 * products, backward_flops=4 * products
    )
