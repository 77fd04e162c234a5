"""The complete recipe: the equations of Fokker and Planck and of Lyapunov, and known samplers."""

import math

import pytest
import torch
from testing.chain_testing import key, quadratic

from gencore.samplers import SGHMC, SGLD, SGRLD, CompleteRecipe

FRICTION, MASS = 0.7, 2.0


def banana(z):
    """H = z₀²/2 + 2(z₁ − z₀²)²: no axis of it is Gaussian by itself."""
    return 0.5 * z[:, 0].square() + 2.0 * (z[:, 1] - z[:, 0].square()).square()


def metric(z):
    """G of SGRLD, positive and different for both axes."""
    return torch.stack([1 + z[:, 0].square(), torch.exp(0.3 * z[:, 1])], 1)


def skew(angle):
    return torch.stack(
        [torch.stack([torch.zeros_like(angle), -angle]), torch.stack([angle, 0 * angle])]
    )


def a_field(z):
    """A diffusion with correlations that change from place to place."""
    root = torch.stack(
        [torch.stack([1 + 0 * z[:, 0], z[:, 1]]), torch.stack([z[:, 0].sin(), z[:, 1]])]
    )
    return (root.permute(2, 0, 1)) @ (root.permute(2, 1, 0))


CHOICES = {
    "SGLD": (torch.eye(2).double(), None),
    "SGHMC": (
        torch.diag(torch.tensor([0.0, FRICTION])).double(),
        torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double(),
    ),
    "SGRLD": (lambda z: torch.diag_embed(metric(z)), None),
    "general": (a_field, lambda z: skew(z[:, 0] * z[:, 1] + 1).permute(2, 0, 1)),
}


def flux_divergence(sampler, energy, z, *, correction=True):
    """Σᵢ ∂ᵢ(fᵢ p) − Σᵢⱼ ∂ᵢ∂ⱼ(Dᵢⱼ p) over p: what the Fokker-Planck equation says of dp/dt."""

    def density(row):
        return torch.exp(-energy(row[None])[0])

    def drift(row):
        grad = torch.func.grad(lambda r: energy(r[None])[0])(row)
        f = sampler.drift(row[None], grad[None])[0]
        if not correction:
            matrix = matrices(row)
            f = -(matrix[0] + matrix[1]) @ grad
        return f * density(row)

    def matrices(row):
        d = sampler.diffusion(row[None])[0] if callable(sampler.diffusion) else sampler.diffusion
        if sampler.curl is None:
            return d, torch.zeros_like(d)
        return d, sampler.curl(row[None])[0] if callable(sampler.curl) else sampler.curl

    def one(row):
        first = torch.func.jacrev(drift)(row).trace()
        second = torch.func.jacrev(torch.func.jacrev(lambda r: matrices(r)[0] * density(r)))(row)
        return (first - torch.einsum("ijij->", second)) / density(row)

    return torch.stack([one(row) for row in z])


@pytest.mark.parametrize("name", CHOICES)
def test_the_process_keeps_the_density(name):
    """The stationary Fokker-Planck equation, exactly and at every place."""
    sampler = CompleteRecipe(banana, 0.1, *CHOICES[name])
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert flux_divergence(sampler, banana, z).abs().max() < 1e-10


def test_without_the_correction_it_would_not():
    sampler = CompleteRecipe(banana, 0.1, *CHOICES["general"])
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert flux_divergence(sampler, banana, z, correction=False).abs().min() > 1e-3


def test_sgld_is_a_case():
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))
    ours = CompleteRecipe(banana, 0.005, torch.eye(2)).sample(x, 5, key=key(2))
    torch.testing.assert_close(ours, SGLD(banana, 0.005).sample(x, 5, key=key(2)))


def test_sgrld_is_a_case():
    def pair(z):
        return metric(z), torch.stack([2 * z[:, 0], 0.3 * torch.exp(0.3 * z[:, 1])], 1)

    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))
    steps = torch.linspace(0.001, 0.005, 9)
    ours = CompleteRecipe(banana, steps, CHOICES["SGRLD"][0]).sample(x, 5, key=key(2))
    torch.testing.assert_close(ours, SGRLD(banana, steps, pair).sample(x, 5, key=key(2)))


