"""Whole jobs of the energy-based model: a chain of images, and a training step."""

from collections.abc import Iterator

import torch
from cases_chains import NOISE, STEP, chain_contenders
from harness import Case, in_reference

from gencore.models import ConvEnergy, ShortRunEBM
from gencore.samplers import Langevin


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    if not quick:
        yield _chain_images(128, 40, device)
    yield _training_step(16 if quick else 128, 40, device)


def _chain_images(chains: int, num_steps: int, device: torch.device) -> Case:
    energy = ConvEnergy.preset("digits").to(device).requires_grad_(False)
    x = torch.randn(chains, 1, 8, 8, device=device)
    sampler = Langevin(energy, STEP, NOISE)
    return Case(
        "ebm",
        "Langevin chain, 8x8 images",
        f"{chains} chains, {num_steps} steps",
        chain_contenders(energy, sampler, x, num_steps),
    )


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
