"""Parallel tempering: a mixture that one chain cannot cross, and the kernels it is made of."""

import math

import pytest
import torch
from testing.chain_testing import Counted, assert_means, key, normal, quadratic

from gencore.ops import split_key
from gencore.samplers import Langevin, NonFiniteWarning, ParallelTempering

WEIGHT, DISTANCE = 0.7, 5.0


def mixture(x):
    """0.7 N(5, 1) + 0.3 N(−5, 1): between the modes lies a barrier of 12."""
    modes = torch.stack([x - DISTANCE, x + DISTANCE], -1).squeeze(1)
    weights = torch.tensor([WEIGHT, 1 - WEIGHT], device=x.device)
    return -torch.logsumexp(weights.log() - 0.5 * modes.square(), 1)


def test_it_recovers_the_weights_of_a_mixture_where_one_chain_does_not():
    start = torch.full((2000, 1), -DISTANCE)
    beta = (1.0, 0.45, 0.2, 0.08, 0.02)
    sampler = ParallelTempering(mixture, beta, [0.3 / b for b in beta])
    x, info = sampler.sample(start, 500, key=key(1), return_info=True)
    mean = (2 * WEIGHT - 1) * DISTANCE
    assert_means(torch.cat([x > 0, x, x.square()], 1), [WEIGHT, mean, 1 + DISTANCE**2])
    assert (info.swap_rate > 0.2).all()
    assert (info.move_rate > 0.3).all()
    alone = Langevin(mixture, 0.3).sample(start, 500, key=key(1))
    assert (alone > 0).double().mean() < 0.05


def test_every_replica_has_its_temperature():
    """With exact moves and exchanges, replica r has the variance 1/(β_r λ), without bias."""
    beta = torch.tensor([1.0, 0.5, 0.2])
    sampler = ParallelTempering(quadratic(2.0), beta.tolist(), [0.4, 0.8, 2.0])
    state = sampler.init(torch.zeros(20_000, 1))
    for step_key in split_key(key(2), 60):
        state, _ = sampler.step(state, key=step_key)
    assert_means(state.position.squeeze(2).T.square(), 1 / (2 * beta))
    torch.testing.assert_close(state.energy, state.position.squeeze(2).square())
    torch.testing.assert_close(state.grad, 2 * state.position)


def test_one_replica_is_a_langevin_chain():
    x = normal(5, 2)
    sampler = ParallelTempering(quadratic(), [1.0], 0.1, kernel="langevin")
    expected = Langevin(quadratic(), 0.1).sample(x, 7, key=key(3))
    torch.testing.assert_close(sampler.sample(x, 7, key=key(3)), expected)


def test_a_langevin_move_by_its_moments():
    """From x₀, N((1 − a_r β_r λ)x₀, 2a_r); exchanges leave sums over the replicas as they are."""
    beta, a, start = torch.tensor([1.0, 0.25]), torch.tensor([0.4, 1.6]), 3.0
    sampler = ParallelTempering(quadratic(0.5), beta.tolist(), a.tolist(), kernel="langevin")
    state, _ = sampler.step(sampler.init(torch.full((20_000, 1), start)), key=key(5))
    x = state.position.squeeze(2)
    mean = (1 - 0.5 * a * beta) * start
    sums = torch.stack([x.sum(0), x.square().sum(0)], 1)
    assert_means(sums, [mean.sum(), (mean.square() + 2 * a).sum()])


