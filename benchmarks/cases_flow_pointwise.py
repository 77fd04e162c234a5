"""Normalizing flows, element by element: actnorm, squeezing, likelihoods, dequantisation."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from harness import Case, float64_error, forms, passes
from torch import Tensor

from gencore.ops import actnorm, dequantize, gaussian_nll, random_key, squeeze2d, unsqueeze2d

Shape = tuple[int, ...]


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    images: list[Shape] = [(64, 12, 16, 16), (64, 64, 32, 32)]
    for shape in images[:1] if quick else [*images, (4096, 64)]:
        yield from _actnorm(shape, device)
    pixels: list[Shape] = [(64, 3, 32, 32), (64, 12, 32, 32)]
    for shape in pixels[:1] if quick else pixels:
        yield _squeeze(shape, device)
        yield _unsqueeze(shape, device)
    batches: list[Shape] = [(64, 3072), (4096, 64), (64, 65536)]
    for shape in batches[:1] if quick else batches:
        yield _gaussian_nll(shape, device)
    grey: list[Shape] = [(64, 3, 32, 32), (256, 3, 64, 64)]
    for shape in grey[:1] if quick else grey:
        yield _dequantize(shape, device)


def _size(shape: Shape) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _actnorm(shape: Shape, device: torch.device) -> Iterator[Case]:
    """With the log-determinant, and all gradients."""
    x, grad = torch.randn(2, *shape, device=device).unbind(0)
    log_scale, bias = (0.3 * torch.randn(2, shape[1], device=device)).unbind(0)
    volumes = torch.ones(shape[0], device=device)
    leaves = [t.clone().requires_grad_() for t in (x, log_scale, bias)]
    positions = x[0, 0].numel()

    def eager() -> tuple[Tensor, Tensor]:
        x, log_scale, bias = leaves
        by_channel = (1, -1) + (1,) * (x.dim() - 2)
        y = x * log_scale.exp().view(by_channel) + bias.view(by_channel)
        return y, (positions * log_scale.sum()).expand(x.shape[0])

    case = Case(
        "flow-pointwise", "actnorm", _size(shape),
        forms(lambda: actnorm(*leaves), eager),
        elements=x.numel(),
    )  # fmt: skip
    # x in, y out; the gradient and x in, its gradient out
    return passes(
        case,
        actnorm,
        leaves,
        (grad, volumes),
        forward_bytes=8 * x.numel(),
        backward_bytes=12 * x.numel(),
    )


def _squeeze(shape: Shape, device: torch.device) -> Case:
    x = torch.randn(shape, device=device)
    return Case(
        "flow-pointwise", "squeeze2d", _size(shape),
        forms(lambda: squeeze2d(x), lambda: F.pixel_unshuffle(x, 2)),
        bytes=8 * x.numel(),
        elements=x.numel(),
        error=float64_error(squeeze2d, x),
        context=torch.no_grad,
    )  # fmt: skip


def _unsqueeze(shape: Shape, device: torch.device) -> Case:
    x = squeeze2d(torch.randn(shape, device=device))
    return Case(
        "flow-pointwise", "unsqueeze2d", f"to {_size(shape)}",
        forms(lambda: unsqueeze2d(x), lambda: F.pixel_shuffle(x, 2)),
        bytes=8 * x.numel(),
        elements=x.numel(),
        error=float64_error(unsqueeze2d, x),
        context=torch.no_grad,
    )  # fmt: skip


def _gaussian_nll(shape: Shape, device: torch.device) -> Case:
    z, log_det = torch.randn(shape, device=device), torch.zeros(shape[0], device=device)
    constant = 0.918938533204672742 * shape[1]

    def eager() -> Tensor:
        return 0.5 * z.square().sum(1) + constant - log_det

    return Case(
        "flow-pointwise", "gaussian_nll", _size(shape),
        forms(lambda: gaussian_nll(z, log_det), eager),
        bytes=4 * z.numel(),
        elements=z.numel(),
        error=float64_error(gaussian_nll, z, log_det),
        context=torch.no_grad,
    )  # fmt: skip


def _dequantize(shape: Shape, device: torch.device) -> Case:
    x = torch.randint(256, shape, dtype=torch.uint8, device=device)
    key = random_key(device=device)

    def eager() -> Tensor:
        return (x + torch.rand(shape, device=device)) / 256

    return Case(
        "flow-pointwise", "dequantize", _size(shape),
        forms(lambda: dequantize(x), eager),
        bytes=5 * x.numel(),
        elements=x.numel(),
        error=float64_error(lambda like: dequantize(x, dtype=like.dtype, key=key), torch.ones(())),
        context=torch.no_grad,
    )  # fmt: skip
