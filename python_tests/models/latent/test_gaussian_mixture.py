"""Mixtures of Gaussians of five covariances: EM, gradients, k-means, scikit-learn (Lucas 2020)."""

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from testing.chain_testing import assert_means, key
from testing.latent_testing import double
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from gencore.models import GaussianMixture, MixtureCovariance

KINDS = get_args(MixtureCovariance)
SCIKIT_LEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Three overlapping groups, of different widths.
Z = torch.cat([normal(150, 2), 0.4 * normal(100, 2, seed=1) + double([2.0, 1.0]),
               normal(80, 2, seed=2) @ double([[1.0, 0.8], [0.0, 0.3]]) - 2])  # fmt: skip


def mixture(covariance, features=2, **options):
    """Of three components with any parameters that can be trained."""
    torch.manual_seed(0)
    made = GaussianMixture(features, 3, covariance=covariance, trainable=True, **options).double()
    with torch.no_grad():
        made.log_weights.copy_(double([0.0, 1.0, -0.5]))
        made.factors.mul_(0.8).add_(0.3 * normal(*made.factors.shape, seed=3))
    return made


def covariances(made):
    """Σₖ from the attributes, [K, L, L]."""
    factors = made.factors.detach()
    if factors.dim() == 2:
        factors = factors.expand(len(factors), made.means.shape[1]).diag_embed()
    scales = factors.diagonal(dim1=1, dim2=2).abs()
    factors = factors.tril(-1) + scales.diag_embed()
    return (factors @ factors.mT).expand(len(made.means), -1, -1)


def by_torch(made):
    each = MultivariateNormal(made.means.detach(), covariances(made))
    return MixtureSameFamily(Categorical(logits=made.log_weights.detach()), each)


@pytest.mark.parametrize("covariance", KINDS)
class TestEveryCovariance:
    def test_its_density(self, covariance):
        made = mixture(covariance)
        torch.testing.assert_close(made.log_prob(Z), by_torch(made).log_prob(Z))
        log_odds = made.responsibilities(Z).log()
        expected = by_torch(made)
        joint = expected.component_distribution.log_prob(Z[:, None]) + (
            expected.mixture_distribution.logits
        )
        torch.testing.assert_close(log_odds.diff(dim=1), joint.diff(dim=1))
        torch.testing.assert_close(log_odds.exp().sum(1), torch.ones(len(Z)).double())

    def test_its_view_is_that_of_torch(self, covariance):
        made = mixture(covariance)
        found, expected = made.distribution(), by_torch(made)
        assert (found.batch_shape, found.event_shape) == ((), (2,))
        for view in (found.log_prob(Z), made.log_prob(Z)):
            torch.testing.assert_close(view, expected.log_prob(Z))
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.variance, expected.variance)
        assert found.sample((4,)).shape == (4, 2)

    def test_it_integrates_to_one(self, covariance):
        line = torch.linspace(-12, 12, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)
        density = mixture(covariance).log_prob(grid).detach().exp().view(401, 401)
        total = torch.trapezoid(torch.trapezoid(density, line), line)
        assert total.item() == pytest.approx(1, abs=1e-3)

    def test_its_samples_in_any_split(self, covariance):
        made = mixture(covariance)
        z = made.sample(20_000, key=key(1)).detach()
        expected = by_torch(made)
        assert_means(z, expected.mean)
        centred = z - expected.mean
        between = expected.component_distribution.mean - expected.mean
        weights = expected.mixture_distribution.probs[:, None, None]
        second = (weights * (covariances(made) + between[:, :, None] * between[:, None])).sum(0)
        assert_means(centred[:, :, None] * centred[:, None], second)
        torch.testing.assert_close(z[7:10], made.sample(3, key=key(1), first=7).detach())

    def test_gradients(self, covariance):
        made = mixture(covariance)
        names, values = zip(*made.named_parameters(), strict=True)
        z = Z[::40].clone().requires_grad_()

        def density(z, *parameters):
            state = dict(zip((f"of.{name}" for name in names), parameters, strict=True))
            return torch.func.functional_call(_LogProb(made), state, (z,))

        assert torch.autograd.gradcheck(density, (z, *values))

    def test_no_step_of_the_fit_loses_likelihood(self, covariance):
        pytest.importorskip("sklearn")
        found = []
        for steps in (1, 2, 3, 4, 8, 16, 32, 64):
            made = GaussianMixture(2, 4, covariance=covariance).double()
            made.fit(Z, max_steps=steps, tolerance=0.0, seed=1)
            found.append(made.log_prob(Z).mean().item())
        assert all(after >= before - 1e-12 for before, after in pairwise(found))
        assert found[-1] > found[0] + 1e-3

    def test_the_fit_is_where_gradients_end(self, covariance):
        """The likelihood is stationary at the fit, and gradients climb to it from beside it."""
        pytest.importorskip("sklearn")
        made = mixture(covariance).fit(Z, max_steps=5000, tolerance=1e-14)
        best = made.log_prob(Z).mean()
        grads = torch.autograd.grad(best, list(made.parameters()))
        assert max(grad.tril(0).abs().max().item() for grad in _triangles(grads)) < 1e-5
        with torch.no_grad():
            made.means.add_(0.1 * normal(3, 2, seed=5))
            made.factors.mul_(1.2)
        start = made.log_prob(Z).mean()
        optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
        for _ in range(400):
            optimizer.zero_grad()
            (-made.log_prob(Z).mean()).backward()
            optimizer.step()
        reached = made.log_prob(Z).mean()
        assert start < best - 1e-3
        assert best - 1e-4 < reached < best + 1e-9

    def test_a_component_on_a_single_point_stays_finite(self, covariance):
        """Its variance is the least that is allowed; a trained one can grow from there again."""
        pytest.importorskip("sklearn")
        point = double([[50.0, 50.0]]).repeat(4, 1)
        z = torch.cat([Z, point])
        made = GaussianMixture(2, 2, covariance=covariance, min_variance=1e-4).double().fit(z)
        found = made.log_prob(point[:1]).item()
        if not covariance.startswith("tied"):
            expected = math.log(4 / len(z)) - math.log(2 * math.pi * 1e-4)
            assert found == pytest.approx(expected, abs=1e-9)
        assert math.isfinite(found)
        torch.manual_seed(0)
        trained = GaussianMixture(
            2, 1, covariance=covariance, min_variance=1e-4, trainable=True
        ).double()
        least = math.log(2 * math.pi * 1e-4)
        assert least - 1e-9 < _train(trained, point / 50) < -4
        assert all(value.isfinite().all() for value in trained.parameters())
        best = GaussianMixture(2, 1, covariance=covariance).double().fit(Z).log_prob(Z).mean()
        assert _train(trained, Z) == pytest.approx(-best.item(), abs=1e-4)

    def test_components_without_vectors_stay_finite(self, covariance):
        """Of two different vectors and five components some are empty; they stay where k-means put
        them, on a vector."""
        pytest.importorskip("sklearn")
        z = double([[0.0, 1.0], [2.0, 3.0]]).repeat(10, 1)
        made = GaussianMixture(2, 5, covariance=covariance).double().fit(z)
        assert made.log_prob(torch.cat([z, z + 0.1])).isfinite().all()
        assert made.responsibilities(z).isfinite().all()
        torch.testing.assert_close(made.log_weights.exp().sum(), double(1.0))
        assert torch.cdist(made.means, z).min(1).values.max() < 1e-6
        assert made.sample(10, key=key(0)).isfinite().all()


