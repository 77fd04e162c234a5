"""The fully connected energy of a diffusion's levels."""

import pytest
import torch

from gencore.nn import TimeMLPEnergy
from gencore.samplers.energy import energy_and_grad


def network(**options):
    torch.manual_seed(0)
    return TimeMLPEnergy(3, (16, 8), num_time_features=8, **options).double()


def test_its_own_gradient_is_that_of_autograd():
    energy = network(spectral_norm=True).eval()
    y, t = torch.randn(7, 3, dtype=torch.float64), torch.arange(7)
    value, grad = energy.energy_and_grad(y, t)
    expected = energy_and_grad(lambda x: energy(x, t), y)
    torch.testing.assert_close((value, grad), expected)


def test_levels_are_told_apart_row_by_row():
    energy = network()
    y = torch.zeros(2, 3, dtype=torch.float64)
    value = energy(y, torch.tensor([0, 5]))
    assert value[0] != value[1]
    torch.testing.assert_close(energy(y[:1], torch.tensor([5])), value[1:])


def test_spectral_norms_bound_its_gradient():
    energy = network(spectral_norm=True)
    with torch.no_grad():
        for layer in energy.layers:
            layer.parametrizations.weight.original.mul_(50)
            for _ in range(30):
                layer.weight  # noqa: B018 - a power iteration
    y, t = 5 * torch.randn(200, 3, dtype=torch.float64), torch.arange(200) % 6
    _, grad = energy.eval().energy_and_grad(y, t)
    assert grad.norm(dim=1).max() < 1.1**2 + 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeMLPEnergy(2, ()), "a hidden layer at least"),
        (lambda: TimeMLPEnergy(0), "dim is 0"),
        (lambda: network()(torch.zeros(2, 4), torch.zeros(2)), r"expected \[N, 3\]"),
        (lambda: network()(torch.zeros(2, 3), torch.zeros(3)), r"t of shape \[3\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
