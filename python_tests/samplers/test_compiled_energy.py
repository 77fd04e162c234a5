"""Energies under torch.compile: the same values and gradients, in every sampler."""

import pytest
import torch
from torch import nn

from gencore.models import ConvEnergy, Glow
from gencore.samplers import HMC, NUTS, CompiledEnergy, Langevin
from gencore.samplers.energy import energy_and_grad


def compiled(energy):
    """Without the compilation to machine code."""
    return CompiledEnergy(energy, backend="aot_eager")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()


def glow_energy():
    """An energy that calls operators with kernels."""
    torch.manual_seed(0)
    glow = Glow((1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4).double()
    glow.log_prob(torch.randn(8, 1, 4, 4, dtype=torch.float64))
    return lambda x: -glow.log_prob(x)


@pytest.mark.parametrize(
    ("energy", "shape"),
    [
        (network, (5, 3)),
        (lambda: ConvEnergy.preset("digits").double(), (5, 1, 8, 8)),
        (glow_energy, (5, 1, 4, 4)),
    ],
    ids=["mlp", "convolutions", "glow"],
)
def test_values_and_gradients_are_those_of_autograd(energy, shape):
    energy = energy()
    x = torch.randn(shape, dtype=torch.float64)
    ours, expected = (energy_and_grad(e, x) for e in (compiled(energy), energy))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad


@pytest.mark.parametrize("sampler", [Langevin, NUTS, lambda e, a: HMC(e, a, 3)])
def test_chains_are_those_of_the_energy(sampler):
    energy, key = network(), torch.tensor([1, 2])
    x = torch.randn(6, 3, dtype=torch.float64)
    ours, expected = (sampler(e, 0.1).sample(x, 5, key=key) for e in (compiled(energy), energy))
    torch.testing.assert_close(ours, expected)


def test_parameters_that_change_are_seen_and_get_no_gradients():
    energy = network()
    ours, x = compiled(energy), torch.randn(4, 3, dtype=torch.float64)
    before = energy_and_grad(ours, x)[1]
    with torch.no_grad():
        energy[2].weight.mul_(2.0)
    torch.testing.assert_close(energy_and_grad(ours, x)[1], 2.0 * before)
    assert all(p.grad is None for p in energy.parameters())


def test_training_goes_through_the_energy():
    energy = network()
    ours, x = compiled(energy), torch.randn(4, 3, dtype=torch.float64)
    ours(x).sum().backward()
    assert energy[0].weight.grad is not None
    final = Langevin(ours, 0.1).sample(x, 2, differentiable=True)
    assert final.requires_grad
