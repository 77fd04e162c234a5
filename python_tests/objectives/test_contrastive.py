"""Contrastive objectives against likelihoods in closed form, on a grid, and at the truth."""

import io
import math
from functools import partial

import pytest
import torch
from testing.chain_testing import assert_means, key, normal
from testing.flow_energies import points
from torch import nn

from gencore.nn import MLPEnergy
from gencore.objectives import contrastive_divergence, contrastive_loss, recovery_loss
from gencore.samplers import HMC, MALA, Langevin, ReplayBuffer


class Gaussian(nn.Module):
    """E = ½ xᵀ P x."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.as_tensor(precision))

    def forward(self, x):
        return 0.5 * ((x @ self.precision) * x).sum(1)


class Scale(nn.Module):
    """E = ½ θ ‖x‖²."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, x):
        return 0.5 * self.theta * x.square().sum(1)


class DoubleWell(nn.Module):
    """E = θ₁ x²/2 + θ₂ x⁴/4 + θ₃ x."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    @staticmethod
    def features(x):
        """∂E/∂θ, [N, 3]."""
        return torch.cat([x**2 / 2, x**4 / 4, x], 1)

    def forward(self, x):
        return self.features(x) @ self.theta

    @torch.no_grad()
    def exact_samples(self, num, seed):
        """By the inverse of the distribution function on a fine grid."""
        grid = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
        mass = (-self(grid[:, None])).exp()
        cdf = mass.cumsum(0) - 0.5 * mass
        uniform = torch.rand(num, generator=torch.Generator().manual_seed(seed)).double()
        at = torch.searchsorted(cdf, uniform * mass.sum()).clamp(1, len(grid) - 1)
        share = (uniform * mass.sum() - cdf[at - 1]) / (cdf[at] - cdf[at - 1])
        return (grid[at - 1] + share * (grid[at] - grid[at - 1]))[:, None]


def test_the_gradient_is_a_difference_of_second_moments_with_its_root_at_the_precision():
    """∂L/∂P = ½(E x⁺x⁺ᵀ − E x⁻x⁻ᵀ), and descent on it ends at P = S⁻¹ for data of covariance S."""
    covariance = torch.tensor([[1.3, 0.5], [0.5, 0.8]], dtype=torch.float64)

    def cloud(of):
        """Four points whose mean is 0 and whose second moments are exactly `of`."""
        axes = math.sqrt(2) * torch.linalg.cholesky(of).T
        return torch.cat([axes, -axes])

    energy = Gaussian(torch.tensor([[0.9, 0.2], [0.2, 1.4]], dtype=torch.float64))
    x, samples = points(7, 2), points(5, 2, seed=1)
    contrastive_loss(energy, x, samples).loss.backward()
    expected = 0.5 * (x.T @ x / 7 - samples.T @ samples / 5)
    torch.testing.assert_close(energy.precision.grad, expected, rtol=1e-12, atol=1e-12)

    optimizer = torch.optim.SGD(energy.parameters(), lr=0.7)
    for _ in range(300):
        optimizer.zero_grad()
        model = cloud(torch.linalg.inv(energy.precision.detach()))
        contrastive_loss(energy, cloud(covariance), model).loss.backward()
        optimizer.step()
    torch.testing.assert_close(energy.precision.detach(), torch.linalg.inv(covariance))


def test_the_gradient_of_a_gaussian_from_chains():
    """½(E x² − 1/θ) with samples of HMC, and training with them ends at θ = 1/var."""
    variance, theta, num = 0.6, 2.5, 20_000
    kernel = partial(HMC, step_size=0.4, num_leapfrog=4)
    x = math.sqrt(variance) * normal(num, 1)
    energy = Scale(theta)
    terms = contrastive_divergence(energy, x, kernel, 20, start=normal(num, 1, seed=1), key=key(1))
    (gradient,) = torch.autograd.grad(terms.loss, energy.theta)
    rows = 0.5 * (x.square() - terms.samples.square()).flatten()
    assert gradient.item() == pytest.approx(rows.mean().item(), rel=1e-4)
    assert_means(rows, 0.5 * (variance - 1 / theta))

    optimizer = torch.optim.SGD(energy.parameters(), lr=2.0)
    thetas = []
    for step in range(60):
        start = normal(2000, 1, seed=2 + step)
        terms = contrastive_divergence(energy, x, kernel, 10, start=start, key=key(2 + step))
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        thetas.append(energy.theta.item())
    # The data's own second moment has the larger share of the error.
    found = sum(thetas[30:]) / 30
    assert found == pytest.approx(1 / variance, rel=5 * math.sqrt(2 / num + 2 / (30 * 2000)))


def test_the_gradient_is_that_of_the_exact_likelihood_on_a_grid():
    """Of p(y | x) over 400 values of y, with p itself as the weights: to 1e-12.

    Without a stop of the gradient through p, the same value has another gradient.
    """
    torch.manual_seed(0)
    energy = MLPEnergy(2, (16,)).double()
    parameters = list(energy.parameters())
    values = torch.linspace(-3, 3, 400, dtype=torch.float64)
    conditions = torch.tensor([-1.0, 0.2, 1.5], dtype=torch.float64)
    data = torch.stack([conditions, torch.tensor([0.3, -0.7, 2.0]).double()], 1)
    pairs = torch.cartesian_prod(conditions, values)  # [3 · 400, 2]: x and y

    energies = energy(pairs).reshape(3, 400)
    exact = (energy(data) + torch.logsumexp(-energies, 1)).mean()
    probabilities = (-energies).softmax(1)
    literal = energy(data).mean() - (probabilities * energies).sum(1).mean()
    terms = contrastive_loss(energy, data, pairs, weights=probabilities.detach().flatten())
    torch.testing.assert_close(terms.loss, literal)

    gradients = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in (terms.loss, exact, literal)
    ]
    differences = [0.0, 0.0]
    for ours, of_exact, of_literal in zip(*gradients, strict=True):
        if ours is None:  # the last bias, in no difference of energies
            continue
        for at, other in enumerate((of_exact, of_literal)):
            differences[at] = max(differences[at], (ours - other).abs().max().item())
    assert differences[0] < 1e-12
    assert differences[1] > 0.01


def test_the_negatives_are_detached():
    """Samples that depend on θ, x⁻ = θ z, count as they are: ∂L/∂θ = ½(E x² − θ² E z²)."""
    energy, z, x = Scale(1.5), points(6, 2).float(), points(5, 2, seed=1).float()
    samples = energy.theta * z
    terms = contrastive_loss(energy, x, samples)
    (gradient,) = torch.autograd.grad(terms.loss, energy.theta)
    second = [t.square().sum(1).mean().item() for t in (x, samples)]
    assert gradient.item() == pytest.approx(0.5 * (second[0] - second[1]), rel=1e-5)
    assert not terms.samples.requires_grad


class TestContrastiveDivergence:
    @pytest.mark.parametrize("num_steps", [1, 3])
    def test_no_mean_gradient_at_the_truth(self, num_steps):
        """For a kernel that leaves p_θ invariant; at another θ it is many errors from 0."""
        energy = DoubleWell([-2.0, 1.5, 0.3])
        x = energy.exact_samples(20_000, seed=1)
        kernel = partial(MALA, step_size=0.15)
        terms = contrastive_divergence(energy, x, kernel, num_steps, key=key(1))
        (gradient,) = torch.autograd.grad(terms.loss, energy.theta)
        rows = energy.features(x) - energy.features(terms.samples)
        torch.testing.assert_close(gradient, rows.mean(0))
        assert 0.3 < (rows != 0).all(1).double().mean() <= 1  # chains moved
        assert_means(rows, torch.zeros(3))

        other = DoubleWell([-1.0, 1.5, 0.3])
        terms = contrastive_divergence(other, x, kernel, num_steps, key=key(2))
        rows = other.features(x) - other.features(terms.samples)
        assert (rows.mean(0) / (rows.std(0) / math.sqrt(len(x)))).abs().max() > 10

    def test_one_langevin_step_at_the_truth(self):
        """The steps of size h do not leave N(0, 1/θ) invariant: the mean gradient is −½h²θ."""
        theta, step_size, num = 1.5, 0.4, 200_000
        energy = Scale(theta)
        x = normal(num, 1) / math.sqrt(theta)
        terms = contrastive_divergence(
            energy, x, partial(Langevin, step_size=step_size), 1, key=key(3)
        )
        rows = 0.5 * (x.square() - terms.samples.square()).flatten()
        assert_means(rows, -0.5 * step_size**2 * theta)

    def test_a_cold_start_leaves_the_starts_and_goes_k_steps(self):
        """Gradient descent on ½θx²: x⁻ = (1 − hθ)ᴷ x₀, of another number than the data."""
        energy, x, start = Scale(0.7), points(6, 2).float(), points(4, 2, seed=1).float()
        kernel = partial(Langevin.noise_free, step_size=0.1)
        terms = contrastive_divergence(energy, x, kernel, 5, start=start)
        torch.testing.assert_close(terms.samples, (1 - 0.07) ** 5 * start)
        torch.testing.assert_close(terms.energy_data, energy(x).mean().detach())
        again = contrastive_divergence(energy, x, kernel, 5)
        torch.testing.assert_close(again.samples, (1 - 0.07) ** 5 * x)

    def test_persistent_chains_go_on_and_survive_a_checkpoint(self):
        """Training that is cut by a checkpoint is the straight one, bit for bit."""
        data = points(40, 2).float()

        def make(seed):
            torch.manual_seed(seed)
            energy = MLPEnergy(2, (8,))
            buffer = ReplayBuffer(40, (2,), reinit_fraction=0.0)
            buffer.put(data, torch.arange(40))
            return energy, buffer, torch.optim.SGD(energy.parameters(), lr=0.1)

        def train(parts, steps):
            energy, buffer, optimizer = parts
            for step in steps:
                before = buffer.chains.clone()
                terms = contrastive_divergence(
                    energy, data[:16], partial(Langevin, step_size=0.05), 4, start=buffer,
                    key=key(step),
                )  # fmt: skip
                _, slots = buffer.draw(16, key=key(step))
                assert torch.equal(buffer.chains[slots], terms.samples)
                others = torch.ones(40, dtype=torch.bool).index_fill(0, slots, False)
                assert torch.equal(buffer.chains[others], before[others])
                assert not torch.equal(buffer.chains[slots], before[slots])
                optimizer.zero_grad()
                terms.loss.backward()
                optimizer.step()
            return terms

        straight = make(0)
        expected = train(straight, range(6))
        first = make(0)
        train(first, range(3))
        file = io.BytesIO()
        torch.save([part.state_dict() for part in first], file)
        file.seek(0)
        second = make(1)
        for part, state in zip(second, torch.load(file), strict=True):
            part.load_state_dict(state)
        terms = train(second, range(3, 6))
        assert torch.equal(terms.loss, expected.loss)
        assert torch.equal(second[1].chains, straight[1].chains)
        for ours, theirs in zip(second[0].parameters(), straight[0].parameters(), strict=True):
            assert torch.equal(ours, theirs)

    def test_processes_run_the_parts_of_one_run(self):
        energy, x = MLPEnergy(2, (8,)), points(6, 2).float()
        kernel = partial(Langevin, step_size=0.1)
        whole = contrastive_divergence(energy, x, kernel, 3, key=key(4))
        part = contrastive_divergence(energy, x[2:], kernel, 3, key=key(4), first=2)
        torch.testing.assert_close(part.samples, whole.samples[2:])

    @pytest.mark.parametrize("recovers", [False, True])
    def test_the_chains_and_the_terms_see_one_energy(self, recovers):
        """A spectral norm makes one power iteration a call, before the first step."""
        torch.manual_seed(0)
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(30, 1))
        energy = nn.Sequential(nn.Linear(30, 30), nn.Tanh(), layer, nn.Flatten(0))
        nn.utils.parametrizations.spectral_norm(energy[0])
        x, kernel = normal(20, 30), partial(Langevin.noise_free, step_size=0.5)
        if recovers:
            terms = recovery_loss(energy, x, x + 1, 100.0, kernel=kernel, num_steps=3)
        else:
            terms = contrastive_divergence(energy, x, kernel, 3, start=x + 1)
        energy.eval()  # the weights of the last iteration
        torch.testing.assert_close(terms.energy_data, energy(x).mean().detach())
        torch.testing.assert_close(terms.energy_samples, energy(terms.samples).mean().detach())
        expected = Langevin.noise_free(energy, 0.5).sample(x + 1, 3)
        torch.testing.assert_close(terms.samples, expected, atol=1e-3 if recovers else 1e-5, rtol=0)

    def test_bad_input_is_explained(self, monkeypatch):
        energy, x, kernel = Scale(1.0), torch.zeros(4, 2), partial(Langevin, step_size=0.1)
        with pytest.raises(ValueError, match=r"start has shape \[4, 3\] for x of shape \[4, 2\]"):
            contrastive_divergence(energy, x, kernel, 1, start=torch.zeros(4, 3))
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        with pytest.raises(RuntimeError, match="start is a ReplayBuffer in 2 processes"):
            contrastive_divergence(energy, x, kernel, 1, start=ReplayBuffer(9, (2,)))
