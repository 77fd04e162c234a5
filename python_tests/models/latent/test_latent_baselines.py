"""What generative latent flow is compared with: WAE-GAN, two-stage VAE, RAE + GMM (Yan 2022)."""

import math
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import double
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from gencore.models import (
    VAE,
    WAEGAN,
    Autoencoder,
    Flow,
    GaussianLikelihood,
    GaussianMixture,
    RegularisedAutoencoder,
    TwoStageVAE,
)
from gencore.nn import MLP, Compose
from gencore.objectives import adversarial_discriminator_loss

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def key(seed):
    return torch.tensor([seed, 0])


def autoencoder():
    torch.manual_seed(0)
    return Autoencoder(nn.Linear(3, 2), nn.Linear(2, 3), 2).double()


def adversary(latent_size, width=8):
    return MLP(latent_size, (width,) * 4, 1, activation="relu", zero_last=False)


def quantiles(normal, num=20_000):
    return normal.icdf((torch.arange(num, dtype=torch.float64) + 0.5) / num)


class TestWAEGAN:
    def test_the_adversary_of_the_thesis(self):
        """z → four times 512 units → 1 for 20 latents."""
        assert sum(w.numel() for w in adversary(20, 512).parameters()) == 799_233

    @pytest.mark.parametrize(
        "codes", [Normal(double(0.7), double(0.5)), Normal(double(0), double(1))]
    )
    def test_the_best_adversary_measures_the_jensen_shannon_divergence(self, codes):
        """2 log 2 − 2 JSD, which is 2 log 2 where the codes have the prior, and nothing is less."""
        prior = Normal(double(0.0), double(1.0))

        def loss(logit):
            return adversarial_discriminator_loss(logit(quantiles(prior)), logit(quantiles(codes)))

        best = loss(lambda z: prior.log_prob(z) - codes.log_prob(z))
        z = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
        p, q = (density.log_prob(z).exp() for density in (prior, codes))
        middle = (p + q) / 2
        jsd = sum(torch.trapezoid(torch.xlogy(d, d / middle), z) / 2 for d in (p, q))
        torch.testing.assert_close(best, 2 * math.log(2) - 2 * jsd, rtol=0, atol=1e-3)
        for other in (lambda z: 0 * z, lambda z: 0.3 * z, lambda z: 0.2 - 0.1 * z**2):
            assert loss(other) >= best - 1e-6
        assert loss(lambda z: 0 * z).item() == pytest.approx(2 * math.log(2))

    def test_each_player_has_its_own_gradients(self):
        model = WAEGAN(autoencoder(), adversary(2).double(), adversary_weight=3.0)
        model(X).loss.backward()
        assert all(w.grad is None for w in model.adversary.parameters())
        assert all(w.grad.abs().sum() > 0 for w in model.autoencoder.parameters())
        model.zero_grad()
        model.adversary_loss(X, model.sample_prior(60, key=key(1))).backward()
        assert all(w.grad is None for w in model.autoencoder.parameters())
        assert all(w.grad.abs().sum() > 0 for w in model.adversary.parameters())

    def test_the_losses_are_those_of_the_paper(self):
        model = WAEGAN(autoencoder(), adversary(2).double(), adversary_weight=3.0, prior_std=2.0)
        terms, codes = model(X), model.encode(X)
        probability = model.adversary(codes).sigmoid()
        torch.testing.assert_close(terms.adversarial, -probability.log().mean())
        error = 0.5 * (X - model.decode(codes)).square().sum(1).mean()
        torch.testing.assert_close(terms.loss, error + 3 * terms.adversarial)
        prior = model.sample_prior(40, key=key(1))
        expected = -(1 - probability).log().mean() - model.adversary(prior).sigmoid().log().mean()
        torch.testing.assert_close(model.adversary_loss(X, prior), expected)

    def test_its_prior_has_the_standard_deviation(self):
        model = WAEGAN(autoencoder(), adversary(2).double(), prior_std=2.0)
        z = model.sample_prior(20_000, key=key(2))
        assert_means(z.square(), [4.0, 4.0])
        torch.testing.assert_close(model.sample(3, key=key(2)), model.decode_noise(
            model.sample_noise(3, key=key(2))
        ))  # fmt: skip
        with pytest.raises(ValueError, match="WAEGAN: prior_std is 0; expected a positive number"):
            WAEGAN(autoencoder(), adversary(2), prior_std=0)
        with pytest.raises(ValueError, match="WAEGAN: adversary_weight must be finite and not neg"):
            WAEGAN(autoencoder(), adversary(2), adversary_weight=-1.0)

    def test_the_adversary_s_loss_leaves_batch_statistics_alone(self):
        """And codes are those of the encoder in evaluation mode."""
        normalised = Autoencoder(
            nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), nn.Linear(2, 3), 2
        )
        model = WAEGAN(normalised, adversary(2)).double()
        prior = model.sample_prior(60, key=key(1))
        before = deepcopy(dict(model.named_buffers()))
        loss = model.train().adversary_loss(X + 5, prior)
        assert model.autoencoder.encoder[0].training
        assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
        torch.testing.assert_close(model.eval().adversary_loss(X + 5, prior), loss)


