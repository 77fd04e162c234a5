"""Fully connected networks as couplings on vectors have them, forward and backward."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from harness import Case, float64_error, forms, with_gradients
from torch import Tensor
from torch.nn import functional

from gencore.ops import mlp_network


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    widths = (32, 128, 128, 64)
    yield _network(1024, widths, device)
    if not quick:
        yield _network(4096, widths, device)
        yield _network(4096, (1, 64, 64, 2), device)
        yield _network(4096, (64, 256, 256, 128), device)


def _network(rows: int, widths: tuple[int, ...], device: torch.device) -> Case:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    x, grad = normal(rows, widths[0]).requires_grad_(), normal(rows, widths[-1])
    weights = [(normal(o, i) / i**0.5).requires_grad_() for i, o in pairwise(widths)]
    biases = [normal(o).requires_grad_() for o in widths[1:]]

    def ours() -> Tensor:
        return mlp_network(x, weights, biases)

    def eager() -> Tensor:
        h = x
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            h = functional.linear(h.relu_() if layer else h, weight, bias)
        return h

    return Case(
        "mlp-network", "mlp_network, forward and backward",
        f"{rows:,} rows, widths {'-'.join(map(str, widths))}",
        with_gradients(forms(ours, eager), (x, *weights, *biases), [grad]),
        flops=6 * rows * sum(i * o for i, o in pairwise(widths)),
        error=float64_error(mlp_network, x, weights, biases),
        headline=(rows, widths[0]) == (4096, 32),
    )  # fmt: skip
