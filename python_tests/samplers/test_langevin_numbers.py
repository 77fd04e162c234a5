"""Langevin's numbers: those of its steps to the last bit, and those it has always had."""

import itertools

import pytest
import torch
from testing.chain_testing import key, normal
from torch import nn

from gencore.nn import MLPEnergy
from gencore.ops import langevin_step, mlp_langevin_chain, split_key
from gencore.samplers import HMC, Langevin, LangevinState

SETTINGS = {
    "default": {"step_size": 0.1},
    "no noise": {"step_size": 0.1, "noise_scale": 0.0},
    "clamps": {"step_size": 0.1, "noise_scale": 0.2, "grad_clamp": 0.3, "clamp": (-0.8, 0.9)},
    "prior": {"step_size": 0.1, "prior_precision": 0.7},
    "per chain": {
        "step_size": torch.linspace(0.01, 0.2, 6).double(),
        "noise_scale": torch.linspace(0.0, 0.2, 6).double(),
    },
}

PINNED = {
    "default": [
        0.40452269132728336,
        -1.3618290388440506,
        -0.2915253456140762,
        0.037986917744718754,
        1.2230027513356416,
        1.03584954671079,
    ],
    "no noise": [
        -0.4096603697378899,
        -0.31998361017003907,
        -0.12785465274349142,
        0.12785465274349142,
        0.31998361017003907,
        0.4096603697378899,
    ],
    "clamps": [
        -0.03393844525755221,
        -0.8,
        -0.23034822918205097,
        0.3323567509013341,
        0.8801031931179264,
        0.9,
    ],
    "prior": [
        0.47402753020684335,
        -1.1813668130806714,
        -0.27232250726696333,
        -0.12953703256281565,
        1.0152968130057203,
        0.8198301759971486,
    ],
}


def quartic(x):
    return (x.flatten(1).square() * 0.65 + 0.1 * x.flatten(1) ** 4).sum(1)


def by_steps(sampler, x, num_steps, first_element=0, create_graph=False):
    """The trajectory, one call of the operator after the other."""
    settings = {name: getattr(sampler, name) for name in (
        "step_size", "noise_scale", "prior_precision", "grad_clamp", "clamp"
    )}  # fmt: skip
    states = []
    for step_key in split_key(key(5), num_steps):
        with torch.enable_grad():
            at = x if create_graph else x.detach().requires_grad_()
            value = sampler.energy(at)
            (grad,) = torch.autograd.grad(
                value, at, torch.ones_like(value), create_graph=create_graph
            )
        x = langevin_step(x, grad, **settings, key=step_key, first_element=first_element)
        states.append(x)
    return torch.stack(states)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_chain_is_its_steps(name, dtype):
    sampler, x = Langevin(quartic, **SETTINGS[name]), normal(6, 3).to(dtype)
    expected = by_steps(sampler, x, 4, first_element=5)
    how = {"key": key(5), "first_element": 5}
    assert torch.equal(sampler.sample(x, 4, **how), expected[-1])
    path, info = sampler.sample(x, 4, return_trajectory=True, return_info=True, thin=2, **how)
    assert torch.equal(path, expected[1::2])
    assert info.energy.shape == info.grad_norm.shape == info.is_finite.shape == (2, 6)
    torch.testing.assert_close(info.energy, torch.stack([quartic(expected[i]) for i in (0, 2)]))
    assert torch.equal(sampler.sample(x, 4, differentiable=True, **how).detach(), expected[-1])


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_through_a_chain_are_those_through_its_steps(name):
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    sampler = Langevin(network, **SETTINGS[name])
    x = normal(6, 3, dtype=torch.float64).requires_grad_()
    leaves = (x, *itertools.islice(network.parameters(), 3))  # the last bias moves nothing

    ours, info = sampler.sample(
        x, 3, key=key(5), differentiable=True, return_trajectory=True, return_info=True
    )
    assert not any(part.requires_grad for part in info)
    grads = torch.autograd.grad(ours.square().sum(), leaves)
    expected = torch.autograd.grad(
        by_steps(sampler, x, 3, create_graph=True).square().sum(), leaves
    )
    assert all(map(torch.equal, grads, expected))


def test_a_chain_on_a_network_is_one_kernel():
    network = MLPEnergy(3, (8,))
    x, how = normal(6, 3), {"key": key(5), "first_element": 5}
    ours = Langevin(network, 0.1, grad_clamp=0.3).sample(x, 4, **how)
    settings = {**network.network(), "step_size": 0.1, "grad_clamp": 0.3}
    with torch.no_grad():
        assert torch.equal(ours, mlp_langevin_chain(x, num_steps=4, **settings, **how))


def test_these_numbers_do_not_change():
    """Rounding apart, which differs between machines."""
    start = torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3)
    for name, expected in PINNED.items():
        x = Langevin(quartic, **SETTINGS[name]).sample(start, 8, key=key(7))
        assert x.flatten().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_states_go_the_way_of_a_sample():
    sampler, x = Langevin(quartic, 0.1), normal(6, 3)
    state = sampler.init(x)
    assert isinstance(state, LangevinState)
    for step_key in split_key(key(5), 4):
        state, _ = sampler.step(state, key=step_key)
    assert torch.equal(state.position, sampler.sample(x, 4, key=key(5)))
    assert torch.equal(x, normal(6, 3))


def test_a_step_without_noise_draws_nothing():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    sampler = Langevin.noise_free(quartic, 0.1)
    sampler.step(sampler.init(normal(6, 3)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "sampler", [Langevin(quartic, 0.1), HMC(quartic, 0.1, 2)], ids=["Langevin", "HMC"]
)
def test_chains_and_their_elements_count_the_same_place(sampler):
    x, how = normal(6, 3), {"key": key(5)}
    assert torch.equal(
        sampler.sample(x, 2, first=4, **how), sampler.sample(x, 2, first_element=12, **how)
    )
    state = sampler.init(x)
    assert torch.equal(
        sampler.step(state, first=4, **how)[0].position,
        sampler.step(state, first_element=12, **how)[0].position,
    )
    with pytest.raises(ValueError, match="first is 4 and first_element is 12; expected one of"):
        sampler.sample(x, 2, first=4, first_element=12)


def test_who_cannot_be_differentiated_says_so():
    with pytest.raises(ValueError, match=r"^HMC.sample: differentiable=True is not possible"):
        HMC(quartic, 0.1, 2).sample(normal(6, 3), 2, differentiable=True)
    with pytest.raises(ValueError, match=r"^Langevin.sample: a CUDA graph cannot be"):
        Langevin(quartic, 0.1).sample(normal(6, 3), 2, differentiable=True, cuda_graph=True)