class TestTwoStageVAE:
    def model(self):
        """Linear, with the second likelihood of scale 0.3."""
        torch.manual_seed(0)
        first = VAE(nn.Linear(3, 4), nn.Linear(2, 3), 2)
        second = VAE(nn.Linear(2, 2), nn.Linear(1, 2), 1, likelihood=GaussianLikelihood(0.3))
        return TwoStageVAE(first, second).double()

    def test_samples_are_those_of_the_hierarchy(self):
        """z ~ N(b, vvᵀ + 0.09), and x is affine in z."""
        model = self.model()
        v, b = (w.detach() for w in (model.second.decoder.weight, model.second.decoder.bias))
        w, shift = (w.detach() for w in (model.first.decoder.weight, model.first.decoder.bias))
        covariance = w @ (v @ v.T + 0.09 * torch.eye(2)) @ w.T
        with torch.no_grad():
            x = model.sample(20_000, key=key(1)) - (w @ b + shift)
        assert_means(x, torch.zeros(3))
        assert_means(x[:, :, None] * x[:, None], covariance)
        assert model.noise_size == 3

    def test_with_the_exact_posteriors_every_weight_is_the_likelihood(self):
        """z ~ N(b, s²) with s² = v² + 0.09, and x ~ N(wb + c, s²wwᵀ + I)."""
        torch.manual_seed(0)
        first = VAE(nn.Linear(3, 2), nn.Linear(1, 3), 1)
        second = VAE(nn.Linear(1, 2), nn.Linear(1, 1), 1, likelihood=GaussianLikelihood(0.3))
        model = TwoStageVAE(first, second).double().requires_grad_(False)
        w, c = first.decoder.weight[:, 0], first.decoder.bias
        v, b = second.decoder.weight[0, 0], second.decoder.bias[0]
        variance = v.square() + 0.09
        for encoder, slope, shift, precision in (
            (first.encoder, w, b / variance - w @ c, w @ w + 1 / variance),
            (second.encoder, v / 0.09, -v * b / 0.09, 1 + v.square() / 0.09),
        ):
            encoder.weight[0], encoder.weight[1] = slope / precision, 0
            encoder.bias[0], encoder.bias[1] = shift / precision, -0.5 * precision.log()
        covariance = variance * torch.outer(w, w) + torch.eye(3)
        exact = torch.distributions.MultivariateNormal(w * b + c, covariance).log_prob(X)
        weights = model.log_weights(X, 4, key=key(4), first=2, first_sample=1)
        torch.testing.assert_close(weights, exact[:, None].expand(-1, 4))

    def test_chunks_of_weights_are_those_of_the_whole(self):
        model = self.model().requires_grad_(False)
        whole, parts = (
            model.log_prob_bound(X, 7, chunk_size=size, key=key(4)) for size in (7, 3)
        )  # fmt: skip
        torch.testing.assert_close(parts, whole)
        rows = model.log_prob_bound(X[20:], 7, key=key(4), first=20)
        torch.testing.assert_close(rows, whole[20:])

    def test_the_second_stage_models_draws_from_the_posterior(self):
        model = self.model()
        posterior = model.encode(X[:1])
        z = model.draw_codes(X[:1].expand(20_000, 3), key=key(2))
        assert_means(z, posterior.mean[0].detach())
        assert_means(
            (z - posterior.mean.detach()).square(), (2 * posterior.log_std[0]).exp().detach()
        )
        model(X).loss.backward()
        assert all(w.grad is None for w in model.first.parameters())
        assert all(w.grad.abs().sum() > 0 for w in model.second.parameters() if w.requires_grad)

    def test_parts_of_a_batch_have_the_loss_of_the_whole(self):
        model = self.model()
        whole = model(X, key=key(3)).loss
        parts = [model(X[:20], key=key(3)), model(X[20:], key=key(3), first=20)]
        torch.testing.assert_close((parts[0].loss + 2 * parts[1].loss) / 3, whole)

    def test_codes_and_the_second_one_s_latents_are_independent(self):
        """Of data that say nothing z and u are N(0, 1), and with μ₂(u) = u the mean of ½(z − u)² is
        1; it were 0 if they were the same numbers."""
        num = 20_000

        def vae():
            networks = nn.Linear(1, 2), nn.Linear(1, 1)
            for network in networks:
                nn.init.zeros_(network.weight)
                nn.init.zeros_(network.bias)
            nn.init.ones_(networks[1].weight)
            return VAE(*networks, 1)

        reconstruction = TwoStageVAE(vae(), vae())(torch.zeros(num, 1), key=key(6)).reconstruction
        half_square = reconstruction.item() - 0.5 * math.log(2 * math.pi)
        # ½(z − u)² is a χ² of one degree: its variance is 2.
        assert half_square == pytest.approx(1, abs=5 * math.sqrt(2 / num))

    def test_the_second_stage_leaves_the_first_s_batch_statistics_alone(self):
        first = VAE(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)), nn.Linear(2, 3), 2)
        model = TwoStageVAE(first, self.model().second).double()
        before = deepcopy(dict(first.named_buffers()))
        loss = model.train()(X + 5, key=key(1)).loss
        assert first.encoder[0].training
        assert all(torch.equal(value, before[name]) for name, value in first.named_buffers())
        torch.testing.assert_close(model.eval()(X + 5, key=key(1)).loss, loss)

    def test_vaes_that_do_not_fit_are_named(self):
        first = VAE(nn.Linear(3, 4), nn.Linear(2, 3), 2)
        binary = VAE(nn.Linear(2, 2), nn.Linear(1, 2), 1, likelihood="bernoulli")
        with pytest.raises(ValueError, match="second VAE has a BernoulliLikelihood"):
            TwoStageVAE(first, binary)
        flow = VAE(nn.Linear(3, 4), nn.Linear(2, 3), 2, prior=Flow(Compose(), [2]))
        with pytest.raises(ValueError, match="a VAE has another prior"):
            TwoStageVAE(flow, first)


