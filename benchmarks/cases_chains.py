"""Whole Markov chains on small networks, against loops of autograd and a peer's sampler."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from any_energy import any_energy_cases
from harness import Call, Case, float64_error, graphed, in_reference
from torch import Tensor, nn

from gencore.nn import MLPEnergy
from gencore.ops import (
    langevin_step,
    leapfrog_end,
    leapfrog_start,
    leapfrog_step,
    metropolis_accept,
    mlp_hmc_chain,
    random_key,
    split_key,
)
from gencore.samplers import HMC, CompiledEnergy, Langevin

STEP, NOISE = 0.01, 0.1
Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> (energies, gradients)


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    yield _langevin(64, (2, 64, 64), 100, device)
    if not quick:
        yield _langevin(1024, (2, 128, 128), 100, device)
        yield _langevin(800, (2, 256, 256, 256, 256), 100, device)
        yield _langevin(256, (256, 512, 512), 100, device)
        yield _any_module(64, 100, device)
        yield _any_module(4096, 100, device)
        yield from any_energy_cases(device)
    yield from _gaussian_hmc(256, 100, 10, 1 if quick else 10, device)


def _eager_chain(energy: Callable[[Tensor], Tensor], x: Tensor, num_steps: int) -> Tensor:
    """What a user writes without a library."""
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(energy(x).sum(), x)
        with torch.no_grad():
            x = x - STEP * grad + NOISE * torch.randn_like(x)
    return x


def chain_contenders(
    energy: nn.Module, sampler: Langevin, x: Tensor, num_steps: int
) -> dict[str, Call]:
    """Our sampler, and loops of steps: eager, compiled one by one, or captured in a CUDA graph."""
    gradient = torch.func.grad(lambda x: energy(x).sum())

    def step(x: Tensor, key: Tensor) -> Tensor:
        return x - STEP * gradient(x) + NOISE * torch.randn_like(x)

    def reference_step(x: Tensor, key: Tensor) -> Tensor:
        return langevin_step(x, gradient(x), STEP, NOISE, key=key)

    def chain(step: Callable[[Tensor, Tensor], Tensor]) -> Call:
        @torch.no_grad()
        def run() -> Tensor:
            state = x
            for key in split_key(random_key(device=x.device), num_steps):
                state = step(state, key)
            return state

        return run

    contenders: dict[str, Call] = {
        "ours": lambda: sampler.sample(x, num_steps),
        **compiled_energy(sampler, x, num_steps),
        "reference": in_reference(lambda: sampler.sample(x, num_steps)),
        "reference, compiled": in_reference(chain(torch.compile(reference_step))),
        "eager": lambda: _eager_chain(energy, x, num_steps),
        "compiled": chain(torch.compile(step)),
    }
    if x.device.type == "cuda":
        contenders["cuda graph"] = graphed(lambda: _eager_chain(energy, x, num_steps))
    return contenders


def compiled_energy(sampler: Langevin | HMC, x: Tensor, num_steps: int) -> dict[str, Call]:
    """Our sampler with the energy's gradient compiled ahead of time, where no kernel has it."""
    if isinstance(sampler.energy, MLPEnergy):
        return {}
    other = replace(sampler, energy=CompiledEnergy(sampler.energy))
    return {"ours, compiled energy": lambda: other.sample(x, num_steps)}


def _langevin(chains: int, widths: tuple[int, ...], num_steps: int, device: torch.device) -> Case:
    energy = MLPEnergy(widths[0], widths[1:]).to(device).requires_grad_(False)
    x = torch.randn(chains, widths[0], device=device)
    contenders = chain_contenders(energy, Langevin(energy, STEP, NOISE), x, num_steps)
    contenders.update(_torchebm_langevin(energy, x, num_steps))
    products = sum(layer.weight.numel() for layer in energy.layers)
    return Case(
        "chains",
        f"Langevin chain, MLP {'-'.join(map(str, widths))}-1",
        f"{chains:,} chains, {num_steps} steps",
        contenders,
        flops=4 * products * chains * num_steps,  # a product and a sum, forward and backward
        error=langevin_error(energy, x),
        headline=chains == 64 and widths == (2, 64, 64),
    )


