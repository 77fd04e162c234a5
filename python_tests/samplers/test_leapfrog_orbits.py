"""Orbits of the leapfrog integrator that are known in closed form."""

import math

import pytest
import torch
from testing.chain_testing import normal, quadratic

from gencore.ops import leapfrog_end, leapfrog_start, leapfrog_step
from gencore.samplers.energy import energy_and_grad


def orbit(energy, x, momentum, step_size, num_steps, inverse_mass=1.0):
    """Positions and momenta [num_steps, N, D] at the ends of leapfrog steps."""
    noise = momentum * torch.as_tensor(inverse_mass, dtype=x.dtype).sqrt()
    positions, momenta = [], []
    _, grad = energy_and_grad(energy, x)
    x, half, _ = leapfrog_start(x, grad, step_size, inverse_mass, noise=noise)
    for _ in range(num_steps):
        _, grad = energy_and_grad(energy, x)
        positions.append(x)
        momenta.append(leapfrog_end(half, grad, step_size, inverse_mass).momentum)
        x, half = leapfrog_step(x, half, grad, step_size, inverse_mass)
    return torch.stack(positions), torch.stack(momenta)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


class TestOrbits:
    def test_free_fall_is_exact(self):
        """x₀ + p₀t − gt²/2 and p₀ − gt: the force is constant, so no step errs."""
        force, x, momentum = double(0.5, -9.81), double([1.0, 2.0]), double([0.3, 4.0])
        positions, momenta = orbit(lambda x: (x * force).sum(1), x, momentum, 0.1, 50)
        time = 0.1 * torch.arange(1, 51, dtype=torch.float64).view(-1, 1, 1)
        torch.testing.assert_close(positions, x + momentum * time - force * time**2 / 2)
        torch.testing.assert_close(momenta, momentum - force * time)

    @pytest.mark.parametrize("step_size", [0.1, 1.0, 1.9])
    def test_oscillator_has_the_frequency_of_leapfrog(self, step_size):
        """x_n = x₀ cos ωn + p₀/√(1 − ε²/4) sin ωn with cos ω = 1 − ε²/2."""
        x, momentum = double([1.0], [-0.3]), double([0.5], [2.0])
        positions, momenta = orbit(quadratic(), x, momentum, step_size, 200)
        turn = math.acos(1 - step_size**2 / 2) * torch.arange(1, 201).double().view(-1, 1, 1)
        width = math.sqrt(1 - step_size**2 / 4)
        options = {"rtol": 1e-9, "atol": 1e-9}
        expected = x * turn.cos() + momentum / width * turn.sin()
        torch.testing.assert_close(positions, expected, **options)
        expected = momentum * turn.cos() - x * width * turn.sin()
        torch.testing.assert_close(momenta, expected, **options)

    def test_oscillator_beyond_the_stable_step_size_escapes(self):
        """ε > 2: |x_n| grows as e^(κn) with cosh κ = ε²/2 − 1."""
        step_size = 2.1
        positions, _ = orbit(quadratic(), double([1.0]), double([0.0]), step_size, 60)
        growth = math.acosh(step_size**2 / 2 - 1)
        ratio = (positions[-1] / positions[-2]).abs().item()
        assert ratio == pytest.approx(math.exp(growth), rel=1e-9)

    def test_masses_are_units_of_the_positions(self):
        """x = √m⁻¹ x̃: the orbit in x with m⁻¹ is that in x̃ with mass 1."""
        inverse_mass, x, momentum = double([4.0, 0.25]), double([1.0, 2.0]), double([0.3, -0.7])
        scale = inverse_mass.sqrt()

        def energy(x):
            return (x**4 / 4 + x.cos()).sum(1)

        positions, momenta = orbit(energy, x, momentum, 0.05, 30, inverse_mass)
        unit_positions, unit_momenta = orbit(
            lambda unit: energy(unit * scale), x / scale, momentum * scale, 0.05, 30
        )
        torch.testing.assert_close(positions, unit_positions * scale)
        torch.testing.assert_close(momenta, unit_momenta / scale)

    def test_kepler_ellipse(self):
        """Of eccentricity ½: angular momentum is exact, the energy errs by O(ε²) without drift."""

        def energy(x):
            return -1 / x.norm(dim=1)

        x, momentum = double([0.5, 0.0]), double([0.0, math.sqrt(3)])  # period 2π, energy −½
        errors = []
        for steps_per_orbit in (200, 400):
            step_size = 2 * math.pi / steps_per_orbit
            positions, momenta = orbit(energy, x, momentum, step_size, 20 * steps_per_orbit)
            x0, x1, p0, p1 = *positions[:, 0].T, *momenta[:, 0].T
            angular = x0 * p1 - x1 * p0
            torch.testing.assert_close(angular, torch.full_like(angular, math.sqrt(3) / 2))
            total = energy(positions[:, 0]) + momenta[:, 0].square().sum(1) / 2
            error = (total + 0.5).abs().view(20, -1).amax(1)
            assert error.max() < 1.02 * error[0]
            errors.append(error[0].item())
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)

    def test_reversed_momenta_lead_back(self):
        x, momentum = normal(5, 3, dtype=torch.float64), normal(5, 3, seed=1, dtype=torch.float64)

        def energy(x):
            return (x**4).sum(1) - x.prod(1)

        positions, momenta = orbit(energy, x, momentum, 0.05, 20)
        back, returned = orbit(energy, positions[-1], -momenta[-1], 0.05, 20)
        torch.testing.assert_close(back[-1], x)
        torch.testing.assert_close(returned[-1], -momentum)
