"""Whole jobs of image flows: a training step, with and without stored activations, and sampling."""

from collections.abc import Iterator
from functools import partial

import torch
from harness import Call, Case, float64_error, in_reference, references

from gencore.models import Glow
from gencore.ops import random_key

# Of the work a step does, the convolutions of the couplings' networks are nearly all in wide ones;
# a narrow one shows what is around them.
SIZES = ((16, 32), (64, 32), (64, 128))


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    for batch, hidden in SIZES[:1] if quick else SIZES:
        yield _training_step(batch, hidden, device, compiled=not quick)
    if not quick:
        yield _sampling(16, 32, device)


def _glow(hidden: int, device: torch.device, reversible: bool = False) -> Glow:
    torch.manual_seed(0)
    return Glow(
        (3, 32, 32), num_levels=3, num_steps=8, hidden_channels=hidden, reversible=reversible
    ).to(device)


def _training_step(batch: int, hidden: int, device: torch.device, *, compiled: bool) -> Case:
    """Compiling a flow of 24 steps takes a minute or two."""
    data = torch.rand(batch, 3, 32, 32, device=device) - 0.5

    def stepper(glow: Glow, compiled: bool = False) -> Call:
        glow.log_prob(data)  # ActNorm's first pass, which would break a compiled graph
        log_prob = torch.compile(glow.log_prob) if compiled else glow.log_prob
        optimizer = torch.optim.Adam(glow.parameters(), 1e-4, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            (-log_prob(data).mean()).backward()
            optimizer.step()

        return step

    plain = stepper(_glow(hidden, device))
    contenders = {
        "ours": plain,
        "ours, reversible": stepper(_glow(hidden, device, reversible=True)),
        "reference": in_reference(plain),
    }
    if compiled:
        contenders["ours, compiled"] = stepper(_glow(hidden, device), compiled=True)
        contenders["reference, compiled"] = in_reference(
            stepper(_glow(hidden, device), compiled=True)
        )
    return Case(
        "glow", "Glow training step, 32x32", f"batch {batch}, 3 levels of 8 steps, width {hidden}",
        contenders,
        error=float64_error(Glow.log_prob, _glow(hidden, device).eval(), data),
        headline=(batch, hidden) == (64, 32),
    )  # fmt: skip


def _sampling(num: int, hidden: int, device: torch.device) -> Case:
    glow = _glow(hidden, device).eval()
    sample = torch.no_grad()(lambda: glow.sample(num))
    return Case(
        "glow", "Glow samples, 32x32", f"{num} images, 3 levels of 8 steps, width {hidden}",
        {"ours": sample, "ours, compiled": torch.compile(sample), **references(sample)},
        error=float64_error(partial(Glow.sample, num=num, key=random_key(device=device)), glow),
    )  # fmt: skip
