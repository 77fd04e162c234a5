"""Chains on energies that no kernel knows: compiled ahead of time, by autograd, and by blackjax."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from harness import Call, Case
from torch import Tensor, nn

from gencore.samplers import HMC, NUTS, CompiledEnergy, Langevin

STEP, NOISE = 0.01, 0.1
NUM_LEAPFROG, NUM_STEPS = 10, 10


@dataclass(frozen=True)
class AnyEnergy:
    """An energy as a user writes it, in torch for a batch and in jax for one state [D]."""

    name: str
    energy: Callable[[Tensor], Tensor]
    start: Tensor
    in_jax: Callable[[Any], Any]
    hmc_step: float
    nuts_step: float


def gaussian(device: torch.device) -> AnyEnergy:
    return AnyEnergy(
        "Gaussian", lambda x: 0.5 * x.square().sum(1), torch.randn(256, 100, device=device),
        lambda x: 0.5 * (x * x).sum(), hmc_step=0.15, nuts_step=0.25,
    )  # fmt: skip


def logistic(device: torch.device) -> AnyEnergy:
    """A Bayesian logistic regression on 500 data of 20 features, with a standard normal prior."""
    data, truth = torch.randn(500, 20, device=device), torch.randn(20, device=device)
    labels = (torch.rand(500, device=device) < torch.sigmoid(data @ truth)).float()

    def energy(w: Tensor) -> Tensor:
        z = w @ data.T
        return (nn.functional.softplus(z) - z * labels).sum(1) + 0.5 * w.square().sum(1)

    def in_jax(w: Any) -> Any:
        import jax

        x, y = jax.numpy.asarray(data.cpu()), jax.numpy.asarray(labels.cpu())
        z = x @ w
        return (jax.nn.softplus(z) - z * y).sum() + 0.5 * (w * w).sum()

    start = truth + 0.1 * torch.randn(256, 20, device=device)
    return AnyEnergy("logistic regression", energy, start, in_jax, hmc_step=0.05, nuts_step=0.08)


def convolutions(device: torch.device) -> AnyEnergy:
    """Two convolutions that tilt a Gaussian, so that the density has an integral."""
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.SiLU(),
        nn.Flatten(), nn.Linear(512, 1), nn.Flatten(0),
    ).to(device).requires_grad_(False)  # fmt: skip

    def in_jax(x: Any) -> Any:
        import jax

        w = [jax.numpy.asarray(p.cpu()) for p in network.parameters()]

        def layer(x: Any, weight: Any, bias: Any, stride: int) -> Any:
            padding = ((1, 1), (1, 1))
            x = jax.lax.conv_general_dilated(x, weight, (stride, stride), padding)
            return jax.nn.silu(x + bias[None, :, None, None])

        h = layer(layer(x.reshape(1, 1, 8, 8), w[0], w[1], 1), w[2], w[3], 2)
        return h.reshape(-1) @ w[4][0] + w[5][0] + 0.05 * (x * x).sum()

    def energy(x: Tensor) -> Tensor:
        value: Tensor = network(x)
        return value + 0.05 * x.square().flatten(1).sum(1)

    start = torch.randn(16, 1, 8, 8, device=device)
    return AnyEnergy("convolutions", energy, start, in_jax, hmc_step=0.1, nuts_step=0.5)


ENERGIES = (gaussian, logistic, convolutions)


def any_energy_cases(device: torch.device) -> Iterator[Case]:
    for make in ENERGIES:
        target = make(device)
        chains = f"{len(target.start)} chains of {target.start[0].numel()}"
        yield _langevin(target, chains, 100)
        yield _hmc(target, chains)
        yield _nuts(target, chains)


def _langevin(target: AnyEnergy, chains: str, num_steps: int) -> Case:
    x, gradient = target.start, torch.func.grad(lambda x: target.energy(x).sum())
    compiled = torch.compile(lambda x: x - STEP * gradient(x) + NOISE * torch.randn_like(x))

    def eager(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(target.energy(x).sum(), x)
        return x.detach() - STEP * grad + NOISE * torch.randn_like(x)

    def chain(step: Callable[[Tensor], Tensor]) -> Call:
        def run() -> Tensor:
            state = x
            for _ in range(num_steps):
                state = step(state)
            return state

        return run

    ours, plain = (Langevin(e, STEP, NOISE) for e in (CompiledEnergy(target.energy), target.energy))
    return Case(
        "chains", f"Langevin, any energy ({target.name})", f"{chains}, {num_steps} steps",
        {
            "ours": lambda: ours.sample(x, num_steps),
            "ours, by autograd": lambda: plain.sample(x, num_steps),
            "eager": chain(eager),
            "compiled": torch.no_grad()(chain(compiled)),
        },
        error=_difference(ours, plain, x),
    )  # fmt: skip


def _hmc(target: AnyEnergy, chains: str) -> Case:
    x = target.start
    ours, plain = (
        HMC(e, target.hmc_step, NUM_LEAPFROG)
        for e in (CompiledEnergy(target.energy), target.energy)
    )
    return Case(
        "chains", f"HMC, any energy ({target.name})",
        f"{chains}, L = {NUM_LEAPFROG}, {NUM_STEPS} transitions",
        {
            "ours": lambda: ours.sample(x, NUM_STEPS),
            "ours, by autograd": lambda: plain.sample(x, NUM_STEPS),
            **_blackjax(target, "hmc", step_size=target.hmc_step,
                        num_integration_steps=NUM_LEAPFROG),
        },
        error=_difference(ours, plain, x),
        headline=True,
    )  # fmt: skip


def _nuts(target: AnyEnergy, chains: str) -> Case:
    """The times are of as many transitions; the row's name says what these are worth."""
    x = target.start
    ours, plain = (
        NUTS(e, target.nuts_step) for e in (CompiledEnergy(target.energy), target.energy)
    )
    peers = _blackjax(target, "nuts", step_size=target.nuts_step)
    worth = [f"ours {_efficiency(ours.sample(x, 200, return_trajectory=True)):.2f}"]
    if peers:
        worth.append(f"blackjax {_efficiency(torch.tensor(_blackjax_path(target, 200))):.2f}")
    return Case(
        "chains", f"NUTS, any energy ({target.name})",
        f"{chains}, {NUM_STEPS} transitions, effective samples a transition: {', '.join(worth)}",
        {
            "ours": lambda: ours.sample(x, NUM_STEPS),
            "ours, by autograd": lambda: plain.sample(x, NUM_STEPS),
            **peers,
        },
        error=_difference(ours, plain, x),
    )  # fmt: skip


