"""Phase pooling and unpooling, forward and backward, beside forms in torch.

Pooling is compared with windows, a softmax and sums. The best eager form of unpooling that we know
is its reference: the shares of all elements of each pool, and an ``index_add`` of them."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes, references
from torch import Tensor

from gencore.ops import phase_pool, phase_unpool

_BETA = 3.0


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shape = (16, 64, 32, 32)
    for stride in (2,) if quick else (2, 4):
        yield from _pooling(shape, stride, device)
        yield from _unpooling(shape, stride, device)


def _softmax_of_windows(z: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The same function of pools of 4 x 4 x 4, as a user writes it: windows, softmax, sums."""
    circle = torch.cat([z, z[:, : 4 - stride]], 1)
    pools = circle.unfold(1, 4, stride).unfold(2, 4, stride).unfold(3, 4, stride).flatten(4)
    weights = torch.softmax(_BETA * pools, -1)
    line = torch.linspace(-1, 1, 4, device=z.device)
    coordinates = torch.cartesian_prod(line, line, line)
    return (weights * pools).sum(-1), (weights @ coordinates).movedim(-1, 2)


def _pooling(shape: tuple[int, ...], stride: int, device: torch.device) -> Iterator[Case]:
    z = torch.randn(shape, device=device, requires_grad=True)

    def ours(z: Tensor) -> tuple[Tensor, Tensor]:
        return phase_pool(z, 4, stride, _BETA)

    case = Case(
        "phase-pool", "phase_pool", _size(shape, stride),
        forms(lambda: ours(z), lambda: _softmax_of_windows(z, stride)),
        elements=z.numel(),
        headline=stride == 2,
    )  # fmt: skip
    magnitude, phase = (result.detach() for result in ours(z))
    # Read z, write what belongs to pools, an entropy too; read all of it and the gradients of two
    # results, write that of z.
    element, pools = 4 * z.numel(), 4 * magnitude.numel()
    yield from passes(
        case, ours, [z], [magnitude, phase],
        forward_bytes=element + 5 * pools, backward_bytes=2 * element + 9 * pools,
    )  # fmt: skip


def _unpooling(shape: tuple[int, ...], stride: int, device: torch.device) -> Iterator[Case]:
    size = shape[1:]
    pooled = phase_pool(torch.randn(shape, device=device), 4, stride, _BETA)
    magnitude, phase = (result.requires_grad_() for result in pooled)

    def ours(magnitude: Tensor, phase: Tensor) -> Tensor:
        return phase_unpool(magnitude, phase, 4, stride, output_size=size)

    case = Case(
        "phase-pool", "phase_unpool", _size(shape, stride),
        {"ours": lambda: ours(magnitude, phase), **references(lambda: ours(magnitude, phase))},
        elements=shape[0] * shape[1] * shape[2] * shape[3],
    )  # fmt: skip
    # Read magnitudes and phases, write z; read them and z's gradient, write theirs.
    element, pools = 4 * case.elements, 4 * magnitude.numel()
    yield from passes(
        case, ours, [magnitude, phase], [torch.randn(shape, device=device)],
        forward_bytes=element + 4 * pools, backward_bytes=element + 8 * pools,
    )  # fmt: skip


def _size(shape: tuple[int, ...], stride: int) -> str:
    return "x".join(map(str, shape)) + f", pools of 4x4x4, stride {stride}"