def test_sghmc_is_a_case_up_to_second_order():
    """Its momenta are the same, and its positions move by the momenta of a step later."""
    step, x, p = 0.1, torch.tensor([[1.5]]), torch.tensor([[-0.4]])

    def joint(z):
        return banana_of_one(z[:, :1]) + z[:, 1].square() / (2 * MASS)

    def banana_of_one(x):
        return x.pow(4).sum(1)

    diffusion, curl = (matrix.float() for matrix in CHOICES["SGHMC"])
    ours = CompleteRecipe(joint, step, diffusion, curl)
    z = torch.cat([x, p], 1)
    grad = torch.cat([4 * x**3, p / MASS], 1)
    mean = z + step * ours.drift(z, grad)
    theirs = SGHMC(banana_of_one, step, FRICTION, inverse_mass=1 / MASS, noise_scale=0.0)
    moved, _ = theirs.step(theirs.init(x)._replace(momentum=p), key=key(0))
    torch.testing.assert_close(mean[:, 1:], moved.momentum)
    late = step / MASS * (moved.momentum - p)
    torch.testing.assert_close(mean[:, :1] + late, moved.position)
    # And the noise: √(2Cε) on the momentum alone.
    many = torch.zeros(40_000, 2) + z
    after = ours.sample(many, 1, key=key(3)) - mean
    assert after[:, 0].abs().max() < 1e-6
    variance = after[:, 1].double().square().mean().item() / (2 * FRICTION * step)
    assert abs(variance - 1) < 5 * math.sqrt(2 / 40_000)


@pytest.mark.parametrize("name", ["SGHMC", "full"])
def test_stationary_covariance_of_a_gaussian(name):
    """Σ = AΣAᵀ + 2εD of the Euler steps z' = Az + √(2ε)D^½ξ, A = I − ε(D + Q)P."""
    precision = torch.tensor([[2.0, -0.9], [-0.9, 1.0]])
    diffusion, curl = CHOICES["SGHMC"]
    if name == "full":
        diffusion = torch.tensor([[1.0, 0.4], [0.4, 0.5]])
        curl = torch.tensor([[0.0, 1.5], [-1.5, 0.0]])
    diffusion, curl, step, num = diffusion.float(), curl.float(), 0.1, 50_000
    sampler = CompleteRecipe(lambda z: 0.5 * ((z @ precision) * z).sum(1), step, diffusion, curl)
    z = sampler.sample(torch.zeros(num, 2), 150, key=key(4)).double()
    a = torch.eye(2) - step * (diffusion + curl) @ precision
    kron = torch.kron(a, a).double()
    vector = torch.linalg.solve(torch.eye(4) - kron, 2 * step * diffusion.double().reshape(-1, 1))
    expected = vector.reshape(2, 2)
    diagonal = expected.diag()
    standard_error = ((torch.outer(diagonal, diagonal) + expected**2) / num).sqrt()
    assert ((z.T @ z / num - expected).abs() < 5 * standard_error).all()
    # Which is the density's own to the first order of the step.
    assert (expected @ precision.double() - torch.eye(2)).abs().max() < 10 * step


@pytest.mark.parametrize(
    ("diffusion", "curl", "error", "message"),
    [
        (torch.eye(3), None, ValueError, r"diffusion is torch.float32 of shape \[3, 3\]"),
        (torch.eye(2).double(), None, ValueError, "diffusion is torch.float64"),
        (lambda z: torch.eye(2), None, ValueError, r"expected torch.float32 of \[5, 2, 2\]"),
        (lambda z: None, None, TypeError, "diffusion is a NoneType"),
        (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), None, ValueError, "diffusion is not a symmetric"),
        (torch.diag(torch.tensor([1.0, -0.1])), None, ValueError, "diffusion has a negative eigen"),
        (torch.eye(2), torch.eye(2), ValueError, "curl is not a skew-symmetric"),
    ],
)
def test_matrices_are_checked(diffusion, curl, error, message):
    with pytest.raises(error, match=f"^CompleteRecipe.*{message}"):
        CompleteRecipe(quadratic(), 0.1, diffusion, curl).sample(torch.zeros(5, 2), 3)