def langevin_error(energy: nn.Module, x: Tensor) -> Callable[[], float]:
    """After ten steps, with the same noise."""
    key = random_key(device=x.device)
    return float64_error(
        lambda energy, x: Langevin(energy, STEP, NOISE).sample(x, 10, key=key), energy, x
    )


class _AnyModule(nn.Sequential):
    """The same network as a module that the kernels do not know."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
                         nn.Linear(64, 1), nn.Flatten(0))  # fmt: skip


def _any_module(chains: int, num_steps: int, device: torch.device) -> Case:
    energy = _AnyModule().to(device).requires_grad_(False)
    x = torch.randn(chains, 2, device=device)
    contenders = chain_contenders(energy, Langevin(energy, STEP, NOISE), x, num_steps)
    contenders.update(_torchebm_langevin(energy, x, num_steps))
    return Case(
        "chains",
        "Langevin chain, any module (2-64-64-1)",
        f"{chains:,} chains, {num_steps} steps",
        contenders,
        error=langevin_error(energy, x),
    )


def _gaussian_hmc(
    chains: int, dims: int, num_leapfrog: int, num_steps: int, device: torch.device
) -> Iterator[Case]:
    """Transitions on a standard normal: as a known energy, and as one that only autograd knows."""
    x, step_size = torch.randn(chains, dims, device=device), 0.15

    def leap(gradient: Gradient, x: Tensor, momentum: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        momentum = momentum - 0.5 * step_size * grad
        x = x + step_size * momentum
        value, grad = gradient(x)
        return x, momentum - 0.5 * step_size * grad, value, grad

    def chain(gradient: Gradient, leap: Callable[..., tuple[Tensor, ...]]) -> Tensor:
        with torch.no_grad():
            state = x
            energy, grad = gradient(x)
            for _ in range(num_steps):
                momentum = torch.randn_like(x)
                total = energy + 0.5 * momentum.square().sum(1)
                proposal, slope, value = state, grad, energy
                for _ in range(num_leapfrog):
                    proposal, momentum, value, slope = leap(gradient, proposal, momentum, slope)
                rate = torch.exp(total - value - 0.5 * momentum.square().sum(1))
                accepted = torch.rand(chains, device=device) < rate
                state = torch.where(accepted[:, None], proposal, state)
                grad = torch.where(accepted[:, None], slope, grad)
                energy = torch.where(accepted, value, energy)
            return state

    def energy(x: Tensor) -> Tensor:
        return 0.5 * x.square().sum(1)

    def by_autograd(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = energy(x)
            (grad,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), grad

    def by_hand(x: Tensor) -> tuple[Tensor, Tensor]:
        return energy(x), x

    compiled = torch.compile(leap)  # of a whole transition, Inductor never finishes
    others: dict[str, Call] = {
        "eager": lambda: chain(by_autograd, leap),
        "eager, gradient by hand": lambda: chain(by_hand, leap),
        "compiled, gradient by hand": lambda: chain(by_hand, compiled),
        "reference, compiled": _compiled_reference(energy, x, num_leapfrog, num_steps, step_size),
        **_blackjax_hmc(chains, dims, num_leapfrog, num_steps, step_size),
        **_torchebm_hmc(x, num_leapfrog, num_steps, step_size),
    }
    size = f"{chains} chains of {dims}, L = {num_leapfrog}, {num_steps} transitions"

    key = random_key(device=device)
    known_chain = partial(mlp_hmc_chain, weights=[], biases=[], prior_precision=1.0,
                          step_size=step_size, num_leapfrog=num_leapfrog)  # fmt: skip

    def gaussian() -> object:
        return known_chain(x, num_steps=num_steps)

    yield Case(
        "chains", "HMC, Gaussian", size,
        {"ours": gaussian, "reference": in_reference(gaussian), **others},
        error=float64_error(lambda x: known_chain(x, num_steps=1, key=key).position, x),
    )  # fmt: skip

    class Known:
        """The energy, with the gradient that the contenders by hand have."""

        def __call__(self, x: Tensor) -> Tensor:
            return energy(x)

        def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return energy(x), x.clone()

    generic = HMC(energy, step_size, num_leapfrog)
    known = HMC(Known(), step_size, num_leapfrog)
    yield Case(
        "chains", "HMC, any energy (the same Gaussian)", size,
        {
            "ours": lambda: generic.sample(x, num_steps),
            "reference": in_reference(lambda: generic.sample(x, num_steps)),
            "ours, gradient by hand": lambda: known.sample(x, num_steps),
            **compiled_energy(generic, x, num_steps),
            **others,
        },
        error=float64_error(lambda x: generic.sample(x, 1, key=key), x),
    )  # fmt: skip


def _compiled_reference(
    energy: Callable[[Tensor], Tensor], x: Tensor, num_leapfrog: int, num_steps: int, step: float
) -> Call:
    """The operators' references under torch.compile, leapfrog step by leapfrog step."""
    gradient = torch.func.grad(lambda x: energy(x).sum())
    start = torch.compile(lambda x, grad, key: leapfrog_start(x, grad, step, key=key))
    accept = torch.compile(lambda *states, key: metropolis_accept(*states, key=key))

    @torch.compile
    def leap(x: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        return leapfrog_step(x, momentum, gradient(x), step)

    @torch.compile
    def end(x: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad = gradient(x)
        return grad, energy(x), leapfrog_end(momentum, grad, step).kinetic

    @torch.no_grad()
    def run() -> Tensor:
        state = x, gradient(x), energy(x)
        for key in split_key(random_key(device=x.device), num_steps):
            proposal, momentum, kinetic = start(*state[:2], key)
            for _ in range(num_leapfrog - 1):
                proposal, momentum = leap(proposal, momentum)
            *proposed, last = end(proposal, momentum)
            state = accept(*state, proposal, *proposed, kinetic, last, key=key)[:3]
        return state[0]

    return in_reference(run)


def _blackjax_hmc(
    chains: int, dims: int, num_leapfrog: int, num_steps: int, step_size: float
) -> dict[str, Call]:
    """The same transitions by blackjax, on jax's default device, where it is installed."""
    try:
        import blackjax
        import jax
    except ImportError:
        return {}
    sampler = blackjax.hmc(
        lambda x: -0.5 * (x * x).sum(),
        step_size=step_size,
        inverse_mass_matrix=jax.numpy.ones(dims),
        num_integration_steps=num_leapfrog,
    )
    start = jax.vmap(sampler.init)(jax.random.normal(jax.random.key(0), (chains, dims)))

    @jax.jit
    def run(key, state):  # type: ignore[no-untyped-def]
        def transition(state, key):  # type: ignore[no-untyped-def]
            state, _ = jax.vmap(sampler.step)(jax.random.split(key, chains), state)
            return state, None

        return jax.lax.scan(transition, state, jax.random.split(key, num_steps))[0].position

    key = jax.random.key(1)
    return {"blackjax": lambda: run(key, start).block_until_ready()}


def _torchebm_langevin(energy: nn.Module, x: Tensor, num_steps: int) -> dict[str, Call]:
    """The same chain by torchebm, where the optional group of peers is installed."""
    try:
        from torchebm.samplers import LangevinDynamics
    except ImportError:
        return {}
    scale = NOISE / (2 * STEP) ** 0.5  # its noise is scale · √(2 step)
    sampler = LangevinDynamics(_torchebm_model(energy), STEP, scale, device=x.device)
    return {"torchebm": lambda: sampler.sample(x=x, n_steps=num_steps)}


def _torchebm_hmc(
    x: Tensor, num_leapfrog: int, num_steps: int, step_size: float
) -> dict[str, Call]:
    try:
        from torchebm.samplers import HamiltonianMonteCarlo
    except ImportError:
        return {}
    model = _torchebm_model(lambda x: 0.5 * x.square().sum(1))
    sampler = HamiltonianMonteCarlo(model, step_size, num_leapfrog, device=x.device)
    return {"torchebm": lambda: sampler.sample(x=x, n_steps=num_steps)}


def _torchebm_model(energy: Callable[[Tensor], Tensor]) -> object:
    from torchebm.core import BaseModel

    class Model(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            return self.energy(x)

    return Model()
