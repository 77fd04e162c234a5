"""Networks of Glow's couplings, forward and backward, at the sizes of levels of 32×32 images."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import conv_network

# (C, side): a level's channels, of which half go in, and its height and width.
LEVELS = ((12, 16), (24, 8), (48, 4))


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    for hidden in (32, 128):
        for channels, side in LEVELS[2:] if quick else LEVELS:
            yield from _network(64, channels, hidden, side, device)


def _network(
    images: int, channels: int, hidden: int, side: int, device: torch.device
) -> Iterator[Case]:
    sizes = ((channels // 2, hidden, 3), (hidden, hidden, 1), (hidden, channels, 3))
    x = torch.randn(images, channels // 2, side, side, device=device, requires_grad=True)
    weights = [
        (torch.randn(o, i, k, k, device=device) / (i * k * k) ** 0.5).requires_grad_()
        for i, o, k in sizes
    ]
    biases = [torch.randn(o, device=device, requires_grad=True) for _, o, _ in sizes]
    grad = torch.randn(images, channels, side, side, device=device)

    def ours(x: Tensor, *parameters: Tensor) -> Tensor:
        return conv_network(x, parameters[:3], parameters[3:])

    def eager() -> Tensor:
        h = x.contiguous(memory_format=torch.channels_last)
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            h = functional.conv2d(h.relu_() if layer else h, weight, bias, padding="same")
        return h.contiguous()

    products = images * side * side * sum(i * o * k * k for i, o, k in sizes)
    inputs = x, *weights, *biases
    case = Case(
        "conv-network", "conv_network of sides 3, 1, 3",
        f"{images} x {channels // 2} x {side} x {side}, width {hidden}",
        forms(lambda: ours(*inputs), eager),
    )  # fmt: skip
    # A product and a sum, forward and for each of two gradients.
    return passes(
        case, ours, inputs, [grad], forward_flops=2 * products, backward_flops=4 * products
    )