class TestRegularisedAutoencoder:
    def test_the_gradient_of_the_penalty(self):
        """γ‖Ax + b‖² has 2γ E[(Ax + b)xᵀ] in A and 2γ E[Ax + b] in b."""
        model = RegularisedAutoencoder(autoencoder(), code_penalty=0.7)
        terms, encoder = model(X), model.autoencoder.encoder
        penalty = terms.loss - terms.reconstruction
        found = torch.autograd.grad(penalty, [encoder.weight, encoder.bias])
        codes = X @ encoder.weight.T + encoder.bias
        expected = [1.4 * codes.T @ X / len(X), 1.4 * codes.mean(0)]
        torch.testing.assert_close(list(found), expected)

    def test_a_negative_penalty_is_refused(self):
        with pytest.raises(
            ValueError, match="RegularisedAutoencoder: code_penalty must be finite a"
        ):
            RegularisedAutoencoder(autoencoder(), code_penalty=-1.0)

    def test_there_are_no_samples_before_the_mixture(self):
        model = RegularisedAutoencoder(autoencoder(), num_components=2).double()
        with pytest.raises(ValueError, match="no samples before the mixture is fitted"):
            model.sample(3)
        model.mixture.fit(model.encode(X))
        assert model.sample(3).shape == (3, 3)
        again = RegularisedAutoencoder(autoencoder(), num_components=2).double()
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again.sample(3, key=key(1)), model.sample(3, key=key(1)))


