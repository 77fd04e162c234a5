"""A dense mass: the chains of the whitened density, exact moments, and what it spares."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal, quadratic

from gencore.nn import MLPEnergy
from gencore.ops import backend, split_key
from gencore.samplers import HMC, MALA, NUTS, SGHMC, DenseMass, Moments, warm_up
from gencore.samplers.energy import energy_and_grad

DOUBLE = torch.float64


def covariance_of(dim, correlation=0.99, spread=3.0):
    """Of neighbours that are strongly correlated, with scales over a decade."""
    number = torch.arange(dim, dtype=DOUBLE)
    scale = spread ** torch.linspace(-1, 1, dim, dtype=DOUBLE)
    return correlation ** (number - number[:, None]).abs() * scale * scale[:, None]


def gaussian(covariance):
    precision = torch.linalg.inv(covariance.double())

    def energy(x):
        y = x.flatten(1)
        return 0.5 * ((y @ precision.to(y)) * y).sum(1)

    return energy


def kinds(energy, mass, scale=1.0):
    return [
        HMC(energy, 0.5 * scale, 4, inverse_mass=mass),
        NUTS(energy, 0.5 * scale, inverse_mass=mass),
        MALA(energy, 0.3 * scale, inverse_mass=mass),
    ]


@pytest.mark.parametrize("number", range(3), ids=["HMC", "NUTS", "MALA"])
class TestTransitions:
    def test_they_are_those_of_the_whitened_density(self, number):
        """x = L y: with Σ its covariance, chains on N(0, Σ) are L times chains on N(0, I)."""
        covariance, y = covariance_of(6), normal(40, 6, dtype=DOUBLE)
        mass = DenseMass.of(covariance)
        sampler = kinds(gaussian(covariance), mass)[number]
        plain = kinds(quadratic(), 1.0)[number]
        x, info = sampler.sample(y @ mass.factor.T, 5, key=key(1), return_info=True)
        expected, expected_info = plain.sample(y, 5, key=key(1), return_info=True)
        torch.testing.assert_close(x, expected @ mass.factor.T, rtol=1e-6, atol=1e-8)
        for one, other in zip(info, expected_info, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)

    def test_a_diagonal_is_a_dense_mass_too(self, number):
        def energy(x):
            return x.pow(4).flatten(1).sum(1) / 4 + x.flatten(1).cos().sum(1)

        variance = torch.tensor([[0.5, 1.0], [2.0, 0.1]], dtype=DOUBLE)
        x = normal(30, 2, 2, dtype=DOUBLE)
        chains = [
            kinds(energy, mass)[number].sample(x, 4, key=key(2))
            for mass in (variance, DenseMass.of(variance.flatten().diag()))
        ]
        torch.testing.assert_close(*chains)

    def test_moments_of_a_strongly_correlated_gaussian(self, number):
        """With a mass that is not its covariance either."""
        covariance = covariance_of(3, 0.95)
        mass = DenseMass.of(covariance_of(3, 0.9, 2.0).float())
        x = kinds(gaussian(covariance), mass, 0.8)[number].sample(
            normal(8000, 3) @ torch.linalg.cholesky(covariance).float().T, 5, key=key(3)
        )
        assert_means(x, torch.zeros(3))
        assert_means((x[:, :, None] * x[:, None]).flatten(1), covariance.flatten())

    def test_steps_leave_the_state_and_keep_what_belongs_to_it(self, number):
        covariance = covariance_of(4)
        sampler = kinds(gaussian(covariance), DenseMass.of(covariance), 3.4)[number]
        state = sampler.init(normal(200, 4, dtype=DOUBLE))
        states, seen = sampler.sample(state.position, 3, return_trajectory=True, key=key(4)), 0
        for expected, step_key in zip(states, split_key(key(4), 3), strict=True):
            before = tuple(t.clone() for t in state)
            after, _ = sampler.step(state, key=step_key)
            assert all(map(torch.equal, state, before))
            assert torch.equal(after.position, expected)
            energy, grad = energy_and_grad(sampler.energy, after.position)
            torch.testing.assert_close(after.energy, energy)
            torch.testing.assert_close(after.grad, grad, rtol=1e-6, atol=1e-6)
            rests = (after.position == state.position).all(1)
            assert torch.equal(after.grad[rests], state.grad[rests])  # to the last bit
            state, seen = after, seen + rests.sum()
        assert seen > 10 or number == 1

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_dtypes_shapes_and_no_chains(self, number, dtype):
        mass = DenseMass.of(covariance_of(6, 0.5))
        sampler = kinds(gaussian(mass.covariance), mass)[number]
        for chains in (0, 5):
            x, info = sampler.sample(
                normal(chains, 2, 3).to(dtype), 2, key=key(5), return_info=True
            )
            assert x.shape == (chains, 2, 3)
            assert x.dtype == dtype
            assert info.energy.dtype == torch.float32
            assert x.isfinite().all()

    def test_both_backends_run_the_same_chains(self, number):
        covariance = covariance_of(3, 0.9)
        sampler = kinds(gaussian(covariance), DenseMass.of(covariance))[number]
        x = normal(20, 3, dtype=DOUBLE)
        native = sampler.sample(x, 3, key=key(6))
        with backend("reference"):
            torch.testing.assert_close(sampler.sample(x, 3, key=key(6)), native)

    def test_a_network_whose_chains_would_be_one_kernel_takes_it_too(self, number):
        energy, mass = MLPEnergy(3, hidden_widths=(8,)), DenseMass.of(covariance_of(3).float())
        how = {"x": normal(9, 3), "num_steps": 3, "key": key(11)}
        plain = kinds(lambda x: energy(x), mass)[number].sample(**how)
        torch.testing.assert_close(kinds(energy, mass)[number].sample(**how), plain)

    def test_other_sizes_are_refused(self, number):
        sampler = kinds(quadratic(), DenseMass.of(torch.eye(3)))[number]
        message = rf"{type(sampler).__name__}.step: inverse_mass is a DenseMass of 3 elements"
        with pytest.raises(ValueError, match=message):
            sampler.sample(torch.zeros(3, 4), 1)


class TestWarmUp:
    @pytest.mark.parametrize("number", range(3), ids=["HMC", "NUTS", "MALA"])
    def test_it_finds_the_covariance(self, number):
        covariance = covariance_of(4, 0.98)
        start = 2 * normal(100, 4) @ torch.linalg.cholesky(covariance).float().T
        sampler = kinds(gaussian(covariance), 1.0, 0.1)[number]
        sampler, x, _ = warm_up(sampler, start, 300, dense_mass=True, key=key(7))
        assert isinstance(sampler.inverse_mass, DenseMass)
        whitened = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), sampler.inverse_mass.factor.double(), upper=False
        )
        assert torch.linalg.svdvals(whitened).log().abs().max() < 0.2
        _, info = sampler.sample(x, 20, key=key(8), return_info=True)
        target = 0.574 if number == 2 else 0.8
        assert info.acceptance_rate.mean().item() == pytest.approx(target, abs=0.03)

    @pytest.mark.slow
    def test_it_needs_a_fraction_of_the_gradients(self):
        """Of ten elements whose principal axes differ by a factor of 60 in scale."""
        covariance, costs = covariance_of(10, 0.999, 1.0), []
        for dense in (False, True):
            sampler, x, _ = warm_up(
                NUTS(gaussian(covariance), 0.1), normal(16, 10), 100, dense_mass=dense, key=key(9)
            )
            _, info = sampler.sample(x, 20, key=key(10), return_info=True)
            costs.append(info.num_leapfrog.double().mean())
        assert 4 * costs[1] < costs[0]

    def test_covariances_of_parts_merge(self):
        x = normal(40, 3, dtype=DOUBLE) @ normal(3, 3, seed=1, dtype=DOUBLE) + 5
        moments = Moments.of(x[:7], dense=True).merge(Moments.of(x[7:], dense=True))
        torch.testing.assert_close(moments.variance, x.T.cov())

    def test_a_sampler_that_has_one_keeps_one(self):
        sampler = HMC(quadratic(), 0.1, 1, inverse_mass=DenseMass.of(torch.eye(2)))
        warm, _, _ = warm_up(sampler, normal(8, 2), 50, key=key(0))
        assert isinstance(warm.inverse_mass, DenseMass)

    def test_it_needs_enough_steps(self):
        with pytest.raises(ValueError, match="num_steps is 10, too few to learn a dense mass"):
            warm_up(HMC(quadratic(), 0.1, 1), torch.zeros(3, 2), 10, dense_mass=True)

    def test_it_needs_a_mass_that_adapts(self):
        with pytest.raises(ValueError, match="dense_mass is True, but adapt_mass is False"):
            warm_up(
                HMC(quadratic(), 0.1, 1), torch.zeros(3, 2), 5, adapt_mass=False, dense_mass=True
            )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseMass(torch.ones(2)), r"factor is \[2\]; expected a matrix"),
        (lambda: DenseMass(torch.ones(2, 2)), "not lower triangular"),
        (lambda: DenseMass(-torch.eye(2)), "with a positive diagonal"),
        (lambda: DenseMass.of(torch.ones(2, 3)), r"covariance is \[2, 3\]"),
        (lambda: DenseMass.of(3.0), "covariance is float"),
        (lambda: DenseMass.of(torch.ones(2, 2)), "symmetric and positive definite"),
        (lambda: DenseMass.of(torch.tensor([[2.0, 1.0], [0.5, 2.0]])), "symmetric and positive"),
        (lambda: DenseMass.of(torch.eye(2) * math.nan), "not of finite"),
        (lambda: DenseMass.of(torch.eye(2).long()), "not of finite floating-point"),
    ],
)
def test_bad_matrices_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_samplers_without_it_say_so():
    with pytest.raises(TypeError, match="inverse_mass must be a number or a tensor, got DenseMass"):
        SGHMC(quadratic(), 0.1, 1.0, inverse_mass=DenseMass(torch.eye(2))).sample(
            torch.zeros(3, 2), 1
        )
