"""The fully connected energy, and that samplers run the same chains on it in one kernel."""

import pytest
import torch
from torch import nn

from gencore.nn import MLPEnergy
from gencore.samplers import HMC, MALA, Langevin, NonFiniteWarning

KEY = torch.tensor([2, 7])


@pytest.fixture
def energy(device):
    torch.manual_seed(0)
    return MLPEnergy(3, (16, 8), "tanh", prior_precision=0.5).to(device)


def plain(energy):
    """The same energy as a bare function, which no kernel knows."""
    return lambda x: energy(x)


def test_is_the_network_it_says(device):
    torch.manual_seed(0)
    energy = MLPEnergy(3, (16, 8), "softplus", prior_precision=0.5).to(device)
    first, second, last = energy.layers
    stack = nn.Sequential(first, nn.Softplus(), second, nn.Softplus(), last)
    x = torch.randn(7, 3, device=device)
    torch.testing.assert_close(energy(x), stack(x).squeeze(1) + 0.25 * x.square().sum(1))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise_scale": 0.2, "prior_precision": 0.3, "clamp": (-1.0, 1.5)},
        {"grad_clamp": 0.1},  # clips the prior's gradient too, which the kernel does not
    ],
    ids=str,
)
def test_langevin_samples_the_same_chains_either_way(energy, settings, device):
    x = torch.randn(40, 3, device=device)
    how = {"key": KEY.to(device), "first_element": 12}
    ours = Langevin(energy, 0.05, **settings).sample(x, 30, **how)
    steps = Langevin(plain(energy), 0.05, **settings).sample(x, 30, **how)
    torch.testing.assert_close(ours, steps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inverse_mass", [1.0, 0.7, torch.tensor([[0.5, 1.0, 1.5]])], ids=str)
def test_hmc_and_mala_sample_the_same_chains_either_way(energy, inverse_mass, device):
    x = torch.randn(40, 3, device=device)
    if isinstance(inverse_mass, torch.Tensor):
        inverse_mass = inverse_mass.to(device)
    for kind, settings in ((HMC, (0.4, 3)), (MALA, (0.1,))):
        how = {"key": KEY.to(device), "first_element": 12}
        ours = kind(energy, *settings, inverse_mass=inverse_mass).sample(x, 10, **how)
        steps = kind(plain(energy), *settings, inverse_mass=inverse_mass).sample(x, 10, **how)
        torch.testing.assert_close(ours, steps, rtol=1e-4, atol=1e-5)


def test_trajectories_and_parameters_are_left_alone(energy, device):
    x = torch.randn(5, 3, device=device)
    sampler = Langevin(energy, 0.05)
    trajectory = sampler.sample(x, 6, return_trajectory=True, thin=2, key=KEY.to(device))
    assert trajectory.shape == (3, 5, 3)
    assert torch.equal(trajectory[-1], sampler.sample(x, 6, key=KEY.to(device)))
    assert not trajectory.requires_grad
    assert all(p.grad is None and p.requires_grad for p in energy.parameters())


def test_a_differentiable_sample_reaches_the_parameters(energy, device):
    sample = Langevin.noise_free(energy, 0.05).sample(
        torch.randn(5, 3, device=device), 3, differentiable=True
    )
    sample.square().sum().backward()
    assert all(p.grad is not None for p in energy.layers[0].parameters())


def test_another_forward_or_a_hook_is_respected(device):
    class Doubled(MLPEnergy):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    doubled = Doubled(2, (8,)).to(device)
    assert doubled.network() is None
    x = torch.randn(6, 2, device=device)
    expected = Langevin.noise_free(plain(doubled), 0.1).sample(x, 5)
    torch.testing.assert_close(Langevin.noise_free(doubled, 0.1).sample(x, 5), expected)

    hooked = MLPEnergy(2, (8,)).to(device)
    assert hooked.network() is not None
    hooked.layers[0].register_forward_hook(lambda *_: None)
    assert hooked.network() is None


def test_chains_that_leave_the_numbers_are_reported(device):
    energy = MLPEnergy(2, (), prior_precision=-1.0).to(device)
    with pytest.warns(NonFiniteWarning, match="3 of 3 chains"):
        Langevin(energy, 1e30).sample(torch.ones(3, 2, device=device), 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0, (4,)), "dim is 0"), ((2, (4, 0)), "hidden_widths"), ((2, (4,) * 5), "at most four")],
)
def test_wrong_widths_are_named(arguments, words):
    with pytest.raises(ValueError, match=rf"^MLPEnergy: .*{words}"):
        MLPEnergy(*arguments)


def test_wrong_inputs_are_named(energy, device):
    with pytest.raises(ValueError, match=r"mlp_energy: .*\[16, 3\].*expected \[H, 4\]"):
        energy(torch.zeros(5, 4, device=device))
