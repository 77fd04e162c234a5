"""Whole jobs of the energy-based model: a chain of samples, also a peer's, and a training step."""

from collections.abc import Callable, Iterator

import torch
from harness import Call, Case, in_reference
from torch import Tensor, nn

from gencore.models import ConvEnergy, ShortRunEBM
from gencore.samplers import Langevin

STEP, NOISE = 0.01, 0.1


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    yield _chain_2d(64, 100, device)
    if not quick:
        yield _chain_2d(4096, 100, device)
        yield _chain_images(128, 40, device)
        yield _training_step(128, 40, device)


def _eager_chain(energy: Callable[[Tensor], Tensor], x: Tensor, num_steps: int) -> Tensor:
    """What a user writes without a library."""
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(energy(x).sum(), x)
        with torch.no_grad():
            x = x - STEP * grad + NOISE * torch.randn_like(x)
    return x


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result.squeeze(1)


def _chain_2d(chains: int, num_steps: int, device: torch.device) -> Case:
    energy = _Mlp().to(device).requires_grad_(False)
    x = torch.randn(chains, 2, device=device)
    sampler = Langevin(energy, STEP, NOISE)
    contenders = _chain_contenders(energy, sampler, x, num_steps)
    contenders.update(_torchebm(energy, x, num_steps))
    return Case(
        "ebm",
        "Langevin chain, MLP 2-64-64-1",
        f"{chains:,} chains, {num_steps} steps",
        contenders,
        headline=chains == 64,
    )


def _chain_images(chains: int, num_steps: int, device: torch.device) -> Case:
    energy = ConvEnergy.preset("digits").to(device).requires_grad_(False)
    x = torch.randn(chains, 1, 8, 8, device=device)
    sampler = Langevin(energy, STEP, NOISE)
    return Case(
        "ebm",
        "Langevin chain, 8x8 images",
        f"{chains} chains, {num_steps} steps",
        _chain_contenders(energy, sampler, x, num_steps),
    )


def _chain_contenders(
    energy: nn.Module, sampler: Langevin, x: Tensor, num_steps: int
) -> dict[str, Call]:
    compiled = torch.compile(energy)
    return {
        "ours": lambda: sampler.sample(x, num_steps),
        "reference": in_reference(lambda: sampler.sample(x, num_steps)),
        "eager": lambda: _eager_chain(energy, x, num_steps),
        "compiled": lambda: _eager_chain(compiled, x, num_steps),
    }


def _training_step(batch: int, num_steps: int, device: torch.device) -> Case:
    ebm = ShortRunEBM(
        ConvEnergy.preset("digits"), (1, 8, 8), num_steps=num_steps, step_size=0.05
    ).to(device)
    data = torch.rand(batch, 1, 8, 8, device=device)
    optimizer = torch.optim.Adam(ebm.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        ebm(data, ebm.start(batch)).loss.backward()
        optimizer.step()

    return Case(
        "ebm", "EBM training step, digits", f"batch {batch}, {num_steps} sampler steps",
        {"ours": step, "reference": in_reference(step)},
        headline=True,
    )  # fmt: skip


def _torchebm(energy: nn.Module, x: Tensor, num_steps: int) -> dict[str, Call]:
    """The same chain by torchebm, where the optional group of peers is installed."""
    try:
        from torchebm.core import BaseModel
        from torchebm.samplers import LangevinDynamics
    except ImportError:
        return {}

    class Model(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.energy(x)
            return result

    scale = NOISE / (2 * STEP) ** 0.5  # its noise is scale · √(2 step)
    sampler = LangevinDynamics(Model(), STEP, scale, device=x.device)
    return {"torchebm": lambda: sampler.sample(x=x, n_steps=num_steps)}
