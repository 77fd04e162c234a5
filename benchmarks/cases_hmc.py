"""Hamiltonian Monte Carlo: each fused part of a transition, for small and large states."""

from collections.abc import Iterator
from functools import partial

import torch
from harness import Case, float64_error, forms, references
from torch import Tensor

from gencore.ops import (
    NutsTree,
    leapfrog_end,
    leapfrog_start,
    leapfrog_step_,
    metropolis_accept_,
    nuts_leaf_,
    nuts_tree,
    random_key,
)

STEP = 1e-4


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shapes = [(64, 2), (256, 100), (128, 3072), (4096, 1024)]
    for chains, size in shapes[:2] if quick else shapes:
        yield _start(chains, size, device)
        yield _step(chains, size, device)
        yield _end(chains, size, device)
        yield _accept(chains, size, device)
        yield _leaf(chains, size, device)


def _size(chains: int, size: int) -> str:
    return f"{chains:,} chains of {size:,}"


def _start(chains: int, size: int, device: torch.device) -> Case:
    x, grad = torch.randn(2, chains, size, device=device).unbind(0)
    key = random_key(device=device)

    def eager() -> tuple[Tensor, Tensor, Tensor]:
        momentum = torch.randn_like(x)
        kinetic = 0.5 * momentum.square().sum(1)
        momentum.sub_(grad, alpha=0.5 * STEP)
        return x.add(momentum, alpha=STEP), momentum, kinetic

    return Case(
        "hmc", "leapfrog_start", _size(chains, size),
        forms(lambda: leapfrog_start(x, grad, STEP), eager),
        bytes=16 * x.numel(),
        elements=x.numel(),
        error=float64_error(partial(leapfrog_start, step_size=STEP, key=key), x, grad),
        context=torch.no_grad,
    )  # fmt: skip


def _step(chains: int, size: int, device: torch.device) -> Case:
    x, momentum, grad = torch.randn(3, chains, size, device=device).unbind(0)

    def eager() -> Tensor:
        momentum.sub_(grad, alpha=STEP)
        return x.add_(momentum, alpha=STEP)

    return Case(
        "hmc", "leapfrog_step_, in a chain", _size(chains, size),
        forms(lambda: leapfrog_step_(x, momentum, grad, STEP), eager),
        bytes=20 * x.numel(),
        elements=x.numel(),
        error=float64_error(partial(leapfrog_step_, step_size=STEP), x, momentum, grad),
        context=torch.no_grad,
    )  # fmt: skip


def _end(chains: int, size: int, device: torch.device) -> Case:
    momentum, grad = torch.randn(2, chains, size, device=device).unbind(0)

    def eager() -> tuple[Tensor, Tensor]:
        last = momentum.sub(grad, alpha=0.5 * STEP)
        return last, 0.5 * last.square().sum(1)

    return Case(
        "hmc", "leapfrog_end", _size(chains, size),
        forms(lambda: leapfrog_end(momentum, grad, STEP), eager),
        bytes=12 * momentum.numel(),
        elements=momentum.numel(),
        error=float64_error(partial(leapfrog_end, step_size=STEP), momentum, grad),
        context=torch.no_grad,
    )  # fmt: skip


def _accept(chains: int, size: int, device: torch.device) -> Case:
    """Half of the proposals are accepted, and one in sixteen is not finite."""
    x, grad, proposal, proposal_grad = torch.randn(4, chains, size, device=device).unbind(0)
    proposal[::16, -1] = torch.nan
    energy, kinetic = torch.zeros(2, chains, device=device).unbind(0)
    new_energy = torch.full_like(energy, 0.7)
    states = (x, grad, energy, proposal, proposal_grad, new_energy, kinetic, kinetic)

    def decide() -> tuple[Tensor, Tensor]:
        finite = proposal.isfinite().all(1) & proposal_grad.isfinite().all(1)
        error = (new_energy + kinetic) - (energy + kinetic)
        rate = torch.where(finite & error.isfinite(), (-error).clamp(max=0.0).exp(), 0.0)
        return torch.rand_like(rate) < rate, rate

    def eager() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        accepted, rate = decide()
        rows = accepted.unsqueeze(1)
        return (
            torch.where(rows, proposal, x), torch.where(rows, proposal_grad, grad),
            torch.where(accepted, new_energy, energy), rate,
        )  # fmt: skip

    def ours() -> object:
        energy.zero_()  # or the chains that have accepted once would accept for good
        return metropolis_accept_(*states)

    return Case(
        "hmc", "metropolis_accept_", _size(chains, size),
        forms(ours, eager),
        bytes=12 * x.numel(),
        elements=x.numel(),  # reads two, writes two for half of the chains
        error=float64_error(partial(metropolis_accept_, key=random_key(device=device)), *states),
        context=torch.no_grad,
    )  # fmt: skip


def _leaf(chains: int, size: int, device: torch.device) -> Case:
    """The second leaf of each chain's second subtree, which is tested for a turn and merged."""
    x, key = torch.randn(chains, size, device=device), random_key(device=device)
    energy = 0.5 * x.square().sum(1)
    tree = nuts_tree(x, energy, x, STEP, max_tree_depth=3, key=key)
    for leaf in range(2):
        nuts_leaf_(tree, energy, x, leaf, STEP, key=key)

    def grow(tree: NutsTree, energy: Tensor, grad: Tensor) -> Tensor:
        tree.flags[0] = True  # for the leaf to be grown again
        nuts_leaf_(tree, energy, grad, 2, STEP, key=key)
        return tree.position

    def ours() -> None:
        grow(tree, energy, x)

    return Case(
        "hmc", "nuts_leaf_", _size(chains, size),
        {"ours": ours, **references(ours)},
        bytes=4 * (5 + 6 + 3) * x.numel(),
        error=float64_error(grow, tree, energy, x),
        elements=x.numel(),  # moves on; a checkpoint and both ends are read, an end written
        context=torch.no_grad,
    )  # fmt: skip