class TestGaussianMixture:
    def mixture(self):
        """Of weights 0.2 and 0.8, in closed form."""
        mixture = GaussianMixture(2, 2).double()
        mixture.log_weights.copy_(double([0.2, 0.8]).log())
        mixture.means.copy_(double([[-2.0, 1.0], [1.0, 0.0]]))
        mixture.factors.copy_(double([[[0.5, 0.0], [0.3, 0.4]], [[1.0, 0.0], [-0.5, 0.2]]]))
        mixture.fitted.fill_(True)
        each = MultivariateNormal(mixture.means, scale_tril=mixture.factors)
        return mixture, MixtureSameFamily(Categorical(double([0.2, 0.8])), each)

    def test_its_density_and_its_samples(self):
        mixture, expected = self.mixture()
        torch.testing.assert_close(mixture.log_prob(X[:, :2]), expected.log_prob(X[:, :2]))
        noise = torch.randn(
            40_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        z = mixture.from_noise(noise)
        assert_means(z, expected.mean)
        assert_means((z - expected.mean).square(), expected.variance)
        assert_means((mixture.log_prob(z)), mixture.log_prob(expected.sample((200_000,))).mean())

    def test_each_step_of_the_fit_gains_likelihood(self):
        """Expectation maximisation never loses; the starts are the same."""
        pytest.importorskip("sklearn")
        torch.manual_seed(0)
        mixture, truth = self.mixture()
        z = truth.sample((500,))
        found = []
        for steps in (1, 2, 3, 5, 10, 20):
            fitted = GaussianMixture(2, 3).double().fit(z, max_steps=steps, seed=1)
            found.append(fitted.log_prob(z).mean().item())
        assert all(after >= before - 1e-9 for before, after in pairwise(found))
        assert found[-1] > found[0] + 1e-3
        # More components than the truth has: its likelihood of the sample is exceeded.
        assert found[-1] > mixture.log_prob(z).mean()

    def test_it_finds_the_components(self):
        pytest.importorskip("sklearn")
        torch.manual_seed(0)
        mixture, truth = self.mixture()
        fitted = GaussianMixture(2, 2).double().fit(truth.sample((20_000,)))
        order = fitted.log_weights.argsort()
        for name in ("log_weights", "means", "factors"):
            found, expected = getattr(fitted, name)[order], getattr(mixture, name)
            torch.testing.assert_close(found, expected, rtol=0, atol=0.05)

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"z has shape \[3, 2\]; expected \[N, 2\] of at lea"):
            GaussianMixture(2, 5).fit(torch.zeros(3, 2))
        mixture, _ = self.mixture()
        with pytest.raises(ValueError, match=r"log_prob: z has shape \[4, 1\]; expected \[N, 2\]"):
            mixture.log_prob(torch.zeros(4, 1))
        with pytest.raises(
            ValueError, match=r"from_noise: noise has shape \[4, 2\]; expected \[N, 3"
        ):
            mixture.from_noise(torch.zeros(4, 2))
        for function, size in (("log_prob", 2), ("from_noise", 3)):
            with pytest.raises(
                RuntimeError, match=f"GaussianMixture.{function}: the mixture is not"
            ):
                getattr(GaussianMixture(2, 2), function)(torch.zeros(4, size))

    def test_half_precision_is_computed_in_float32(self):
        mixture, _ = self.mixture()
        half = mixture.bfloat16()
        same, z = deepcopy(half).float(), X[:, :2].bfloat16()
        density, expected = half.log_prob(z), same.log_prob(z.float())
        assert density.dtype == torch.float32
        assert torch.equal(density, expected)
        noise = X.bfloat16()
        vectors = half.from_noise(noise)
        assert torch.equal(vectors, same.from_noise(noise.float()).bfloat16())
