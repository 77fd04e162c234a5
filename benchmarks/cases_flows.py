"""Normalizing flows: couplings, forward and backward, for images and for vectors; and steps of
variational inference by whole flows."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness import Call, Case, float64_error, forms, passes
from torch import Tensor

from gencore.models import IAF, MAF, CouplingFlow, Flow, SplineFlow
from gencore.ops import CouplingMask, affine_coupling, iaf_step

BOUND = 2.0


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    image = (8, 8, 16, 16) if quick else (64, 64, 32, 32)
    yield from _separate(image, device)
    yield from _joint(image, "channel", device)
    yield from _joint(image, None, device)
    yield from _joint((256, 64), None, device)
    yield _inverse(image, device)
    yield from _iaf((256, 64) if quick else (4096, 784), device)
    rows, features = (64, 8) if quick else (512, 32)
    # The affine ones with the permutations of their papers.
    for flow in (
        CouplingFlow(features, mixing="permutation"), SplineFlow(features), IAF(features),
        MAF(features, mixing="reverse"),
    ):  # fmt: skip
        yield _reverse_kl(type(flow).__name__, flow.to(device), rows)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _scaled(x: Tensor, raw_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    s = BOUND * torch.tanh(raw_scale / BOUND)
    return x * s.exp() + shift, s.flatten(1).sum(1)


def _separate(shape: tuple[int, ...], device: torch.device) -> Iterator[Case]:
    """The scales and shifts are tensors of their own."""
    leaves = tuple(torch.randn(shape, device=device, requires_grad=True) for _ in range(3))
    ours = partial(affine_coupling, bound=BOUND)
    grads = torch.randn(shape, device=device), torch.randn(shape[0], device=device)
    elements = leaves[0].numel()
    case = Case(
        "flows", "affine_coupling", _size(shape),
        forms(lambda: ours(*leaves), lambda: _scaled(*leaves)),
        elements=elements,
    )  # fmt: skip
    # Forward reads three and writes one; backward reads x, raw, grad and writes two: the shift's
    # gradient is grad itself.
    return passes(
        case, ours, leaves, grads, forward_bytes=16 * elements, backward_bytes=20 * elements
    )


def _joint(
    shape: tuple[int, ...],
    mask: CouplingMask | None,
    device: torch.device,
) -> Iterator[Case]:
    """The parameters are one tensor, as a network returns them."""
    channels = shape[1] if mask is None else shape[1] // 2
    x = torch.randn(shape, device=device, requires_grad=True)
    parameters = torch.randn(shape[0], 2 * channels, *shape[2:], device=device, requires_grad=True)
    grad_y, grad_log_det = torch.randn(shape, device=device), torch.randn(shape[0], device=device)

    def ours(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return affine_coupling(x, parameters, None, bound=BOUND, mask=mask)

    def eager() -> tuple[Tensor, Tensor]:
        if mask is None:
            return _scaled(x, *parameters.chunk(2, 1))
        kept, moved = x.chunk(2, 1)
        moved, log_det = _scaled(moved, *parameters.chunk(2, 1))
        return torch.cat([kept, moved], 1), log_det

    moved = parameters.numel() // 2
    kept = x.numel() - moved
    case = Case(
        "flows", f"affine_coupling, joint parameters, mask={mask}", _size(shape),
        forms(lambda: ours(x, parameters), eager),
        elements=x.numel(),
    )  # fmt: skip
    # Forward reads x, raw, shift and writes y; backward reads x, raw, grad and writes three. What
    # passes through is read and written in each.
    return passes(
        case,
        ours,
        (x, parameters),
        (grad_y, grad_log_det),
        forward_bytes=4 * (4 * moved + 2 * kept),
        backward_bytes=4 * (6 * moved + 2 * kept),
    )


def _inverse(shape: tuple[int, ...], device: torch.device) -> Case:
    """Sampling: the inverse without a graph."""
    channels = shape[1] // 2
    x = torch.randn(shape, device=device)
    parameters = torch.randn(shape[0], 2 * channels, *shape[2:], device=device)

    def eager() -> tuple[Tensor, Tensor]:
        raw_scale, shift = parameters.chunk(2, 1)
        kept, moved = x.chunk(2, 1)
        s = BOUND * torch.tanh(raw_scale / BOUND)
        return torch.cat([kept, (moved - shift) * (-s).exp()], 1), -s.flatten(1).sum(1)

    def ours(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return affine_coupling(x, parameters, None, bound=BOUND, inverse=True, mask="channel")

    return Case(
        "flows", "affine_coupling, inverse, mask=channel", _size(shape),
        forms(lambda: ours(x, parameters), eager),
        bytes=12 * x.numel(),
        elements=x.numel(),
        error=float64_error(ours, x, parameters),
        context=torch.no_grad,
    )  # fmt: skip


def _iaf(shape: tuple[int, ...], device: torch.device) -> Iterator[Case]:
    z, m, s = torch.randn(3, *shape, device=device).unbind(0)
    leaves = tuple(t.clone().requires_grad_() for t in (z, m, s))
    grads = torch.randn(shape, device=device), torch.randn(shape[0], device=device)

    def eager() -> tuple[Tensor, Tensor]:
        z, m, s = leaves
        return torch.lerp(m, z, torch.sigmoid(s)), torch.nn.functional.logsigmoid(s).sum(1)

    case = Case(
        "flows", "iaf_step", _size(shape),
        forms(lambda: iaf_step(*leaves), eager),
        elements=z.numel(),
    )  # fmt: skip
    # Forward reads three and writes one; backward reads these and a gradient and writes three.
    return passes(
        case, iaf_step, leaves, grads,
        forward_bytes=16 * z.numel(), backward_bytes=28 * z.numel(),
    )  # fmt: skip


def _reverse_kl(name: str, flow: Flow, rows: int) -> Case:
    """A step on KL(q ‖ p) of a flow q from a cheap density p: samples with their densities from one
    pass, beside samples and then their densities."""
    flow.log_prob(flow.sample(rows).detach())  # the first batch of an ActNorm

    def step(draw: Callable[[], tuple[Tensor, Tensor]]) -> Call:
        def run() -> None:
            flow.zero_grad()
            x, log_q = draw()
            (log_q + x.square().sum(1) / 2).mean().backward()

        return run

    def in_two() -> tuple[Tensor, Tensor]:
        x = flow().rsample((rows,))
        return x, flow().log_prob(x)

    contenders = {
        "ours": step(lambda: flow().rsample_and_log_prob((rows,))),
        "rsample, log_prob": step(in_two),
    }
    size = f"{rows} samples of {flow.event_shape.numel()}, {name}"
    return Case("flows", "step on the reverse KL divergence", size, contenders)
