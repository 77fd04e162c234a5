"""The hierarchical VAE: one level is a VAE, a linear chain in closed form, divergences, noise."""

import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import LinearPosterior, double, probabilistic_pca
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gencore.inference import NormalParameters
from gencore.inference.gaussian_posterior import normal_kl_terms
from gencore.models import (
    ConvLevel,
    GaussianLikelihood,
    TopDownVAE,
    VectorLevel,
)
from gencore.nn import MLP, BottomUp

X = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
# z_1 ~ N(0, 1), z_2 ~ N(A z_1 + C, S²), x ~ N(W z + B, T²).
A, C, S, T = 0.8, -0.3, 0.6, 0.7
W, B = double([[1.0, 2.0], [1.0, -1.0], [0.5, 0.0]]), double([0.3, -1.0, 2.0])


def key(seed):
    return torch.tensor([seed, 0])


def affine(weight, bias, std):
    """A network whose mean is affine and whose standard deviation is constant."""
    zero = torch.zeros(weight.shape[1], dtype=torch.float64)
    return LinearPosterior(weight, (zero, bias), double([std]))


def joint():
    """Mean and covariance of (z_1, z_2, x)."""
    latent = double([[1, A], [A, A**2 + S**2]])
    upper = latent @ W.T
    covariance = torch.cat([
        torch.cat([latent, upper], 1),
        torch.cat([upper.T, W @ upper + T**2 * torch.eye(3)], 1),
    ])  # fmt: skip
    latent_mean = double([0, C])
    return torch.cat([latent_mean, W @ latent_mean + B]), covariance


def conditional(target, given):
    """The affine map from the given elements to one element's mean, and its deviation."""
    mean, covariance = joint()
    gain = torch.linalg.solve(covariance[given][:, given], covariance[given][:, target])
    variance = covariance[target, target] - gain @ covariance[given, target]
    return gain[None], (mean[target] - gain @ mean[given])[None], variance.sqrt().item()


def chain(wider=1.0):
    """The chain as a model, with its exact posterior but for a factor of the deviations."""
    top, below = conditional(0, [2, 3, 4]), conditional(1, [0, 2, 3, 4])
    levels = [
        VectorLevel(1, affine(top[0], top[1], wider * top[2])),
        VectorLevel(
            1, affine(below[0], below[1], wider * below[2]), affine(double([[A]]), double([C]), S)
        ),
    ]
    decoder = nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(W)
        decoder.bias.copy_(B)
    encoder = BottomUp(nn.Identity(), nn.Identity())
    return TopDownVAE(encoder, levels, decoder, likelihood=GaussianLikelihood(T)).double()


def marginal():
    mean, covariance = joint()
    return MultivariateNormal(mean[2:], covariance[2:, 2:])


def networks(**options):
    torch.manual_seed(0)
    levels = [
        VectorLevel(2, MLP(5, (8,), 4, zero_last=False)),
        VectorLevel(3, MLP(10, (8,), 6, zero_last=False), MLP(2, (8,), 6, zero_last=False)),
    ]
    encoder = BottomUp(nn.Linear(3, 8), nn.Sequential(nn.ELU(), nn.Linear(8, 5)))
    return TopDownVAE(encoder, levels, MLP(5, (8,), 3, zero_last=False), **options).double()


class TestOneLevel:
    def test_it_is_the_vae_draw_by_draw(self):
        vae, _ = probabilistic_pca(wider=1.5)
        model = TopDownVAE(
            BottomUp(vae.encoder), [VectorLevel(2, nn.Identity())], vae.decoder,
            likelihood=vae.likelihood, recon_weight=2.0, kl_weight=0.5,
        )  # fmt: skip
        vae.recon_weight, vae.kl_weight = 2.0, 0.5
        for name in ("elbo", "analytic_elbo"):
            found, expected = (getattr(m, name)(X, key=key(1), first=3) for m in (model, vae))
            torch.testing.assert_close(found, expected)
        bound = model.log_prob_bound(X, 5, key=key(1), chunk_size=2)
        torch.testing.assert_close(bound, vae.log_prob_bound(X, 5, key=key(1)))
        torch.testing.assert_close(model(X, key=key(1))[:3], tuple(vae(X, key=key(1))))
        for noise in (False, True):
            found, expected = (m.sample(4, noise=noise, key=key(1)) for m in (model, vae))
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(model.reconstruct(X), vae.reconstruct(X))


class TestChain:
    def test_with_the_exact_posterior_every_draw_is_the_likelihood(self):
        expected = marginal().log_prob(X)
        weights = chain().log_weights(X, 5, key=key(1))
        torch.testing.assert_close(weights, expected[:, None].expand(2, 5))
        assert (chain(1.5).elbo(X, key=key(1)) - expected).abs().min() > 1e-3

    def test_the_gap_of_a_wider_posterior_is_its_divergence(self):
        """KL(q ‖ posterior) is the sum of the levels', each of two Gaussians of one mean."""
        gap = 2 * (0.5 * (1.5**2 - 1) - double(1.5).log())
        weights = chain(1.5).log_weights(X, 50_000, key=key(1)).detach()
        assert_means(weights.T, marginal().log_prob(X) - gap)
        bounds = weights.unflatten(1, (-1, 100)).logsumexp(2) - double(100.0).log()
        missing = marginal().log_prob(X) - bounds.mean(1)
        assert (missing > 0).all()
        assert (missing < 0.02).all()

    def test_samples_have_the_density(self):
        mean, covariance = joint()
        x = chain().sample(20_000, noise=True, key=key(3)).detach() - mean[2:]
        assert_means(x, torch.zeros(3))
        assert_means(x[:, :, None] * x[:, None], covariance[2:, 2:])


