"""One key in two calls of different kinds gives independent numbers."""

import math
from functools import partial
from itertools import combinations

import pytest
import torch
from testing.chain_testing import key, quadratic
from torch import nn

from gencore.data import load_density
from gencore.models import WAEGAN, Autoencoder, CouplingFlow, FlowEBM, ShortRunEBM
from gencore.nn import MLPEnergy, UniformDequantization, VariationalDequantization
from gencore.ops import langevin_step, philox_normal
from gencore.samplers import (
    HMC,
    MALA,
    SGHMC,
    AnnealedImportance,
    GaussianBase,
    Langevin,
    ReplayBuffer,
    annealing_schedule,
    warm_up,
)

NUM = 20_000
ZERO = torch.zeros(NUM, 1)


class Flat(nn.Module):
    """A constant energy, on which a step is its noise."""

    def forward(self, x):
        return 0 * x.flatten(1).sum(1)


def short_run(noise_scale=0.0):
    return ShortRunEBM(Flat(), (1,), num_steps=1, step_size=0.5, noise_scale=noise_scale)


def annealed(direction, *args):
    kernel = partial(MALA, step_size=0.5)
    base, betas = GaussianBase((1,)), annealing_schedule("linear", 2)
    sampler = AnnealedImportance(quadratic(), base, betas, kernel)
    return getattr(sampler, direction)(*args, key=key(0)).samples


def dequantized(layer):
    with torch.no_grad():
        y, _ = layer(torch.zeros(NUM, 1, dtype=torch.uint8), key=key(0))
    return torch.special.ndtri((256 * y).clamp(1e-6, 1 - 1e-6))  # y is uniform in [0, 1/256)


def buffer():
    return ReplayBuffer(NUM, (1,), reinit_fraction=1.0, key=key(0))


def wae():
    return WAEGAN(Autoencoder(nn.Linear(1, 1), nn.Linear(1, 1), 1), nn.Linear(1, 1))


# What the calls make of `key(0)`: normal numbers, or others that depend on them.
DRAWS = {
    "Langevin.sample": lambda: Langevin(Flat(), 0.5).sample(ZERO, 1, key=key(0)),
    "the next draw": lambda: philox_normal((NUM, 1), key(0) + torch.tensor([0, 1])),
    "the third draw": lambda: philox_normal((NUM, 1), key(0) + torch.tensor([0, 2])),
    "warm_up": lambda: warm_up(HMC(quadratic(1e-6), 1.0, 1), ZERO, 1, key=key(0))[1],
    "SGHMC.init": lambda: SGHMC(Flat(), 0.1, 1.0).init(ZERO, key=key(0)).momentum,
    "ShortRunEBM.start": lambda: short_run().start(NUM, key=key(0)),
    "ShortRunEBM.sample": lambda: short_run(noise_scale=1.0).sample(NUM, key=key(0)),
    "Flow.sample_latents": lambda: CouplingFlow(2).sample_latents(NUM // 2, key=key(0)),
    "ReplayBuffer": lambda: buffer().chains,
    "ReplayBuffer.draw": lambda: buffer().draw(NUM, key=key(0))[0],
    "GaussianBase.sample": lambda: GaussianBase((1,)).sample(NUM, key(0)),
    "AnnealedImportance.run": lambda: annealed("run", NUM),
    "AnnealedImportance.reverse": lambda: annealed("reverse", ZERO),
    "Density.sample": lambda: load_density("grid9").sample(NUM // 2, key=key(0)),
    "UniformDequantization": lambda: dequantized(UniformDequantization()),
    "WAEGAN.sample_prior": lambda: wae().sample_prior(NUM, key=key(0)),
    "VariationalDequantization": lambda: dequantized(VariationalDequantization(nn.Linear(1, 2))),
}


def test_calls_of_different_kinds_share_no_noise():
    numbers = {name: draw().detach().double().flatten() for name, draw in DRAWS.items()}
    for moment in (1, 2):
        for (one, x), (other, y) in combinations(numbers.items(), 2):
            if one.endswith("Dequantization") and other.endswith("Dequantization"):
                continue  # one kind
            correlation = torch.corrcoef(torch.stack([x, y]) ** moment)[0, 1].item()
            assert abs(correlation) < 5 / math.sqrt(NUM), (one, other, moment)


def test_flows_start_where_short_chains_do():
    """What is not of another kind keeps one stream."""
    flow_ebm, ebm = FlowEBM(MLPEnergy(2), (2,)), ShortRunEBM(MLPEnergy(2), (2,))
    assert torch.equal(flow_ebm.start(5, key=key(1)), ebm.start(5, key=key(1)))


def test_chains_and_operators_draw_from_the_key_itself():
    noise = philox_normal((NUM, 1), key(0))
    step = langevin_step(ZERO, ZERO, 0.5, key=key(0))
    torch.testing.assert_close(step, noise)
    torch.testing.assert_close(DRAWS["Langevin.sample"](), noise)


def test_the_closed_forms_of_a_start_and_its_first_steps():
    """Were the first step's noise that of the start, x₁ = x₀ + ε would have variance 4."""
    tolerance = pytest.approx(2.0, abs=5 * 2 * math.sqrt(2 / NUM))
    ebm, x = short_run(noise_scale=1.0), ZERO[:2]
    assert ebm(x, ebm.start(NUM, key=key(0)), key=key(0)).samples.var().item() == tolerance
    drawn, _ = buffer().draw(NUM, key=key(0))
    assert Langevin(Flat(), 0.5).sample(drawn, 1, key=key(0)).var().item() == tolerance
