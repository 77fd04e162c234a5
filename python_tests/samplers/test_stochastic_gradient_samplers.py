"""SGLD, SGHMC and SGRLD against the closed forms of their discretised chains."""

import math

import pytest
import torch
from testing.chain_testing import Counted, assert_means, key, normal, quadratic

from gencore.ops import split_key
from gencore.samplers import (
    SGHMC,
    SGLD,
    SGRLD,
    Langevin,
    NonFiniteWarning,
    polynomial_decay,
)

CHAINS = 20_000


def noisy(precision, variance, seed=0):
    """λx²/2 whose gradient is λx + b with fresh b ~ N(0, V) for each chain and call."""
    generator = torch.Generator().manual_seed(seed)

    def energy(x):
        b = math.sqrt(variance) * torch.randn(x.shape, generator=generator)
        return (0.5 * precision * x.square() + b * x).sum(1)

    return energy


class TestSGLD:
    @pytest.mark.parametrize(("precision", "step", "variance"), [(1.0, 0.4, 0.0), (2.0, 0.2, 3.0)])
    def test_stationary_variance(self, precision, step, variance):
        """v = (1 + aV/2) / (λ(1 − aλ/2)).

        x' = (1 − aλ)x − ab + √(2a)ξ with independent terms, so that a stationary v solves
        v = (1 − aλ)²v + a²V + 2a, and v(2aλ − a²λ²) = 2a + a²V.
        """
        sampler = SGLD(noisy(precision, variance), step)
        x = sampler.sample(torch.zeros(CHAINS, 1), 60, key=key(1))
        expected = (1 + step * variance / 2) / (precision * (1 - step * precision / 2))
        assert_means(torch.cat([x, x.square()], 1), [0.0, expected])

    def test_a_schedule_of_steps(self):
        """v_{t+1} = (1 − a_tλ)²v_t + 2a_t, from v_0 = 0, with a_t = 0.5 (2 + t)^−0.6."""
        schedule = polynomial_decay(0.5, 2.0, 0.6)
        variance = 0.0
        for step in range(12):
            a = 0.5 * (2 + step) ** -0.6
            variance = (1 - 1.5 * a) ** 2 * variance + 2 * a
        x = SGLD(quadratic(1.5), schedule).sample(torch.zeros(CHAINS, 1), 12, key=key(2))
        assert_means(x.square(), [variance])

    def test_the_energy_is_called_anew_and_once_a_step(self):
        energy = Counted(quadratic())
        SGLD(energy, 0.1).sample(torch.zeros(3, 2), 9)
        assert energy.calls == 9

    def test_with_an_exact_energy_it_is_langevin(self):
        """Up to the draw: the first is the momenta's, which SGLD has none of."""
        x, later = normal(5, 2), key(3) + torch.tensor([0, 1])
        sgld = SGLD(quadratic(), 0.1).sample(x, 7, key=key(3))
        torch.testing.assert_close(sgld, Langevin(quadratic(), 0.1).sample(x, 7, key=later))


