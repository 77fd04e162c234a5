"""Annealed importance sampling against partition functions in closed form."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch

from gencore.models import CouplingFlow
from gencore.nn import MLPEnergy
from gencore.samplers import MALA, AnnealedImportance, GaussianBase, annealing_schedule

DIM, PRECISION = 4, 6.0
LOG_Z = 0.5 * DIM * math.log(2 * math.pi / PRECISION)


def shifted(x):
    """E = ½λ‖x − 1‖², without its constant."""
    return 0.5 * PRECISION * (x - 1).square().sum(1)


def key(seed):
    return torch.tensor([seed, 0])


def sampler(energy=shifted, num_steps=60, *, base=None, kind="linear", step_size=0.08, **options):
    return AnnealedImportance(
        energy,
        base or GaussianBase((DIM,)),
        annealing_schedule(kind, num_steps),
        partial(MALA, step_size=step_size),
        **options,
    )


def exact_samples(num, seed):
    noise = torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed))
    return 1 + noise / math.sqrt(PRECISION)


class Still(NamedTuple):
    position: torch.Tensor
    acceptance_rate: torch.Tensor


class NoMove:
    """The transition that stays: what is left is importance sampling."""

    def __init__(self, energy):
        pass

    def init(self, x):
        return Still(x, torch.zeros(len(x)))

    def step(self, state, *, key=None, first_element=0):
        return state, state


@pytest.mark.parametrize("kind", ["linear", "sigmoid"])
def test_log_z_of_a_gaussian(kind):
    result = sampler(kind=kind).run(4000, key=key(1))
    assert abs(result.log_z - LOG_Z) < 0.05
    assert abs(result.log_z - LOG_Z) < 4 * result.standard_error
    assert result.log_weights.dtype == torch.float64
    assert 1 < result.effective_sample_size < 4000
    assert result.acceptance_rate.shape == (60,)
    assert (result.acceptance_rate > 0.5).all()


@pytest.mark.parametrize("num_steps", [2, 10])
def test_forward_weights_are_unbiased(num_steps):
    """E[w] = Z for any schedule, also a coarse one (4 standard errors of 40,000 chains)."""
    weights = sampler(num_steps=num_steps, transitions=2).run(40_000, key=key(2)).log_weights.exp()
    error = weights.std().item() / math.sqrt(len(weights))
    assert abs(weights.mean().item() - math.exp(LOG_Z)) < 4 * error
    assert error < 0.1 * math.exp(LOG_Z)


@pytest.mark.parametrize("num_steps", [2, 8])
def test_reverse_weights_are_unbiased(num_steps):
    """E[1/w] = 1/Z; from a base near the target, since 1/w has no variance from a wide one."""
    ais = sampler(num_steps=num_steps, base=GaussianBase((DIM,), std=0.5, mean=0.8))
    inverse = (-ais.reverse(exact_samples(40_000, 3), key=key(3)).log_weights).exp()
    error = inverse.std().item() / math.sqrt(len(inverse))
    assert abs(inverse.mean().item() - math.exp(-LOG_Z)) < 4 * error
    assert error < 0.02 * math.exp(-LOG_Z)


def test_the_two_directions_enclose_log_z():
    """Mean log-weights are bounds with a margin of many errors, and close with finer schedules."""
    gaps = []
    for num_steps in (5, 20, 80):
        ais = sampler(num_steps=num_steps)
        lower = ais.run(3000, key=key(4)).log_weights
        upper = ais.reverse(exact_samples(3000, 4), key=key(5)).log_weights
        for weights, sign in ((lower, 1), (upper, -1)):
            error = weights.std().item() / math.sqrt(len(weights))
            assert sign * (LOG_Z - weights.mean().item()) > 4 * error
        gaps.append((upper.mean() - lower.mean()).item())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_estimates_of_small_runs_are_bounds_on_average():
    """log mean w over 4 chains is low and −log mean 1/w is high, for both directions' averages."""
    ais = sampler(num_steps=10)
    forward = ais.run(4000, key=key(6)).log_weights.reshape(-1, 4)
    backward = ais.reverse(exact_samples(4000, 6), key=key(7)).log_weights.reshape(-1, 4)
    lower = torch.logsumexp(forward, 1) - math.log(4)
    upper = -(torch.logsumexp(-backward, 1) - math.log(4))
    for estimates, sign in ((lower, 1), (upper, -1)):
        error = estimates.std().item() / math.sqrt(len(estimates))
        assert sign * (LOG_Z - estimates.mean().item()) > 4 * error


