"""The VAE and its flow prior: exact bounds of linear models, weights, samples (Yan 2022, §3.2)."""

import math

import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import Affine, double, probabilistic_pca
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from gencore.models import (
    VAE,
    WAEGAN,
    Autoencoder,
    BernoulliLikelihood,
    CouplingFlow,
    Flow,
    GaussianLikelihood,
)
from gencore.nn import MLP, Compose

X = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
STD, MEAN = (0.5, 2.0), (1.0, -0.3)


def key(seed):
    return torch.tensor([seed, 0])


def flow_of(std, mean):
    return Flow(Affine(torch.diag(double(std)), double(mean)), [2])


class TestBounds:
    def test_with_the_exact_posterior_every_draw_is_the_likelihood(self):
        model, marginal = probabilistic_pca()
        expected = marginal.log_prob(X)
        weights = model.log_weights(X, 5, key=key(1))
        torch.testing.assert_close(weights, expected[:, None].expand(2, 5))
        torch.testing.assert_close(model.elbo(X, key=key(2)), expected)
        torch.testing.assert_close(model.log_prob_bound(X, 5, key=key(1)), expected)

    def test_so_it_is_with_the_prior_of_a_flow(self):
        model, marginal = probabilistic_pca(flow_of(STD, MEAN), STD, MEAN)
        expected = marginal.log_prob(X)
        torch.testing.assert_close(
            model.log_weights(X, 5, key=key(1)), expected[:, None].expand(2, 5)
        )
        _, other = probabilistic_pca()
        assert not torch.allclose(other.log_prob(X), expected)

    def test_the_identity_as_a_flow_is_the_standard_prior(self):
        """(3.1) is then (2.1), draw by draw, with a posterior that is not exact."""
        model, _ = probabilistic_pca(wider=1.5)
        flow, _ = probabilistic_pca(Flow(Compose(), [2]), wider=1.5)
        torch.testing.assert_close(
            flow.log_weights(X, 4, key=key(1)), model.log_weights(X, 4, key=key(1))
        )
        one, other = (m(X, key=key(1)) for m in (flow, model))
        torch.testing.assert_close(one.reconstruction, other.reconstruction)
        torch.testing.assert_close(model.sample(3, key=key(2)), flow.sample(3, key=key(2)))

    def test_the_bound_is_below_the_likelihood_by_the_divergence(self):
        """log p − E[elbo] = KL(q ‖ posterior), here of Gaussians of one mean and 1.5 of the
        width; and importance weights close the gap."""
        model, marginal = probabilistic_pca(wider=1.5)
        gap = 2 * (0.5 * (1.5**2 - 1) - math.log(1.5))
        weights = model.log_weights(X, 100_000, key=key(1)).detach()
        bounds = [weights]
        for num in (10, 100):
            parts = weights.unflatten(1, (-1, num))
            bounds.append(parts.logsumexp(2) - math.log(num))
        assert_means(bounds[0].T, marginal.log_prob(X) - gap)
        means = torch.stack([bound.mean(1) for bound in bounds])
        assert (means.diff(dim=0) > 0).all()
        assert (means[-1] < marginal.log_prob(X)).all()
        assert (marginal.log_prob(X) - means[-1] < 0.01).all()


class TestLoss:
    def test_the_divergence_from_a_standard_normal_is_exact(self):
        torch.manual_seed(0)
        model = VAE(MLP(3, (8,), 4, zero_last=False), MLP(2, (8,), 3), 2).double()
        posterior = model.encode(X)
        expected = kl_divergence(Normal(posterior.mean, posterior.log_std.exp()), Normal(0.0, 1.0))
        torch.testing.assert_close(model(X).kl, expected.sum(1).mean())
        torch.nn.init.zeros_(model.encoder.layers[-1].weight)
        torch.nn.init.zeros_(model.encoder.layers[-1].bias)
        assert model(X).kl == 0

    def test_the_terms_are_those_of_the_bound(self):
        model, _ = probabilistic_pca(flow_of(STD, MEAN), wider=1.3)
        model.recon_weight, model.kl_weight = 3.0, 0.5
        terms = model(X, key=key(1))
        elbo = model.elbo(X, key=key(1)).mean()
        torch.testing.assert_close(-(terms.reconstruction + terms.kl), elbo)
        torch.testing.assert_close(terms.loss, 3 * terms.reconstruction + 0.5 * terms.kl)

    def test_the_weight_of_the_reconstruction_is_a_precision(self):
        """β has the gradients of a Gaussian with σ² = 1/β."""
        gradients = []
        for options in ({"recon_weight": 9.0}, {"likelihood": GaussianLikelihood(1 / 3)}):
            torch.manual_seed(0)
            model = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2, **options).double()
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            gradients.append(torch.autograd.grad(model(X, key=key(1)).loss, weights))
        torch.testing.assert_close(*gradients)

    def test_a_learned_scale_finds_the_residual(self):
        """The derivative in log σ is D − ‖x − x̂‖²/σ²: zero at the mean square."""
        model = VAE(MLP(3, (), 4), MLP(2, (), 3), 2, likelihood=GaussianLikelihood(learned=True))
        model.double()
        with torch.no_grad():
            model.likelihood.log_std.fill_(0.5 * X.square().mean().log())
        (gradient,) = torch.autograd.grad(model(X).loss, [model.likelihood.log_std])
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)

    @pytest.mark.parametrize("prior", [False, True])
    def test_gradients_reach_all_weights(self, prior):
        flow = CouplingFlow(2, num_layers=2, hidden_widths=(4,)) if prior else None
        model = VAE(MLP(3, (8,), 4, zero_last=False), MLP(2, (8,), 3, zero_last=False), 2,
                    prior=flow)  # fmt: skip
        model(X.float()).loss.backward()
        assert all(w.grad.abs().sum() > 0 for w in model.parameters() if w.requires_grad)


