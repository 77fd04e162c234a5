"""Fully connected networks as couplings on vectors have them, forward and backward."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import mlp_network


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    widths = (32, 128, 128, 64)
    yield from _network(1024, widths, device)
    if not quick:
        yield from _network(4096, widths, device)
        yield from _network(4096, (1, 64, 64, 2), device)
        yield from _network(4096, (64, 256, 256, 128), device)


def _network(rows: int, widths: tuple[int, ...], device: torch.device) -> Iterator[Case]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    x, grad = normal(rows, widths[0]).requires_grad_(), normal(rows, widths[-1])
    weights = [(normal(o, i) / i**0.5).requires_grad_() for i, o in pairwise(widths)]
    biases = [normal(o).requires_grad_() for o in widths[1:]]

    def ours(x: Tensor, *parameters: Tensor) -> Tensor:
        return mlp_network(x, parameters[: len(weights)], parameters[len(weights) :])

    def eager() -> Tensor:
        h = x
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            h = functional.linear(h.relu_() if layer else h, weight, bias)
        return h

    inputs, products = (x, *weights, *biases), rows * sum(i * o for i, o in pairwise(widths))
    case = Case(
        "mlp-network", "mlp_network", f"{rows:,} rows, widths {'-'.join(map(str, widths))}",
        forms(lambda: ours(*inputs), eager),
    )  # fmt: skip
    return passes(
        case, ours, inputs, [grad], forward_flops=2 * products, backward_flops=4 * products
    )
