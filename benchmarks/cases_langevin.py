"""The Langevin step and the generator in it: forward, backward, in place, tiny and large."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import torch
from harness import Case, float64_error, forms, graphed, one_thread, passes
from torch import Tensor

from gencore.ops import langevin_step, langevin_step_, philox_normal, random_key

STEP, NOISE = 0.01, 0.1


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    large = [1 << 20, 1 << 22, 1 << 24]
    if device.type == "cuda":
        large.append(1 << 26)
    for elements in large[:1] if quick else large:
        yield _functional(elements, device)
        yield _in_place(elements, device)
    for elements in [64] if quick else [64, 256, 1024]:
        yield _in_place(elements, device)
    yield _one_thread(large[0], device)
    for elements in large[:1] if quick else large[:2]:
        yield from _differentiated(elements, device)
        yield _clamped(elements, device)
        yield _normals(elements, device)


def _error(step: Callable[..., Tensor], *operands: Tensor) -> Callable[[], float]:
    """A million elements show it."""
    key = random_key(device=operands[0].device)
    return float64_error(partial(step, key=key), *(t[: 1 << 20] for t in operands))


def _functional(elements: int, device: torch.device) -> Case:
    x, grad = torch.randn(elements, device=device), torch.randn(elements, device=device)

    def eager() -> Tensor:
        return x - STEP * grad + NOISE * torch.randn_like(x)

    return Case(
        "langevin", "langevin_step", f"{elements:,} elements",
        forms(lambda: langevin_step(x, grad, STEP, NOISE), eager),
        bytes=12 * elements,
        elements=elements,
        error=_error(partial(langevin_step, step_size=STEP, noise_scale=NOISE), x, grad),
        context=torch.no_grad,
    )  # fmt: skip


def _in_place(elements: int, device: torch.device) -> Case:
    x, grad = torch.randn(elements, device=device), torch.randn(elements, device=device)
    key = random_key(device=device)

    def eager() -> Tensor:
        return x.add_(grad, alpha=-STEP).add_(torch.randn_like(x), alpha=NOISE)

    contenders = forms(lambda: langevin_step_(x, grad, STEP, NOISE, key=key), eager)
    contenders["ours, drawing a key"] = lambda: langevin_step_(x, grad, STEP, NOISE)
    if device.type == "cuda":
        contenders["cuda graph"] = graphed(eager)
    return Case(
        "langevin", "langevin_step_, in a chain", f"{elements:,} elements", contenders,
        bytes=12 * elements,
        elements=elements,
        error=_error(partial(langevin_step_, step_size=STEP, noise_scale=NOISE), x, grad),
        headline=elements == 1 << 22,
        context=torch.no_grad,
    )  # fmt: skip


def _one_thread(elements: int, device: torch.device) -> Case:
    case = _functional(elements, device)
    return replace(
        case, name="langevin_step, one thread", context=lambda: _both(one_thread(), torch.no_grad())
    )


@contextmanager
def _both(
    first: AbstractContextManager[object], second: AbstractContextManager[object]
) -> Iterator[None]:
    with first, second:
        yield


def _differentiated(elements: int, device: torch.device) -> Iterator[Case]:
    """The step with noise that is given, as training differentiates it."""
    x = torch.randn(elements, device=device, requires_grad=True)
    grad = torch.randn(elements, device=device, requires_grad=True)
    noise, weight = torch.randn(elements, device=device), torch.randn(elements, device=device)

    def ours(x: Tensor, grad: Tensor) -> Tensor:
        return langevin_step(x, grad, STEP, NOISE, noise=noise.to(x.dtype))

    def eager() -> Tensor:
        return x - STEP * grad + NOISE * noise

    case = Case(
        "langevin", "langevin_step, given noise", f"{elements:,} elements",
        forms(lambda: ours(x, grad), eager),
        elements=elements,
    )  # fmt: skip
    # Forward reads three and writes one; backward reads one and writes two.
    return passes(
        case, ours, (x, grad), (weight,), forward_bytes=16 * elements, backward_bytes=12 * elements
    )


def _clamped(elements: int, device: torch.device) -> Case:
    x, grad = torch.randn(elements, device=device), torch.randn(elements, device=device)

    ours = partial(
        langevin_step, step_size=STEP, noise_scale=NOISE,
        prior_precision=0.1, grad_clamp=0.5, clamp=(-1.0, 1.0),
    )  # fmt: skip

    def eager() -> Tensor:
        drift = grad.clamp(-0.5, 0.5) + 0.1 * x
        return (x - STEP * drift + NOISE * torch.randn_like(x)).clamp(-1, 1)

    return Case(
        "langevin", "langevin_step, clamps and prior", f"{elements:,} elements",
        forms(lambda: ours(x, grad), eager),
        bytes=12 * elements,
        elements=elements,
        error=_error(ours, x, grad),
        context=torch.no_grad,
    )  # fmt: skip


def _normals(elements: int, device: torch.device) -> Case:
    key = random_key(device=device)

    def eager() -> Tensor:
        return torch.randn(elements, device=device)

    def error() -> float:
        ours = philox_normal((1 << 16,), key).double()
        return (ours - philox_normal((1 << 16,), key, dtype=torch.float64)).abs().max().item()

    return Case(
        "langevin", "philox_normal", f"{elements:,} elements",
        forms(lambda: philox_normal((elements,), key), eager),
        bytes=4 * elements,
        elements=elements,
        error=error,
        context=torch.no_grad,
    )  # fmt: skip