class TestSGHMC:
    @pytest.mark.parametrize(
        ("precision", "step", "friction", "mass"),
        [(1.0, 0.5, 1.0, 1.0), (2.0, 0.3, 0.5, 1.0), (0.5, 0.4, 2.0, 2.0)],
    )
    @pytest.mark.parametrize("variance", [0.0, 1.5])
    def test_stationary_moments(self, precision, step, friction, mass, variance):
        """⟨p²⟩ = P/w, ⟨xp⟩ = εP/2 and ⟨x²⟩ = (1 − εCw/2)P/λ, P = 1/(1 − εCw/2 − ε²wλ/4), w = 1/m.

        First with w = 1, α = 1 − εC and s² = 2Cε in all: p' = αp − ελx + sξ and x' = x + εp'.
        Stationarity of ⟨x²⟩: 2⟨xp'⟩ = −εP, where ⟨xp'⟩ = α⟨xp⟩ − ελ⟨x²⟩. Of ⟨xp⟩: it equals
        ⟨x'p'⟩ = ⟨xp'⟩ + εP = εP/2. Both give ελ⟨x²⟩ = (1 + α)εP/2, so ⟨x²⟩ = (1 − εC/2)P/λ. Of
        ⟨p²⟩: P = α²P + ε²λ²⟨x²⟩ − 2αελ⟨xp⟩ + s²; inserted, P(1 − α)(1 + α − ε²λ/2) = 2Cε, with
        1 − α = εC. A mass is the change of units p√w, ε√w, C√w. A gradient of variance V adds ε²V
        to the noise, which the given noise scale leaves out, so that the moments stay.
        """
        scale = math.sqrt(2 * friction * step - step**2 * variance)
        sampler = SGHMC(
            noisy(precision, variance), step, friction, inverse_mass=mass,
            noise_scale=scale if variance else None,
        )  # fmt: skip
        state = sampler.init(torch.zeros(CHAINS, 1), key=key(4))
        for step_key in split_key(key(5), 80):
            state, _ = sampler.step(state, key=step_key)
        x, p = state.position, state.momentum
        drag = 1 - step * friction * mass / 2
        kinetic = 1 / (drag - step**2 * mass * precision / 4)
        expected = [drag * kinetic / precision, step * kinetic / 2, kinetic / mass]
        assert_means(torch.cat([x * x, x * p, p * p], 1), expected)

    def test_momenta_start_in_their_distribution(self):
        mass = torch.tensor([[0.5, 4.0]])
        momentum = SGHMC(quadratic(), 0.1, 1.0, inverse_mass=mass).init(torch.zeros(CHAINS, 2))[1]
        assert_means(momentum.square(), 1 / mass[0])

    def test_a_state_without_momentum_is_explained(self):
        with pytest.raises(ValueError, match="the state has no momentum"):
            SGHMC(quadratic(), 0.1, 1.0).step(SGLD(quadratic(), 0.1).init(torch.zeros(2, 1)))


class TestSGRLD:
    """Gamma(k) with G = x: E = x − (k − 1) log x, Γ = 1."""

    SHAPE, STEP = 20.0, 0.1

    def moments(self, with_correction):
        def energy(x):
            return (x - (self.SHAPE - 1) * x.log()).sum(1)

        def metric(x):
            return x, torch.ones_like(x) if with_correction else None

        start = torch.full((CHAINS, 1), self.SHAPE)
        x = SGRLD(energy, self.STEP, metric).sample(start, 80, key=key(6))
        return x, (x - x.mean()).square()

    def test_stationary_moments(self):
        """Mean k and variance k/(1 − ε/2).

        The drift is linear: x' = x − ε(x − (k − 1) − 1) + √(2εx)ξ, so that the mean is k, and the
        variance solves v = (1 − ε)²v + 2εk.
        """
        x, square = self.moments(with_correction=True)
        assert_means(x, [self.SHAPE])
        assert_means(square, [self.SHAPE / (1 - self.STEP / 2)])

    def test_without_the_correction_the_metric_biases(self):
        """Then the chain samples exp(−E)/G, which is Gamma(k − 1)."""
        x, square = self.moments(with_correction=False)
        assert_means(x, [self.SHAPE - 1])
        assert_means(square, [(self.SHAPE - 1) / (1 - self.STEP / 2)])

    def test_a_constant_metric_is_a_step_size_for_each_dimension(self):
        """v = 1/(λ(1 − εGλ/2)) for a Gaussian."""
        diagonal = torch.tensor([1.0, 0.2])
        sampler = SGRLD(quadratic(2.0), 0.3, lambda x: (diagonal.expand_as(x), None))
        x = sampler.sample(torch.zeros(CHAINS, 2), 80, key=key(7))
        assert_means(x.square(), 1 / (2 * (1 - 0.3 * diagonal)))


