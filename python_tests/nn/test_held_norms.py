"""Spectral norms in training: a chain follows one energy, and a loss compares terms of one."""

import warnings
from copy import deepcopy
from functools import partial

import pytest
import torch
from testing.chain_testing import key, normal
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from gencore.models import FlowEBM, ShortRunEBM, contrastive_loss
from gencore.nn.held_norms import held_norms
from gencore.samplers import (
    HMC,
    MALA,
    NUTS,
    SGHMC,
    SGLD,
    AnnealedImportance,
    GaussianBase,
    Langevin,
    ParallelTempering,
    annealing_schedule,
)


def older(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is to be replaced by the other
        return nn.utils.spectral_norm(layer)


@pytest.fixture(params=[parametrizations.spectral_norm, older])
def energy(request):
    """In training, with norms that a few power iterations do not settle."""
    torch.manual_seed(0)
    norm = request.param
    network = nn.Sequential(
        norm(nn.Linear(3, 40)), nn.SiLU(), norm(nn.Linear(40, 40)), nn.SiLU(),
        norm(nn.Linear(40, 1)), nn.Flatten(0),
    ).double()  # fmt: skip
    for name, buffer in network.named_buffers():
        if name.endswith(("_u", "_v")):
            buffer.copy_(nn.functional.normalize(torch.randn_like(buffer), dim=0))
    return network


def norms(module):
    return torch.cat([b.flatten() for b in module.buffers()]).clone()


def points(num, seed):
    return normal(num, 3, seed=seed, dtype=torch.float64)


def test_a_call_in_training_changes_the_energy(energy):
    """What the rest of this file is about."""
    x = points(4, 0)
    assert not torch.equal(energy(x), energy(x))
    with held_norms(energy):
        assert torch.equal(energy(x), energy(x))
    assert energy.training
    assert all(module.training for module in energy.modules())
    assert not torch.equal(energy(x), energy(x))


@pytest.mark.parametrize("generator_weight", [0.0, 1.0])
def test_all_terms_of_a_step_are_of_one_energy(energy, generator_weight):
    """That after one power iteration, which is left as it was for the next step."""
    once = deepcopy(energy)
    x, start = points(6, 1), points(6, 2)
    once(x)
    ebm = ShortRunEBM(energy, (3,), num_steps=3, noise_scale=0.1, generator_weight=generator_weight)
    terms = ebm(x, start, key=key(1))
    assert torch.equal(norms(energy), norms(once))
    energy.eval()
    samples = ebm.dynamics.sample(start, 3, key=key(1))
    assert torch.equal(terms.samples, samples)
    assert torch.equal(terms.energy_data, energy(x).mean())
    assert torch.equal(terms.energy_samples, energy(samples).mean())
    expected = contrastive_loss(energy, x, samples, generator_weight=generator_weight)
    torch.testing.assert_close(terms.loss, expected.loss)


def test_the_terms_of_a_loss_on_its_own_are_of_one_energy(energy):
    x, samples = points(6, 1), points(6, 2)
    once = deepcopy(energy)
    once(x)
    terms = contrastive_loss(energy, x, samples, energy_penalty=0.5)
    assert torch.equal(norms(energy), norms(once))
    energy.eval()
    expected = contrastive_loss(energy, x, samples, energy_penalty=0.5)
    for term, other in zip(terms, expected, strict=True):
        assert torch.equal(term, other)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_loss_without_gradients_and_a_cache_leave_training_as_it_is(energy, weight):
    ebm = ShortRunEBM(energy, (3,), num_steps=2, generator_weight=weight)
    x, start = points(6, 1), points(6, 2)
    with torch.inference_mode():
        assert not ebm(x, start).loss.requires_grad
    with parametrize.cached():
        contrastive_loss(energy, x, start).loss.backward()
    assert all(p.grad is not None for p in energy.parameters())


@pytest.mark.parametrize("objective", ["ml", "ml+gen", "flow_mle"])
def test_the_objectives_of_a_flow_are_of_one_energy(energy, objective):
    ebm = FlowEBM(energy, (3,), num_steps=2, objective=objective)
    x, start = points(4, 1), points(4, 2)
    once = deepcopy(energy)
    once(x)
    loss = ebm(x, start).loss
    assert torch.equal(norms(energy), norms(once))
    energy.eval()
    torch.testing.assert_close(loss, ebm(x, start).loss)
    energy.train()
    before = norms(energy)
    ebm.sample(3, key=key(1))
    assert torch.equal(norms(energy), before)


SAMPLERS = {
    "Langevin": lambda energy: Langevin(energy, 0.1),
    "MALA": lambda energy: MALA(energy, 0.1),
    "HMC": lambda energy: HMC(energy, 0.1, 2),
    "NUTS": lambda energy: NUTS(energy, 0.5, max_tree_depth=3),
    "SGLD": lambda energy: SGLD(energy, 0.1),
    "SGHMC": lambda energy: SGHMC(energy, 0.1, 1.0),
    "ParallelTempering": lambda energy: ParallelTempering(energy, (1.0, 0.5), 0.1),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_chains_leave_the_energy_as_it_was(name, energy):
    sampler, before = SAMPLERS[name](energy), norms(energy)
    x = sampler.sample(points(5, 3), 4, key=key(2))
    if hasattr(sampler, "init"):
        sampler.step(sampler.init(x), key=key(3))
    assert torch.equal(norms(energy), before)
    assert energy.training
    energy.eval()
    assert torch.equal(x, sampler.sample(points(5, 3), 4, key=key(2)))


def test_annealed_importance_is_of_one_energy(energy):
    betas, kernel = annealing_schedule("linear", 3), partial(MALA, step_size=0.1)
    sampler = AnnealedImportance(energy.float(), GaussianBase((3,)), betas, kernel)
    before = norms(energy)
    sampler.run(5, key=key(4))
    sampler.reverse(points(5, 4).float(), key=key(4))
    assert torch.equal(norms(energy), before)
