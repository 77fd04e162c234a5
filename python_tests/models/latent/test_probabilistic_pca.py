"""Probabilistic PCA as an oracle: closed forms, scikit-learn, bounds (Lucas 2020, §2.3)."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key
from testing.latent_testing import VARIANCE, double, probabilistic_pca
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gencore.models import ProbabilisticPCA

SIZES = [(5, 2), (5, 4), (3, 3), (2, 4)]


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(features=5, size=2, variance=0.3):
    weight, mean = normal(features, size, seed=1), normal(features, seed=2)
    return ProbabilisticPCA(features, size, weight=weight, mean=mean, variance=variance)


def marginal(oracle):
    weight, features = oracle.weight.detach(), len(oracle.mean)
    unit = torch.eye(features, dtype=torch.float64)
    return MultivariateNormal(
        oracle.mean.detach(), weight @ weight.T + oracle.variance.detach() * unit
    )


def likelihood(oracle, x):
    """log p(x) of the parameters, with a graph, and the largest gradient of its mean."""
    value = oracle.log_prob(x).mean()
    grads = torch.autograd.grad(value, list(oracle.parameters()))
    return value.item(), max(grad.abs().max().item() for grad in grads)


class TestDensity:
    @pytest.mark.parametrize(("features", "size"), SIZES)
    def test_it_is_that_of_the_covariance_matrix(self, features, size):
        oracle, x = model(features, size), normal(7, features)
        torch.testing.assert_close(oracle.log_prob(x), marginal(oracle).log_prob(x))

    @pytest.mark.parametrize(("features", "size"), SIZES)
    def test_with_the_posterior_every_latent_gives_the_likelihood(self, features, size):
        """log p(x | z) + log p(z) − log p(z | x) = log p(x)."""
        oracle, x = model(features, size), normal(7, features)
        posterior = oracle.posterior(x)
        z = normal(4, 7, size)
        given = Normal(oracle.decode(z), oracle.variance.sqrt()).log_prob(x).sum(2)
        prior = Normal(double(0.0), double(1.0)).log_prob(z).sum(2)
        found = given + prior - posterior.log_prob(z)
        torch.testing.assert_close(found, oracle.log_prob(x).expand(4, 7))
        torch.testing.assert_close(oracle.encode(x), posterior.mean)

    def test_little_noise_does_not_cancel(self):
        """On the plane of W the density is that of the latents; with σ² = 10⁻¹² digits of
        ‖x − μ‖² would be lost by a factor of 10¹²."""
        oracle = ProbabilisticPCA(2, 1, weight=double([[3.0], [4.0]]), variance=1e-12)
        x = double([[0.6, 0.8], [-3.0, -4.0]])
        expected = -0.5 * (x.square().sum(1) / 25 + math.log(25) + math.log(1e-12))
        torch.testing.assert_close(
            oracle.log_prob(x), expected - math.log(2 * math.pi), rtol=0, atol=1e-6
        )

    def test_noise_that_is_lost_beside_the_latents(self):
        """Of more latents than features: an error, and no wrong density."""
        oracle = ProbabilisticPCA(3, 5, weight=normal(3, 5, seed=1).float(), variance=1e-8)
        with pytest.raises(torch.linalg.LinAlgError):
            oracle.log_prob(torch.zeros(2, 3))

    def test_no_data(self):
        oracle, x = model(), normal(0, 5)
        assert oracle.log_prob(x).shape == (0,)
        assert oracle.posterior(x).mean.shape == (0, 2)

    def test_samples_have_its_moments_in_any_split(self):
        oracle = model()
        x, expected = oracle.sample(20_000, key=key(3)), marginal(oracle)
        assert_means(x.detach(), expected.mean)
        centred = (x - oracle.mean).detach()
        assert_means(centred[:, :, None] * centred[:, None], expected.covariance_matrix)
        torch.testing.assert_close(x[5:9], oracle.sample(4, key=key(3), first=5))

    def test_half_precision_is_computed_in_float32(self):
        oracle = model().bfloat16()
        assert oracle.log_prob(normal(3, 5).bfloat16()).dtype == torch.float32


class TestFit:
    data = model(variance=0.5).sample(400, key=key(1)).detach() * double([1, 2, 1, 0.5, 1])

    def test_the_noise_is_the_mean_of_the_discarded_eigenvalues(self):
        values = torch.linalg.eigvalsh(torch.cov(self.data.T, correction=0))
        fitted = ProbabilisticPCA(5, 2).double().fit(self.data)
        torch.testing.assert_close(fitted.variance.detach(), values[:3].mean())
        spectrum = torch.linalg.eigvalsh(fitted.weight.detach().T @ fitted.weight.detach())
        torch.testing.assert_close(spectrum, values[3:] - values[:3].mean())

    def test_gradients_find_no_more_likelihood_than_the_closed_form(self):
        fitted = ProbabilisticPCA(5, 2).double().fit(self.data)
        best, grad = likelihood(fitted, self.data)
        assert grad < 1e-12
        torch.manual_seed(0)
        trained = ProbabilisticPCA(5, 2).double()
        search = torch.optim.LBFGS(
            trained.parameters(), max_iter=300, tolerance_grad=1e-10, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss():
            search.zero_grad()
            value = -trained.log_prob(self.data).mean()
            value.backward()
            return value

        search.step(loss)
        reached, _ = likelihood(trained, self.data)
        assert reached == pytest.approx(best, abs=1e-9)
        torch.testing.assert_close(
            marginal(trained).covariance_matrix, marginal(fitted).covariance_matrix, rtol=0,
            atol=1e-4,
        )  # fmt: skip

    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_it_is_that_of_scikit_learn(self, size):
        decomposition = pytest.importorskip("sklearn.decomposition")
        pca = decomposition.PCA(size).fit(self.data.numpy())
        fitted = ProbabilisticPCA(5, size).double().fit(self.data, correction=1)
        assert fitted.variance.item() == pytest.approx(pca.noise_variance_, rel=1e-10)
        expected = torch.from_numpy(pca.score_samples(self.data.numpy()))
        torch.testing.assert_close(fitted.log_prob(self.data).detach(), expected)

    def test_factor_analysis_of_the_same_noise_everywhere(self):
        """Its density is ours where its noise is ours; of its own it has more, and more
        likelihood."""
        decomposition = pytest.importorskip("sklearn.decomposition")
        fitted = ProbabilisticPCA(5, 2).double().fit(self.data)
        x = self.data.numpy()
        analysis = decomposition.FactorAnalysis(2, tol=1e-3, svd_method="lapack").fit(x)
        ours = fitted.log_prob(self.data).detach()
        assert analysis.score(x) > ours.mean() + 1e-3
        analysis.components_ = fitted.weight.detach().T.numpy()
        analysis.noise_variance_ = fitted.variance.detach().expand(5).numpy()
        torch.testing.assert_close(ours, torch.from_numpy(analysis.score_samples(x)))
        torch.testing.assert_close(
            fitted.encode(self.data).detach(), torch.from_numpy(analysis.transform(x))
        )

    def test_reconstructions_shrink_the_projection(self):
        """By (λᵢ − σ²)/λᵢ along each eigenvector; with no noise they are the projection."""
        fitted = ProbabilisticPCA(5, 2).double().fit(self.data)
        values, vectors = torch.linalg.eigh(torch.cov(self.data.T, correction=0))
        top, shrink = vectors[:, 3:], 1 - fitted.variance.detach() / values[3:]
        mean = self.data.mean(0)
        expected = mean + (self.data - mean) @ (top * shrink) @ top.T
        torch.testing.assert_close(fitted.reconstruct(self.data).detach(), expected)


class TestBounds:
    def test_the_bound_of_any_gaussian_is_short_by_its_divergence(self):
        oracle, x = model(5, 3), normal(7, 5)
        mean, std = normal(7, 3, seed=4), normal(7, 3, seed=5).abs() + 0.1
        q = MultivariateNormal(mean, scale_tril=std.diag_embed())
        expected = oracle.log_prob(x) - kl_divergence(q, oracle.posterior(x))
        torch.testing.assert_close(oracle.elbo(x, mean, std), expected)

    def test_the_mean_field_is_the_best_of_diagonal_gaussians(self):
        oracle, x = model(5, 3), normal(7, 5)
        mean, log_std = (part.detach().requires_grad_() for part in oracle.mean_field_posterior(x))
        bound = oracle.elbo(x, mean, log_std.exp())
        for grad in torch.autograd.grad(bound.sum(), [mean, log_std]):
            assert grad.abs().max() < 1e-12
        torch.testing.assert_close(bound, oracle.log_prob(x) - oracle.gap())
        assert oracle.gap() > 0.1
        # The bound is concave in the mean and log σ, so the root of its gradient is its maximum.
        for step in (-0.1, 0.1):
            assert (oracle.elbo(x, mean + step, log_std.exp()) < bound).all()
            assert (oracle.elbo(x, mean, (log_std + step).exp()) < bound).all()

    def test_the_gap_closes_where_the_columns_are_orthogonal(self):
        fitted = ProbabilisticPCA(5, 2).double().fit(normal(100, 5))
        assert abs(fitted.gap().item()) < 1e-12
        # A rotation of the latents has the same density, and a gap.
        turned = ProbabilisticPCA(5, 2, mean=fitted.mean, variance=fitted.variance.item(),
            weight=fitted.weight @ double([[0.6, -0.8], [0.8, 0.6]]))  # fmt: skip
        x = normal(4, 5, seed=9)
        torch.testing.assert_close(turned.log_prob(x), fitted.log_prob(x))
        assert turned.gap() > 1e-4

    def test_it_is_the_truth_of_a_vae(self):
        """Whose estimates of its bound are on average the closed form."""
        vae, _ = probabilistic_pca(wider=1.5)
        weight, mean = vae.decoder.weight, vae.decoder.bias
        oracle = ProbabilisticPCA(3, 2, weight=weight, mean=mean, variance=VARIANCE)
        x = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
        q = vae.encode(x)
        found = vae.log_weights(x, 20_000, key=key(1)).detach()
        assert_means(found.T, oracle.elbo(x, q.mean, q.log_std.exp()).detach())
        torch.testing.assert_close(q.mean, oracle.posterior(x).mean)


class TestErrors:
    def test_bad_parameters(self):
        with pytest.raises(ValueError, match="ProbabilisticPCA: latent_size is 0; expected 1"):
            ProbabilisticPCA(3, 0)
        with pytest.raises(ValueError, match=r"variance is 0\.0; expected a finite posit"):
            ProbabilisticPCA(3, 1, variance=0.0)
        with pytest.raises(ValueError, match=r"weight has shape \[1, 3\]; expected \[3, 1\]"):
            ProbabilisticPCA(3, 1, weight=torch.zeros(1, 3))
        with pytest.raises(ValueError, match=r"mean has shape \[1\]; expected \[3\]"):
            ProbabilisticPCA(3, 1, mean=torch.zeros(1))

    @pytest.mark.parametrize(
        "call", ["log_prob", "posterior", "mean_field_posterior", "encode", "fit"]
    )
    def test_data_of_another_shape(self, call):
        with pytest.raises(ValueError, match=rf"{call}: x has shape \[4, 2\]; expected \[N, 3\]"):
            getattr(ProbabilisticPCA(3, 1), call)(torch.zeros(4, 2))

    def test_a_likelihood_without_a_maximum(self):
        line = normal(20, 1) @ double([[1.0, 2.0, 3.0]])
        with pytest.raises(ValueError, match="lie in a plane of 1 dimensions or fewer"):
            ProbabilisticPCA(3, 1).fit(line)
        with pytest.raises(ValueError, match="3 latents of 3 features leave no direction"):
            ProbabilisticPCA(3, 3).fit(line)

    def test_a_posterior_of_another_shape(self):
        zeros = torch.zeros(4, 3)
        with pytest.raises(ValueError, match=r"elbo: std has shape \[4, 3\]; expected \[4, 2\]"):
            ProbabilisticPCA(3, 2).elbo(zeros, torch.zeros(4, 2), zeros + 1)

    def test_data_that_are_not_finite(self):
        with pytest.raises(ValueError, match=r"ProbabilisticPCA\.fit: x is not all finite"):
            ProbabilisticPCA(3, 1).fit(torch.full((5, 3), torch.nan))
