"""The energy of a diffusion's level."""

import pytest
import torch
from torch import nn

from gencore.models import LevelEnergy
from gencore.nn import TimeMLPEnergy
from gencore.objectives import RecoveryEnergy
from gencore.samplers import ConditionalEnergy
from gencore.samplers.energy import energy_and_grad


class Plain(nn.Module):
    """A network that does not know its gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, y, t):
        return self.network(y, t)


@pytest.mark.parametrize("t", [2, torch.tensor([0, 2, 1, 5, 2])])
def test_known_gradients_go_through_all_that_wraps_an_energy(t):
    """Of the level, given what is observed, given noisy points: those of autograd in the whole."""
    torch.manual_seed(0)
    network = TimeMLPEnergy(3, (8, 8), num_time_features=8).double()
    y, noisy, observed = torch.randn(3, 5, 3, dtype=torch.float64)
    noise_std = torch.tensor([0.3, 1.0, torch.inf, 2.0, 0.5], dtype=torch.float64)
    is_free = torch.tensor([[True, False, True]])
    factor = 1.7 if isinstance(t, int) else torch.arange(1.0, 6.0, dtype=torch.float64)

    def energy(of):
        level = ConditionalEnergy(LevelEnergy(of, t, factor), observed, is_free)
        return RecoveryEnergy(level, noisy, noise_std)

    whole = energy(network)
    found = energy_and_grad(whole, y)
    torch.testing.assert_close(found, energy_and_grad(whole.__call__, y))
    torch.testing.assert_close(energy_and_grad(energy(Plain(network)), y), found)


def test_bad_input():
    energy = LevelEnergy(TimeMLPEnergy(2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="got 3 points; expected 2"):
        energy(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="expected int64"):
        LevelEnergy(TimeMLPEnergy(2), torch.tensor([1.0]))