def test_without_transitions_it_is_importance_sampling():
    """The increments add up to log p(x)/p₀(x) at the base's samples, whatever the schedule."""
    base = GaussianBase((DIM,), std=1.5)
    ais = AnnealedImportance(shifted, base, annealing_schedule("sigmoid", 7), NoMove)
    result = ais.run(50, key=key(8))
    x = result.samples
    normal = torch.distributions.Normal(0, 1.5).log_prob(x).sum(1)
    torch.testing.assert_close(
        result.log_weights, (-shifted(x) - normal).double(), rtol=1e-5, atol=1e-4
    )
    back = ais.reverse(x, key=key(9))
    torch.testing.assert_close(back.log_weights, result.log_weights)
    weights = result.log_weights.exp()
    assert result.log_z == pytest.approx(weights.mean().log().item())
    assert back.log_z == pytest.approx(-(1 / weights).mean().log().item())
    relative_error = (weights.std() / weights.mean() / math.sqrt(50)).item()
    assert result.standard_error == pytest.approx(relative_error)
    ess = (weights.sum() ** 2 / (weights**2).sum()).item()
    assert result.effective_sample_size == pytest.approx(ess)


def test_equal_densities_have_equal_weights():
    """Where the energy is the base's with a constant, log w is that constant for every chain."""
    base = GaussianBase((DIM,))
    ais = sampler(lambda x: -base.log_prob(x) - 3.0, num_steps=5)
    result = ais.run(20, key=key(10))
    torch.testing.assert_close(
        result.log_weights, torch.full((20,), 3.0).double(), atol=1e-5, rtol=0
    )
    assert result.standard_error < 1e-5
    assert result.effective_sample_size == pytest.approx(20)


def test_the_chains_end_in_the_target():
    """With many transitions at β = 1: mean 1 and variance 1/λ, within 4 standard errors."""
    x = sampler(num_steps=30, transitions=5).run(10_000, key=key(11)).samples
    for value, expected, error in (
        (x.mean(), 1.0, math.sqrt(1 / PRECISION / x.numel())),
        (x.var(), 1 / PRECISION, math.sqrt(2 / x.numel()) / PRECISION),
    ):
        assert abs(value.item() - expected) < 4 * error


def test_processes_run_the_parts_of_one_run():
    ais = sampler(num_steps=5, transitions=2)
    whole = ais.run(12, key=key(12))
    parts = [ais.run(6, key=key(12), first=first) for first in (0, 6)]
    torch.testing.assert_close(torch.cat([p.log_weights for p in parts]), whole.log_weights)
    torch.testing.assert_close(torch.cat([p.samples for p in parts]), whole.samples)
    seeded = [ais.run(4, generator=torch.Generator().manual_seed(1)).log_z for _ in range(2)]
    assert seeded[0] == seeded[1]


@pytest.mark.parametrize("kind", ["linear", "sigmoid"])
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_schedules_increase_from_0_to_1_and_are_symmetric(kind, num_steps):
    betas = annealing_schedule(kind, num_steps)
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas + betas.flip(0), torch.ones_like(betas))


def test_the_sigmoid_is_that_of_the_paper():
    betas = annealing_schedule("sigmoid", 4)
    raw = [1 / (1 + math.exp(-4 * (2 * t / 4 - 1))) for t in range(5)]
    expected = [(b - raw[0]) / (raw[4] - raw[0]) for b in raw]
    torch.testing.assert_close(betas, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("betas", [[0.0], [0.1, 1.0], [0.0, 0.9], [0.0, 0.5, 0.5, 1.0]])
def test_other_schedules_are_refused(betas):
    with pytest.raises(ValueError, match=r"betas are .* that increase from 0 to 1"):
        AnnealedImportance(shifted, GaussianBase((DIM,)), torch.tensor(betas), NoMove)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="transitions is 0"):
        sampler(transitions=0)
    with pytest.raises(ValueError, match="'cubic'; expected one of linear, sigmoid"):
        annealing_schedule("cubic", 3)
    with pytest.raises(ValueError, match="num_steps is 0"):
        annealing_schedule("linear", 0)
    with pytest.raises(ValueError, match="sharpness is 0"):
        annealing_schedule("sigmoid", 3, sharpness=0)


def test_a_base_has_the_dtype_of_the_energy():
    """A float64 network takes no others, and the chains stay float64."""
    torch.manual_seed(0)
    energy = MLPEnergy(DIM, (8,), prior_precision=PRECISION).double()
    ais = sampler(energy, base=GaussianBase((DIM,), dtype=torch.float64), num_steps=30)
    result = ais.run(500, key=key(13))
    assert result.samples.dtype == torch.float64
    assert GaussianBase((DIM,), mean=torch.ones(DIM)).sample(3, key(1)).dtype == torch.float32


def test_a_flow_is_a_base():
    torch.manual_seed(1)
    flow = CouplingFlow(DIM, num_layers=2, hidden_widths=(8,))
    for parameter in flow.parameters():  # away from the identity
        torch.nn.init.normal_(parameter, std=0.2)
    result = sampler(base=flow, num_steps=60).run(2000, key=key(14))
    assert abs(result.log_z - LOG_Z) < 4 * result.standard_error
    assert result.standard_error < 0.1
    assert not result.samples.requires_grad
    whole, part = (
        sampler(base=flow, num_steps=3).run(n, key=key(15), first=f) for n, f in ((6, 0), (4, 2))
    )
    torch.testing.assert_close(part.samples, whole.samples[2:])