class TestDivergence:
    def test_levels_sum_to_that_of_all_latents(self):
        """log q(z | x) − log p(z) and the closed forms given the levels above have one mean."""
        model = networks()
        rows = X[:1].expand(20_000, 3)
        with torch.no_grad():
            reconstruction = model.analytic_elbo(rows, key=key(1)) - model.elbo(rows, key=key(1))
        assert_means(reconstruction, double(0.0))
        assert reconstruction.std() > 0.1

    def test_of_two_gaussians_it_is_that_of_torch(self):
        torch.manual_seed(0)
        q, p = (NormalParameters(*torch.randn(2, 4, 3, dtype=torch.float64)) for _ in "qp")
        expected = kl_divergence(Normal(q.mean, q.log_std.exp()), Normal(p.mean, p.log_std.exp()))
        torch.testing.assert_close(normal_kl_terms(q, p), expected)
        tiny = NormalParameters(p.mean.float() * 1e-4, p.log_std.float() * 1e-4)
        assert (normal_kl_terms(tiny, NormalParameters(tiny.mean, -tiny.log_std)) >= 0).all()
        assert (normal_kl_terms(p, p) == 0).all()

    def test_free_bits_are_of_each_level(self):
        model, free = networks(), networks(free_bits=1e3, kl_weight=0.5)
        terms, counted = model(X, key=key(1)), free(X, key=key(1))
        torch.testing.assert_close(terms.level_kls, counted.level_kls)
        torch.testing.assert_close(terms.level_kls.sum(), terms.kl)
        torch.testing.assert_close(counted.loss, counted.reconstruction + 0.5 * 2e3)


class TestLatents:
    def test_noise_and_latents_are_inverse(self):
        model = networks()
        z = model.encode(X)
        torch.testing.assert_close(model.from_noise(model.to_noise(z)), z)
        torch.testing.assert_close(model.decode_noise(model.to_noise(z)), model.reconstruct(X))
        assert model.to_noise(z).sub(z).abs().min(0).values[2:].max() > 1e-2

    def test_parts_of_samples_and_bounds_are_those_of_the_whole(self):
        model = networks()
        whole = model.sample(5, noise=True, key=key(4))
        torch.testing.assert_close(model.sample(3, noise=True, key=key(4), first=2), whole[2:])
        bound = model.log_prob_bound(whole, 6, key=key(5))
        parts = model.log_prob_bound(whole[2:], 6, key=key(5), first=2, chunk_size=4)
        torch.testing.assert_close(parts, bound[2:])

    def test_gradients(self):
        model = networks()
        assert torch.autograd.gradcheck(lambda x: model(x, key=key(1)).loss, X.requires_grad_())
        model(X, key=key(1)).loss.backward()
        assert all(w.grad.abs().sum() > 0 for w in model.parameters() if w.requires_grad)


class TestMaps:
    def make(self, dtype=torch.float32):
        torch.manual_seed(0)
        down = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ELU())
        levels = [ConvLevel((4, 2, 2), 1, 5, up=True), ConvLevel((4, 4, 4), 2, 6)]
        encoder = BottomUp(down, nn.Sequential(nn.Conv2d(6, 5, 2, stride=2), nn.ELU()))
        start = nn.Parameter(torch.zeros(4, 2, 2))
        return TopDownVAE(
            encoder, levels, nn.Conv2d(4, 1, 3, padding=1), start=start, likelihood="bernoulli"
        ).to(dtype)

    def test_at_first_nothing_is_said(self):
        terms = self.make()(torch.rand(3, 1, 4, 4))
        assert (terms.level_kls == 0).all()

    def test_it_learns_all_its_weights(self):
        model = self.make()
        x = (torch.rand(64, 1, 4, 4) < torch.rand(64, 1, 1, 1)).float()
        first = model(x, key=key(0)).loss.item()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(60):
            optimizer.zero_grad()
            loss = model(x, key=torch.tensor([1, step])).loss
            loss.backward()
            optimizer.step()
        assert all(w.grad.abs().sum() > 0 for w in model.parameters() if w.requires_grad)
        assert loss < first - 0.5
        assert model(x).kl > 0.1
        assert model.sample(2).shape == (2, 1, 4, 4)

    def test_double_precision(self):
        x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
        assert self.make(torch.float64)(x).loss.dtype == torch.float64


class TestErrors:
    def test_levels_that_do_not_fit_are_told(self):
        with pytest.raises(ValueError, match=r"TopDownVAE: there are no levels"):
            TopDownVAE(nn.Identity(), [], nn.Identity())
        model = networks()
        model.encoder = nn.Linear(3, 8).double()
        with pytest.raises(ValueError, match=r"gives one tensor; expected the features of 2 lev"):
            model(X)
        model.encoder = BottomUp(model.encoder)
        with pytest.raises(ValueError, match=r"gives 1 of them; expected the features of 2 lev"):
            model(X)

    def test_networks_that_do_not_fit_are_told(self):
        level = VectorLevel(2, nn.Linear(3, 3))
        with pytest.raises(ValueError, match=r"the posterior gives \[1, 3\]; expected \[N, 4\]"):
            level.posterior(torch.zeros(1, 0), torch.zeros(1, 3))
        model = networks()
        model.decoder = nn.Linear(5, 4).double()
        with pytest.raises(ValueError, match=r"TopDownVAE: the decoder gives \[2, 4\]; expected"):
            model(X)
        with pytest.raises(ValueError, match=r"BottomUp: there are no blocks"):
            BottomUp()
