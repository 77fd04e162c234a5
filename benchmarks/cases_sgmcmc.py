"""Steps with a noisy gradient and replica exchanges, in place as samplers call them."""

from collections.abc import Iterator
from functools import partial

import torch
from harness import Case, float64_error, forms
from torch import Tensor

from gencore.ops import random_key, replica_swap_, riemannian_langevin_step_, sghmc_step_

STEP, FRICTION = 0.01, 1.0


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    for elements in [1024, 1 << 20] if quick else [1024, 1 << 20, 1 << 22]:
        yield _sghmc(elements, device)
        yield _riemannian_langevin(elements, device)
    for chains, size in [(1000, 2)] if quick else [(1000, 2), (4096, 2), (512, 3072)]:
        yield _replica_swap(8, chains, size, device)


def _sghmc(elements: int, device: torch.device) -> Case:
    x, momentum, grad = (torch.randn(elements, device=device) for _ in range(3))
    key = random_key(device=device)
    scale = (2 * STEP * FRICTION) ** 0.5

    def ours() -> object:
        return sghmc_step_(x, momentum, grad, STEP, FRICTION, key=key)

    def eager() -> Tensor:
        momentum.mul_(1 - STEP * FRICTION).add_(grad, alpha=-STEP)
        momentum.add_(torch.randn_like(momentum), alpha=scale)
        return x.add_(momentum, alpha=STEP)

    return Case(
        "sgmcmc", "sghmc_step_", f"{elements:,} elements",
        forms(ours, eager),
        bytes=20 * elements,
        elements=elements,
        error=float64_error(
            partial(sghmc_step_, step_size=STEP, friction=FRICTION, key=key), x, momentum, grad
        ),
        context=torch.no_grad,
    )  # fmt: skip


def _riemannian_langevin(elements: int, device: torch.device) -> Case:
    x, grad = (torch.randn(elements, device=device) for _ in range(2))
    metric, correction = torch.rand(elements, device=device), torch.rand(elements, device=device)
    key = random_key(device=device)

    def ours() -> object:
        return riemannian_langevin_step_(x, grad, metric, correction, STEP, key=key)

    def eager() -> Tensor:
        drift = (metric * grad).sub_(correction)
        noise = torch.randn_like(x).mul_((2 * STEP * metric).sqrt_())
        return x.add_(drift, alpha=-STEP).add_(noise)

    return Case(
        "sgmcmc", "riemannian_langevin_step_", f"{elements:,} elements",
        forms(ours, eager),
        bytes=20 * elements,
        elements=elements,
        error=float64_error(
            partial(riemannian_langevin_step_, step_size=STEP, key=key),
            x, grad, metric, correction,
        ),
        context=torch.no_grad,
    )  # fmt: skip


def _replica_swap(replicas: int, chains: int, size: int, device: torch.device) -> Case:
    x = torch.randn(replicas, chains, size, device=device)
    energy, grad = torch.randn(replicas, chains, device=device), x.clone()
    beta = torch.linspace(1.0, 0.1, replicas, dtype=torch.float64, device=device)
    key = random_key(device=device)
    gaps = (beta[:-1] - beta[1:]).float()[::2, None]

    def exchange(x: Tensor, energy: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return replica_swap_(x, energy, beta, 0, grad=grad, key=key), x, energy, grad

    def ours() -> object:
        return replica_swap_(x, energy, beta, 0, grad=grad, key=key)

    def eager() -> Tensor:
        accepted = torch.rand_like(energy[::2]) < (gaps * (energy[::2] - energy[1::2])).exp()
        rows = accepted[..., None]
        for tensor, mask in ((energy, accepted), (x, rows), (grad, rows)):
            low = torch.where(mask, tensor[1::2], tensor[::2])
            high = torch.where(mask, tensor[::2], tensor[1::2])
            tensor[::2], tensor[1::2] = low, high
        return accepted

    return Case(
        "sgmcmc", "replica_swap_", f"{replicas} replicas, {chains:,} chains of {size:,}",
        forms(ours, eager),
        error=float64_error(exchange, x, energy, grad),
        context=torch.no_grad,
    )  # fmt: skip