class _LogProb(torch.nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, z):
        return self.of.log_prob(z)


def _triangles(grads):
    return [grad if grad.dim() == 3 else grad.reshape(-1, 1) for grad in grads]


def _train(made, z):
    # By the signs of gradients, whose sizes at the least variance are many times those elsewhere.
    optimizer = torch.optim.Rprop(made.parameters())
    for _ in range(300):
        optimizer.zero_grad()
        loss = -made.log_prob(z).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("covariance", SCIKIT_LEARN)
def test_it_is_that_of_scikit_learn(covariance):
    """From the same clusters the fit is the same, step by step, and so are the densities."""
    library = pytest.importorskip("sklearn.mixture")
    theirs = library.GaussianMixture(
        3, covariance_type=SCIKIT_LEARN[covariance], random_state=3, reg_covar=0
    ).fit(Z.numpy())
    ours = GaussianMixture(2, 3, covariance=covariance, min_variance=1e-12).double()
    ours.fit(Z, seed=3)
    for found, expected in (
        (ours.log_prob(Z), theirs.score_samples(Z.numpy())),
        (ours.responsibilities(Z), theirs.predict_proba(Z.numpy())),
        (ours.means, theirs.means_),
        (ours.log_weights.exp(), theirs.weights_),
    ):
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


def test_little_variance_and_equal_weights_are_k_means():
    """Its assignments, and EM's new means are Lloyd's, until neither moves."""
    cluster = pytest.importorskip("sklearn.cluster")
    made = GaussianMixture(2, 3, covariance="tied_spherical", trainable=True).double()
    start = Z[[0, 1, 200]]
    with torch.no_grad():
        made.means.copy_(start)
        made.factors.fill_(1e-2)
        for _ in range(100):
            weights = made.responsibilities(Z)
            made.means.copy_(weights.T @ Z / weights.sum(0)[:, None])
    lloyd = cluster.KMeans(3, init=start.numpy(), n_init=1, tol=0).fit(Z.numpy())
    torch.testing.assert_close(made.means.detach(), torch.from_numpy(lloyd.cluster_centers_))
    assert torch.equal(weights.argmax(1), torch.from_numpy(lloyd.labels_).long())
    assert weights.max(1).values.min() > 0.99
    narrow = made.requires_grad_(False).responsibilities(Z)
    with torch.no_grad():
        made.factors.fill_(1.0)
    assert (made.responsibilities(Z) - narrow).abs().max() > 0.3


def test_a_trained_mixture_keeps_its_state():
    made = mixture("tied")
    again = GaussianMixture(2, 3, covariance="tied").double()
    again.load_state_dict(made.state_dict())
    torch.testing.assert_close(again.log_prob(Z), made.log_prob(Z).detach())
    assert again.is_fitted
    assert list(again.parameters()) == []


def test_bad_options():
    with pytest.raises(ValueError, match="covariance is 'diag'; expected one of full, tied, diag"):
        GaussianMixture(2, covariance="diag")
    with pytest.raises(ValueError, match="min_variance is 0; expected a positive number"):
        GaussianMixture(2, min_variance=0)
    with pytest.raises(ValueError, match=r"GaussianMixture.fit: z is not all finite"):
        GaussianMixture(2, 1).fit(torch.full((3, 2), torch.nan))
    with pytest.raises(ValueError, match=r"GaussianMixture.fit: max_steps is 0; expected 1"):
        GaussianMixture(2, 1).fit(torch.zeros(3, 2), max_steps=0)