SAMPLERS = {
    "sgld": SGLD(quadratic(), polynomial_decay(0.2, 1.0, 0.3)),
    "sghmc": SGHMC(quadratic(), 0.2, 1.5, inverse_mass=2.0),
    "sgrld": SGRLD(quadratic(), 0.1, lambda x: (1 + x.square(), 2 * x)),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
class TestEverySampler:
    def test_repeated_steps_are_a_sample(self, sampler, device):
        x = normal(5, 2, device=device)
        first, *keys = split_key(key(8, device), 7)
        trajectory, infos = sampler.sample(
            x, 6, key=key(8, device), return_trajectory=True, return_info=True
        )
        state = sampler.init(x, key=first)
        for number, step_key in enumerate(keys):
            before = state.position
            state, info = sampler.step(state, key=step_key)
            torch.testing.assert_close(state.position, trajectory[number])
            torch.testing.assert_close(info.energy, 0.5 * before.square().sum(1))
            for kept, now in zip(infos, info, strict=True):
                torch.testing.assert_close(kept[number], now)
        assert state.num_steps == 6
        thinned, _ = sampler.sample(
            x, 6, key=key(8, device), return_trajectory=True, return_info=True, thin=3
        )
        assert torch.equal(thinned, trajectory[2::3])
        assert torch.equal(sampler.sample(x, 6, key=key(8, device)), trajectory[-1])
        assert torch.equal(x, normal(5, 2, device=device))

    def test_parts_of_a_batch_run_the_chains_of_the_whole(self, sampler):
        x = normal(7, 3)
        whole = sampler.sample(x, 5, key=key(9))
        parts = [
            sampler.sample(x[first:last], 5, key=key(9), first_element=3 * first)
            for first, last in ((0, 2), (2, 7))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6)

    def test_the_same_seed_gives_the_same_chains(self, sampler):
        def seeded(seed):
            generator = torch.Generator().manual_seed(seed)
            return sampler.sample(torch.zeros(7, 3), 4, generator=generator)

        assert torch.equal(seeded(0), seeded(0))
        assert not torch.equal(seeded(0), seeded(1))

    def test_nothing_to_do(self, sampler):
        x = normal(3, 2)
        assert torch.equal(sampler.sample(x, 0), x)
        result, info = sampler.sample(x, 0, return_trajectory=True, return_info=True)
        assert result.shape == (0, 3, 2)
        assert [t.shape for t in info] == [(0, 3)] * 3
        assert sampler.sample(torch.zeros(0, 2), 3).shape == (0, 2)

    def test_chains_that_are_not_finite_are_reported(self, sampler):
        x = torch.tensor([[1.0], [float("nan")], [3.0]])
        with pytest.warns(NonFiniteWarning, match=f"{type(sampler).__name__}: 1 of 3 chains"):
            result = sampler.sample(x, 2)
        assert result.isfinite().squeeze(1).tolist() == [True, False, True]

    def test_bad_input_is_explained(self, sampler):
        with pytest.raises(ValueError, match="x is a scalar"):
            sampler.sample(torch.zeros(()), 3)
        with pytest.raises(ValueError, match=f"{type(sampler).__name__}.sample: num_steps is -1"):
            sampler.sample(torch.zeros(2, 1), -1)
        with pytest.raises(ValueError, match="thin is 2 for 5 steps"):
            sampler.sample(torch.zeros(2, 1), 5, thin=2, return_trajectory=True)


def test_energies_kept_do_not_follow_the_positions():
    """This energy is a view of the positions, which the loop overwrites."""
    x = torch.ones(4, 1)
    _, infos = SGLD(lambda x: x.squeeze(1), 0.5).sample(x, 3, key=key(10), return_info=True)
    assert torch.equal(infos.energy[0], torch.ones(4))


@pytest.mark.parametrize("arguments", [(0.0, 1.0, 0.5), (1.0, 0.0, 0.5), (1.0, 1.0, 1.5)])
def test_bad_schedules_are_explained(arguments):
    with pytest.raises(ValueError, match="polynomial_decay: got a="):
        polynomial_decay(*arguments)