class TestSamples:
    def test_they_have_the_density(self):
        model, marginal = probabilistic_pca(flow_of(STD, MEAN), STD, MEAN)
        with torch.no_grad():
            x = model.sample(20_000, noise=True, key=key(3)) - marginal.mean
            assert_means(x, torch.zeros(3))
            assert_means(x[:, :, None] * x[:, None], marginal.covariance_matrix)
            expected = model.sample(20_000, key=key(3)) - marginal.mean
            plain = marginal.covariance_matrix - 0.49 * torch.eye(3)
            assert_means(expected[:, :, None] * expected[:, None], plain)

    def test_parts_of_them_are_those_of_the_whole(self):
        model, _ = probabilistic_pca()
        whole = model.sample(5, noise=True, key=key(4))
        torch.testing.assert_close(model.sample(3, noise=True, key=key(4), first=2), whole[2:])
        elbo = model.elbo(whole, key=key(5))
        torch.testing.assert_close(model.elbo(whole[2:], key=key(5), first=2), elbo[2:])

    @pytest.mark.parametrize("kind", ["vae", "autoencoder"])
    def test_so_they_are_in_training_mode_with_batch_normalisation(self, kind):
        """Whose statistics they leave alone."""
        torch.manual_seed(0)
        decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        if kind == "vae":
            model = VAE(nn.Linear(3, 4), decoder, 2)
        else:
            model = WAEGAN(Autoencoder(nn.Linear(3, 2), decoder, 2), nn.Linear(2, 1))
        model.train()
        before = {name: value.clone() for name, value in model.named_buffers()}
        whole, rest = model.sample(6, key=key(1)), model.sample(3, key=key(1), first=3)
        torch.testing.assert_close(rest, whole[3:])
        assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
        assert all(part.training for part in model.modules())

    def test_noise_is_decoded_by_the_inverse_of_the_flow(self):
        model, _ = probabilistic_pca(flow_of(STD, MEAN))
        u = double([[0.5, -1.0]])
        expected = model.decode(u * double(STD) + double(MEAN))
        torch.testing.assert_close(model.decode_noise(u), expected)
        expected = model.decode_noise(model.sample_noise(4, key=key(1)))
        torch.testing.assert_close(model.sample(4, key=key(1)), expected)

    def test_interpolations_are_lines_in_noise(self):
        """The decoder is affine, so they are lines in the data as well."""
        model, _ = probabilistic_pca(flow_of(STD, MEAN))
        start, end = double([[0.0, 1.0]]), double([[2.0, -1.0]])
        x = model.interpolate(start, end, 5)
        assert x.shape == (1, 5, 3)
        torch.testing.assert_close(x[:, 0], model.decode_noise(start))
        torch.testing.assert_close(x[:, -1], model.decode_noise(end))
        torch.testing.assert_close(x.diff(dim=1), x.diff(dim=1)[:, :1].expand(-1, 4, -1))

    def test_binary_pixels(self):
        likelihood, logits = BernoulliLikelihood(), double([[-1.0, 0.0, 2.0]])
        x = double([[1.0, 0.0, 1.0]])
        expected = Bernoulli(logits=logits)
        torch.testing.assert_close(likelihood.log_prob(logits, x), expected.log_prob(x))
        draws = likelihood.draw(logits.expand(20_000, 3), key(1))
        assert set(draws.unique().tolist()) == {0.0, 1.0}
        assert_means(draws, expected.probs[0])
        torch.testing.assert_close(likelihood.draw(logits.expand(9, 3), key(1), 3), draws[3:12])
        model = VAE(MLP(3, (8,), 4), nn.Linear(2, 3), 2, likelihood="bernoulli")
        assert ((model.sample(4) > 0) & (model.sample(4) < 1)).all()


class TestErrors:
    def test_networks_that_do_not_fit_are_named(self):
        with pytest.raises(ValueError, match=r"VAE: the encoder gives \[2, 3\] .* \[2, 4\]"):
            VAE(MLP(3, (), 3), MLP(2, (), 3), 2)(X.float())
        with pytest.raises(ValueError, match=r"VAE: the decoder gives \[2, 4\]; expected \[N, 3\]"):
            VAE(MLP(3, (), 4), MLP(2, (), 4), 2)(X.float())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"likelihood": "laplace"}, "likelihood is 'laplace'; expected one of gaussian, bern"),
            ({"prior": Flow(Compose(), [3])}, r"flow is over \[3\] .* expected one over \[2\]"),
            ({"prior": Flow(Compose(), [2], base="logistic")}, "logistic latents"),
            ({"recon_weight": math.nan}, "recon_weight"),
            ({"kl_weight": -1.0}, "VAE: kl_weight must be finite and not negative, got -1"),
        ],
    )
    def test_options_that_do_not_fit(self, options, message):
        with pytest.raises(ValueError, match=message):
            VAE(MLP(3, (), 4), MLP(2, (), 3), 2, **options)

    def test_a_scale_is_positive(self):
        with pytest.raises(ValueError, match="GaussianLikelihood: scale is 0; expected a positive"):
            GaussianLikelihood(0)

    def test_lines_have_two_ends(self):
        model = VAE(MLP(3, (), 4), MLP(2, (), 3), 2)
        with pytest.raises(ValueError, match=r"start and end have shapes \[1, 2\] and \[1, 3\]"):
            model.interpolate(torch.zeros(1, 2), torch.zeros(1, 3), 3)
        with pytest.raises(ValueError, match="steps is 1; expected 2 or more"):
            model.interpolate(torch.zeros(1, 2), torch.zeros(1, 2), 1)