def _difference(ours: Any, plain: Any, x: Tensor) -> Callable[[], float]:
    """Of a short chain from autograd's, with the same random numbers."""
    key = torch.tensor([1, 2], device=x.device)

    def error() -> float:
        a, b = (sampler.sample(x, 1, key=key) for sampler in (ours, plain))
        return float((a - b).abs().max())

    return error


def _efficiency(path: Tensor) -> float:
    """Effective samples a transition of a chain: arviz's bulk ESS of the worst element, after a
    half of warm-up, over transitions and chains."""
    import arviz

    path = path[len(path) // 2 :].flatten(2).cpu()
    draws = {"x": path.transpose(0, 1).numpy()}
    return float(arviz.ess(draws)["x"].min()) / (path.shape[0] * path.shape[1])


def _blackjax(target: AnyEnergy, algorithm: str, **settings: Any) -> dict[str, Call]:
    """The same transitions by blackjax, on jax's default device, where it is installed."""
    try:
        import jax
    except ImportError:
        return {}
    run, start = _blackjax_run(target, algorithm, NUM_STEPS, keep=False, **settings)
    key = jax.random.key(1)
    return {"blackjax": lambda: run(key, start).block_until_ready()}


def _blackjax_path(target: AnyEnergy, num_steps: int) -> Any:
    import jax
    import numpy as np

    run, start = _blackjax_run(target, "nuts", num_steps, keep=True, step_size=target.nuts_step)
    return np.array(run(jax.random.key(1), start))


def _blackjax_run(
    target: AnyEnergy, algorithm: str, num_steps: int, *, keep: bool, **settings: Any
) -> tuple[Callable[..., Any], Any]:
    import blackjax
    import jax

    flat = jax.numpy.asarray(target.start.flatten(1).cpu())
    sampler = getattr(blackjax, algorithm)(
        lambda x: -target.in_jax(x), inverse_mass_matrix=jax.numpy.ones(flat.shape[1]), **settings
    )

    @jax.jit
    def run(key, state):  # type: ignore[no-untyped-def]
        def transition(state, key):  # type: ignore[no-untyped-def]
            state, _ = jax.vmap(sampler.step)(jax.random.split(key, len(flat)), state)
            return state, state.position if keep else None

        state, path = jax.lax.scan(transition, state, jax.random.split(key, num_steps))
        return path if keep else state.position

    return run, jax.vmap(sampler.init)(flat)
