"""What Hamilton's equations promise of the leapfrog operators, against closed forms."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gencore.ops import leapfrog_end, leapfrog_start, leapfrog_step, leapfrog_step_

Gradient = Callable[[Tensor], Tensor]


def trajectory(
    gradient: Gradient,
    x: Tensor,
    momentum: Tensor,
    steps: int,
    step_size: float | Tensor,
    mass: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """Leapfrog from a given momentum: with noise p √m⁻¹ that is what a start draws."""
    noise = momentum * torch.as_tensor(mass, dtype=x.dtype).sqrt()
    x, momentum, _ = leapfrog_start(x, gradient(x), step_size, mass, noise=noise)
    for _ in range(steps - 1):
        x, momentum = leapfrog_step(x, momentum, gradient(x), step_size, mass)
    return x, leapfrog_end(momentum, gradient(x), step_size, mass).momentum


def quartic(x: Tensor) -> Tensor:
    """∇ of Σ x⁴/4 + x₁²x₂²…: forces that are neither linear nor separable."""
    return x**3 + x * (x.square().sum(1, keepdim=True) - x.square())


def normals(*shape: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)


def test_free_fall_is_exact(device):
    """A constant force: x + m⁻¹(p t − g t²/2), p − g t at any step size."""
    x, p, g = normals(3, 5, 4, device=device).unbind(0)
    mass = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64, device=device)
    for steps, step_size in ((1, 3.0), (7, 0.3), (40, 0.01)):
        time = steps * step_size
        position, momentum = trajectory(lambda _, g=g: g, x, p, steps, step_size, mass)
        torch.testing.assert_close(position, x + mass * (p * time - g * time**2 / 2))
        torch.testing.assert_close(momentum, p - g * time)


def test_the_harmonic_oscillator_turns_by_its_discrete_angle(device):
    """For E = x²/2: x_L = x cos Lθ + p sin Lθ / √(1 − ε²/4) with cos θ = 1 − ε²/2."""
    x, p = normals(2, 6, 3, device=device).unbind(0)
    for steps, step_size in ((1, 0.5), (10, 0.3), (25, 1.9)):
        angle, slow = math.acos(1 - step_size**2 / 2), math.sqrt(1 - step_size**2 / 4)
        position, momentum = trajectory(lambda x: x, x, p, steps, step_size)
        cos, sin = math.cos(steps * angle), math.sin(steps * angle)
        torch.testing.assert_close(position, x * cos + p * sin / slow)
        torch.testing.assert_close(momentum, p * cos - x * sin * slow)


def test_the_energy_error_is_of_second_order(device):
    x, p = normals(2, 50, 3, device=device).unbind(0)

    def energy(x: Tensor, p: Tensor) -> Tensor:
        squares = x.square()
        whole = squares.sum(1)
        return (
            squares.square().sum(1) / 4
            + (whole**2 - squares.square().sum(1)) / 4
            + (p.square().sum(1) / 2)
        )

    errors = []
    for steps in (100, 200, 400):
        end = trajectory(quartic, x, p, steps, 0.5 / steps)
        errors.append((energy(*end) - energy(x, p)).abs().max().item())
    for coarse, fine in itertools.pairwise(errors):
        assert 3.9 < coarse / fine < 4.1


@pytest.mark.parametrize("mass", ["number", "a chain", "diagonal"])
def test_a_flipped_momentum_returns(mass, device):
    x, p = normals(2, 6, 3, device=device).unbind(0)
    masses = {"number": 0.7, "a chain": x[:, 0].abs() + 0.1, "diagonal": x[0].abs() + 0.1}[mass]
    if mass == "a chain":
        masses = masses.unsqueeze(1)
    steps = torch.linspace(0.02, 0.05, 6, dtype=torch.float64, device=device)
    far, momentum = trajectory(quartic, x, p, 20, steps, masses)
    assert (far - x).abs().max() > 0.1
    back, returned = trajectory(quartic, far, -momentum, 20, steps, masses)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(-returned, p)


def test_volume_is_preserved(device):
    """The determinant of the map (x, p) → (x', p') is one, and the map is symplectic."""
    x, p = normals(2, 1, 3, device=device).unbind(0)
    mass = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, device=device)

    def flow(state: Tensor) -> Tensor:
        position, momentum = trajectory(
            quartic, state[:3].unsqueeze(0), state[3:].unsqueeze(0), 10, 0.1, mass
        )
        return torch.cat([position[0], momentum[0]])

    jacobian = torch.autograd.functional.jacobian(flow, torch.cat([x[0], p[0]]))
    one = torch.ones((), dtype=torch.float64, device=device)
    torch.testing.assert_close(torch.linalg.det(jacobian), one)
    identity, zero = torch.eye(3).to(jacobian), torch.zeros(3, 3).to(jacobian)
    form = torch.cat([torch.cat([zero, identity], 1), torch.cat([-identity, zero], 1)])
    torch.testing.assert_close(jacobian.T @ form @ jacobian, form, rtol=0.0, atol=1e-10)
    assert (jacobian - torch.eye(6).to(jacobian)).abs().max() > 0.5


def test_a_start_and_an_end_are_one_step(device):
    """The closing half kick and the next opening one are the kick of a whole step."""
    x, p, g = normals(3, 4, 3, device=device).unbind(0)
    half, _ = leapfrog_end(p, g, 0.3, 0.7)
    start = leapfrog_start(x, g, 0.3, 0.7, noise=half * math.sqrt(0.7))
    position, momentum = leapfrog_step(x, p, g, 0.3, 0.7)
    torch.testing.assert_close(start.position, position)
    torch.testing.assert_close(start.momentum, momentum)


def test_momenta_have_the_variance_of_their_mass(device):
    """Within four standard errors of the variance and of the mean kinetic energy D/2."""
    chains = 40_000
    x = torch.zeros(chains, 4, device=device)
    mass = torch.tensor([0.25, 1.0, 4.0, 9.0], device=device)
    start = leapfrog_start(x, x, 0.1, mass, key=torch.tensor([1, 2], device=device))
    variance = start.momentum.double().square().mean(0)
    assert ((variance * mass - 1).abs() < 4 * math.sqrt(2 / chains)).all()
    assert abs(start.kinetic.double().mean().item() - 2.0) < 4 * math.sqrt(2 / chains)


def test_in_place_trajectories_are_the_functional_ones(device):
    x, p = (t.float() for t in normals(2, 300, 7, device=device).unbind(0))
    a, b = x.clone(), p.clone()
    with torch.no_grad():
        for _ in range(10):
            x, p = leapfrog_step(x, p, quartic(x), 0.01, 2.0)
            leapfrog_step_(a, b, quartic(a), 0.01, 2.0)
    assert torch.equal(a, x)
    assert torch.equal(b, p)