@pytest.mark.parametrize("kernel", ["langevin", "mala"])
class TestEitherKernel:
    def sampler(self, kernel, energy=None):
        return ParallelTempering(energy or quadratic(), (1.0, 0.4, 0.1), 0.3, kernel=kernel)

    def test_repeated_steps_are_a_sample(self, kernel, device):
        sampler, x = self.sampler(kernel), normal(6, 2, device=device)
        trajectory, info = sampler.sample(
            x, 5, key=key(6, device), return_trajectory=True, return_info=True
        )
        state, rates = sampler.init(x), []
        for number, step_key in enumerate(split_key(key(6, device), 5)):
            before = [t.clone() for t in state[:3]]
            given, (state, step_info) = state, sampler.step(state, key=step_key)
            assert all(map(torch.equal, given[:3], before))
            assert torch.equal(state.position[0], trajectory[number])
            torch.testing.assert_close(state.energy, 0.5 * state.position.square().sum(2))
            torch.testing.assert_close(state.grad, state.position)
            untried = step_info.swap_rate.isnan().tolist()
            assert untried == ([False, True] if number % 2 == 0 else [True, False])
            rates.append(step_info.swap_rate)
        torch.testing.assert_close(info.swap_rate, torch.stack(rates).nanmean(0))
        thinned = sampler.sample(x, 4, key=key(6, device), return_trajectory=True, thin=2)
        assert torch.equal(thinned, trajectory[1:4:2])
        assert torch.equal(sampler.sample(x, 5, key=key(6, device)), trajectory[-1])

    def test_parts_of_a_batch_run_the_chains_of_the_whole(self, kernel):
        sampler, x = self.sampler(kernel), normal(9, 3)
        whole = sampler.sample(x, 6, key=key(7))
        parts = [
            sampler.sample(x[first:last], 6, key=key(7), first_element=3 * first)
            for first, last in ((0, 2), (2, 9))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)

    def test_a_step_costs_one_call_of_the_energy(self, kernel):
        energy = Counted(quadratic())
        self.sampler(kernel, energy).sample(torch.zeros(3, 2), 4)
        assert energy.calls == 5

    def test_half_precision_and_images(self, kernel):
        x = normal(4, 1, 3, 3, dtype=torch.bfloat16)
        result = self.sampler(kernel).sample(x, 3)
        assert result.dtype == x.dtype
        assert result.shape == x.shape
        assert self.sampler(kernel).init(x).energy.dtype == torch.float32

    def test_nothing_to_do(self, kernel):
        x = normal(3, 2)
        assert torch.equal(self.sampler(kernel).sample(x, 0), x)
        result, info = self.sampler(kernel).sample(x, 0, return_trajectory=True, return_info=True)
        assert result.shape == (0, 3, 2)
        assert info.swap_rate.isnan().all()
        assert self.sampler(kernel).sample(torch.zeros(0, 2), 2).shape == (0, 2)


def test_a_langevin_replica_that_leaves_is_reported():
    sampler = ParallelTempering(lambda x: x.pow(4).sum(1), (1.0, 0.5), 5.0, kernel="langevin")
    with pytest.warns(NonFiniteWarning, match="ParallelTempering: 3 of 3 chains"):
        sampler.sample(torch.full((3, 1), 4.0), 8)


def test_mala_stays_where_the_energy_is_finite():
    """E = −log x + x on x > 0."""

    def energy(x):
        return torch.where(x > 0, x - x.clamp(min=1e-30).log(), math.inf).sum(1)

    x = ParallelTempering(energy, (1.0, 0.5), 1.0).sample(torch.ones(500, 1), 30, key=key(8))
    assert (x > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inverse_temperatures": ()}, "inverse_temperatures are"),
        ({"inverse_temperatures": (0.5, 0.1)}, "fall from 1"),
        ({"inverse_temperatures": (1.0, 1.0)}, "fall from 1"),
        ({"inverse_temperatures": (1.0, -0.1)}, "not negative"),
        ({"step_size": 0.0}, "step_size is 0.0; expected a positive number"),
        ({"step_size": [0.1, 0.2, 0.3]}, "one for each of the 2 inverse temperatures"),
        ({"kernel": "gibbs"}, "kernel is 'gibbs'; expected one of langevin, mala"),
    ],
    ids=str,
)
def test_bad_settings_are_explained(settings, message):
    with pytest.raises(ValueError, match=message):
        ParallelTempering(
            **{
                "energy": quadratic(),
                "inverse_temperatures": (1.0, 0.5),
                "step_size": 0.1,
                **settings,
            }
        )


def test_bad_starts_are_explained():
    sampler = ParallelTempering(lambda x: x.log().sum(1), (1.0, 0.5), 0.1)
    with pytest.raises(ValueError, match="1 of 2 chains start where the energy"):
        sampler.sample(torch.tensor([[1.0], [0.0]]), 3)
    with pytest.raises(ValueError, match="x is a scalar"):
        sampler.init(torch.tensor(1.0))
    state = sampler.init(torch.ones(2, 3))
    with pytest.raises(ValueError, match="first_element is 4"):
        sampler.step(state, first_element=4)
