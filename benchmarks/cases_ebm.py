"""Whole jobs of the energy-based model: a chain of images, and a training step."""

from collections.abc import Callable, Iterator

import torch
from cases_chains import NOISE, STEP, chain_contenders, langevin_error
from harness import Call, Case, float64_error, in_reference
from torch import Tensor

from gencore.models import ConvEnergy, ShortRunEBM
from gencore.ops import random_key
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
        error=langevin_error(energy, x),
    )


def _training_step(batch: int, num_steps: int, device: torch.device) -> Case:
    energy = ConvEnergy.preset("digits").to(device)
    ebm = ShortRunEBM(energy, (1, 8, 8), num_steps=num_steps, step_size=STEP, noise_scale=NOISE)
    data, start = torch.rand(batch, 1, 8, 8, device=device), ebm.start(batch)
    optimizer = torch.optim.Adam(ebm.parameters(), 1e-4, fused=True)

    def training(loss: Callable[[], Tensor]) -> Call:
        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    def contrast(samples: Tensor) -> Tensor:
        return energy(data).mean() - energy(samples).mean()

    key = random_key(device=device)
    chains = chain_contenders(energy, ebm.dynamics, start, num_steps)
    compiled = torch.compile(contrast)
    ours = training(lambda: ebm(data, start).loss)
    return Case(
        "ebm", "EBM training step, digits", f"batch {batch}, {num_steps} sampler steps",
        {
            "ours": ours,
            "reference": in_reference(ours),
            "eager": training(lambda: contrast(chains["eager"]())),
            "compiled": training(lambda: compiled(chains["compiled"]())),
            "reference, compiled": in_reference(
                training(lambda: compiled(chains["reference, compiled"]()))
            ),
        },
        error=float64_error(lambda ebm, *x: ebm(*x, key=key).loss, ebm, data, start),
        headline=True,
    )  # fmt: skip
