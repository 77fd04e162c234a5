"""Priors, posteriors and likelihoods that a VAE can be given, and its numerics at extremes."""

import math

import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import double
from torch import nn
from torch.distributions import (
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
    kl_divergence,
)

from gencore.inference.gaussian_posterior import standard_normal_kl
from gencore.models import (
    VAE,
    BernoulliLikelihood,
    CouplingFlow,
    FlowPosterior,
    GaussianLikelihood,
    GaussianMixture,
    LevelLikelihood,
)
from gencore.models.latent.latent_prior import make_prior
from gencore.nn import MLP, Categorical, DiscretizedLogistic

KEY = torch.tensor([3, 1])


def make(latent_size=2, **settings):
    torch.manual_seed(0)
    return VAE(
        MLP(3, (8,), 2 * latent_size, zero_last=False), MLP(latent_size, (8,), 3, zero_last=False),
        latent_size, **settings,
    )  # fmt: skip


class Constant(nn.Module):
    """The same outputs for all rows."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs.to(x.dtype).expand(len(x), *self.outputs.shape)


def elements(base):
    return Independent(base, 1)


PRIORS = {
    "laplace": elements(Laplace(torch.tensor([0.5, -1.0]), torch.tensor([1.0, 2.0]))),
    "uniform": elements(Uniform(torch.tensor([-9.0, -8.0]), torch.tensor([9.0, 8.0]))),
    "normal": elements(Normal(torch.tensor([0.5, -1.0]), torch.tensor([0.5, 2.0]))),
}


class TestPriors:
    @pytest.mark.parametrize("name", PRIORS)
    def test_latents_of_noise_have_the_moments_of_the_distribution(self, name):
        vae = make(prior=PRIORS[name])
        z = vae.prior.from_noise(vae.sample_noise(100_000, key=KEY))
        expected = PRIORS[name].mean
        assert_means(z, expected)
        assert_means((z - expected).square(), PRIORS[name].variance)
        assert vae.prior_distribution() is PRIORS[name]

    def test_the_bound_of_one_latent_is_exact_by_quadrature(self):
        """log p(x) = log ∫ p(z) p(x | z) dz of a Laplace prior on a line, reached by many
        samples."""
        prior = elements(Laplace(torch.zeros(1).double(), torch.ones(1).double()))
        vae = make(1, prior=prior, likelihood=GaussianLikelihood(0.7)).double()
        x = double([[0.3, -0.5, 1.0]])
        grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
        with torch.no_grad():
            joint = prior.log_prob(grid) + vae.likelihood_distribution(grid).log_prob(x)
            exact = torch.trapezoid(joint.exp(), grid[:, 0]).log()
            found = vae.log_prob_bound(x, 20_000, chunk_size=10_000, key=KEY)
        torch.testing.assert_close(found, exact[None], rtol=0, atol=0.03)

    def test_a_mixture(self):
        mixture = GaussianMixture(2, 3).fit(torch.randn(300, 2) * torch.tensor([1.0, 3.0]))
        vae = make(prior=mixture)
        assert vae.noise_size == 3
        z = torch.randn(5, 4, 2)
        expected = mixture.log_prob(z.flatten(0, 1)).view(5, 4)
        torch.testing.assert_close(vae.prior.log_prob(z), expected)
        assert vae.sample(6).shape == (6, 3)
        torch.testing.assert_close(vae.prior_distribution().log_prob(z), expected.view(5, 4))

    def test_the_standard_normal_one_is_where_the_model_is(self):
        assert make().double().prior_distribution().mean.dtype == torch.float64
        assert make().to("meta").prior.mean.is_meta

    def test_a_distribution_on_another_device(self):
        given = elements(Normal(torch.zeros(2, device="meta"), 1.0, validate_args=False))
        prior = make_prior("VAE", given, 2)
        assert prior.from_noise(torch.zeros(5, 2, device="meta")).is_meta

    def test_that_of_a_flow_is_its_distribution(self):
        flow = CouplingFlow(2, num_layers=2, hidden_widths=(8,))
        z = torch.randn(7, 2)
        found = make(prior=flow).prior_distribution().log_prob(z)
        torch.testing.assert_close(found, flow.log_prob(z))

    @pytest.mark.parametrize(
        ("prior", "error", "message"),
        [
            (Normal(0.0, 1.0), ValueError, r"the prior is a Normal with batch shape \[\]"),
            (elements(StudentT(torch.ones(2))), ValueError, "the prior is a .* without an inverse"),
            (
                MixtureSameFamily(
                    torch.distributions.Categorical(torch.ones(2)),
                    MultivariateNormal(torch.zeros(2, 2), torch.eye(2)),
                ),
                ValueError, "the prior is a .* without an inverse",
            ),
            (GaussianMixture(3, 2), ValueError, r"the prior is a mixture over \[3\]"),
            ("normal", TypeError, "the prior is a str; expected a Flow, a GaussianMixture"),
        ],
    )  # fmt: skip
    def test_those_that_do_not_fit(self, prior, error, message):
        with pytest.raises(error, match=f"VAE: {message}"):
            make(prior=prior)


class TestLikelihoods:
    @pytest.mark.parametrize("name", ["gaussian", "bernoulli"])
    def test_sums_over_elements_are_the_density_of_a_data_point(self, name):
        """With several decoded latents of each data point, and all gradients."""
        torch.manual_seed(0)
        x = torch.rand(4, 1, 2, 3, dtype=torch.float64).round()
        decoded = torch.randn(4, 5, 2, 3, dtype=torch.float64, requires_grad=True)
        likelihood = BernoulliLikelihood()
        parameters = [decoded]
        if name == "gaussian":
            likelihood = GaussianLikelihood(0.3, learned=True).double()
            parameters.append(likelihood.log_std)
        found = likelihood.log_likelihood(decoded, x)
        expected = torch.stack(
            [likelihood.distribution(part).log_prob(x[:, 0]) for part in decoded.unbind(1)], 1
        )
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(likelihood.log_prob(decoded, x).sum((2, 3)), expected)
        weights = torch.randn(4, 5, dtype=torch.float64)
        gradients = (
            torch.autograd.grad(values, parameters, weights) for values in (found, expected)
        )
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs)


class TestPixels:
    @pytest.mark.parametrize(
        "likelihood", [BernoulliLikelihood(), LevelLikelihood(Categorical(256), 1)]
    )
    def test_images_of_0_to_255_are_refused(self, likelihood):
        """Whose Bernoulli log-probabilities have no bound, and whose levels were all the last."""
        decoded = torch.zeros(1, *likelihood.decoded_shape(torch.Size([1, 2, 2])))
        x = torch.tensor([0.0, 1.0, 128.0, 255.0]).view(1, 1, 2, 2)
        name = type(likelihood).__name__
        with pytest.raises(ValueError, match=f"{name}: data are from 0 to 255; expected 0 to 1"):
            likelihood.log_prob(decoded, x)
        with pytest.raises(ValueError, match=f"{name}: data are from nan to nan"):
            likelihood.log_prob(decoded, math.nan * x)
        expected = likelihood.log_prob(decoded, x / 255)
        assert expected.isfinite().all()
        compiled = torch.compile(likelihood.log_prob, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(decoded, x / 255), expected)


class TestPosteriorFlow:
    def make(self, num_steps, rho=0.9):
        """A decoder whose posterior, for every x, is N(0, [[1, ρ], [ρ, 1]]): a narrow likelihood of
        a rotated latent, in the limit of no prior."""
        torch.manual_seed(0)
        flow = FlowPosterior(2, num_steps=num_steps, hidden_widths=(16,))
        decoder = nn.Linear(2, 2, bias=False).double()
        covariance = double([[1.0, rho], [rho, 1.0]])
        precision = covariance.inverse() - torch.eye(2)  # what the likelihood adds to the prior's 1
        shift = 2.0  # so that it is positive; the prior of the latents takes it back
        values, vectors = torch.linalg.eigh(precision + shift * torch.eye(2))
        with torch.no_grad():
            decoder.weight.copy_((vectors * values.sqrt()).T)
        prior = elements(Normal(torch.zeros(2).double(), torch.ones(2).double()))
        vae = VAE(Constant(torch.zeros(4)), decoder, 2, prior=prior, posterior_flow=flow)
        total = precision + (1 + shift) * torch.eye(2)
        return vae.double(), total.inverse()

    def test_without_steps_it_is_the_plain_gaussian(self):
        with_flow = make(posterior_flow=FlowPosterior(2, num_steps=0))
        x = torch.randn(4, 3)
        plain = make()
        torch.testing.assert_close(
            with_flow.log_weights(x, 3, key=KEY), plain.log_weights(x, 3, key=KEY)
        )
        torch.testing.assert_close(with_flow.reconstruct(x), plain.reconstruct(x))

    def test_a_step_reaches_what_no_diagonal_gaussian_can(self):
        """Of a posterior with correlation the best diagonal Gaussian misses −½ log(1 − ρ²)."""
        vae, covariance = self.make(1)
        rho2 = covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
        missed = -0.5 * torch.log1p(-rho2)
        x = torch.zeros(1, 2, dtype=torch.float64)
        decoder = vae.decoder.weight.detach()
        marginal = MultivariateNormal(
            torch.zeros(2).double(), decoder @ decoder.T + torch.eye(2).double()
        )
        encoded = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        vae.encoder.outputs = encoded
        optimizer = torch.optim.Adam([encoded, *vae.posterior_flow.parameters()], 0.02)
        rows = x.expand(256, 2)
        for _ in range(400):
            optimizer.zero_grad()
            (-vae.elbo(rows)).mean().backward()
            optimizer.step()
        with torch.no_grad():
            gap = marginal.log_prob(x) - vae.elbo(x.expand(20_000, 2), key=KEY).mean()
        assert missed > 0.2
        assert -0.01 < gap < 0.2 * missed

    def test_it_has_no_torch_distribution_and_takes_no_posterior(self):
        vae = make(posterior_flow=FlowPosterior(2, num_steps=1))
        x = torch.randn(4, 3)
        with pytest.raises(NotImplementedError, match="posterior with a flow"):
            vae.posterior_distribution(x)
        with pytest.raises(ValueError, match="posterior is given, but it has a flow"):
            vae.elbo(x, posterior=vae.encode(x))

    def test_sizes_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"posterior_flow is over \[3\]; expected \[2\]"):
            make(posterior_flow=FlowPosterior(3))
        vae = make(posterior_flow=FlowPosterior(2, context_size=5))
        with pytest.raises(ValueError, match=r"gives \[4, 4\] for data .* expected \[4, 9\]"):
            vae.elbo(torch.randn(4, 3))


class TestViews:
    def test_they_are_those_of_torch(self):
        vae, x = make(likelihood=GaussianLikelihood(0.5)), torch.randn(6, 3)
        q, p = vae.posterior_distribution(x), vae.prior_distribution()
        torch.testing.assert_close(vae(x, key=KEY).kl, kl_divergence(q, p).mean())
        z = torch.randn(6, 2)
        terms = vae.likelihood.log_prob(vae.decoder(z), x).sum(1)
        torch.testing.assert_close(vae.likelihood_distribution(z).log_prob(x), terms)
        bernoulli = make(likelihood="bernoulli")
        assert bernoulli.likelihood_distribution(z).mean.shape == (6, 3)


class TestLevels:
    @pytest.mark.parametrize("pixels", [Categorical(3), DiscretizedLogistic(3, channels=1)])
    def test_the_images_have_probability_one(self, pixels):
        """All 3⁴ images of 2 × 2 pixels with three levels."""
        torch.manual_seed(0)
        likelihood = LevelLikelihood(pixels, 1)
        levels = torch.cartesian_prod(*[torch.arange(3.0)] * 4).view(-1, 1, 1, 2, 2) / 2
        decoded = torch.randn(1, 1, *likelihood.decoded_shape(torch.Size([1, 2, 2])))
        log_prob = likelihood.log_prob(decoded, levels).flatten(1).sum(1)
        assert log_prob.shape == (81,)
        torch.testing.assert_close(log_prob.exp().sum(), torch.tensor(1.0))

    @pytest.mark.parametrize("pixels", [Categorical(3), DiscretizedLogistic(3, channels=1)])
    def test_draws_and_means_are_those_of_the_probabilities(self, pixels):
        torch.manual_seed(0)
        likelihood = LevelLikelihood(pixels, 1)
        decoded = torch.randn(1, *likelihood.decoded_shape(torch.Size([1, 1, 1])))
        draws = likelihood.draw(decoded.expand(50_000, -1, -1, -1), KEY)
        values = torch.arange(3.0).view(3, 1, 1, 1, 1) / 2
        shares = likelihood.log_prob(decoded[None], values).flatten().exp()
        for value, share in zip((0.0, 0.5, 1.0), shares, strict=True):
            assert_means((draws == value).float().flatten(1), share[None])
        mean = (shares * torch.tensor([0.0, 0.5, 1.0])).sum()
        torch.testing.assert_close(likelihood.mean(decoded).flatten(), mean[None])

    def test_the_decoder_gives_the_parameters_of_pixels(self):
        likelihood = LevelLikelihood(Categorical(4), 1)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
        decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (4, 2, 2)))
        vae = VAE(encoder, decoder, 2, likelihood=likelihood)
        x = torch.randint(4, (5, 1, 2, 2)) / 3
        vae(x).loss.backward()
        assert vae.log_prob_bound(x, 3).shape == (5,)
        assert vae.sample(2, noise=True).shape == (2, 1, 2, 2)
        wrong = VAE(encoder, nn.Linear(2, 4), 2, likelihood=likelihood)
        with pytest.raises(ValueError, match=r"gives \[5, 4\]; expected \[N, 4, 2, 2\]"):
            wrong(x)
        with pytest.raises(ValueError, match=r"has shape \[3, 2, 2\]; expected \[1, H, W\]"):
            vae(x.expand(5, 3, 2, 2), posterior=vae.encode(x))
        with pytest.raises(ValueError, match=r"has shape \[4\]; expected \[1, H, W\]"):
            vae(x.flatten(1))


class TestFreeBits:
    def test_a_latent_below_them_is_not_pressed(self):
        """q = N(0.1, 1), of 0.005 nats, beside N(2, 1), of 2 nats."""
        outputs = nn.Parameter(torch.tensor([0.1, 2.0, 0.0, 0.0]))
        vae = VAE(
            Constant(outputs), Constant(torch.zeros(3)), 2, free_bits=0.5, recon_weight=0.0
        )  # fmt: skip
        loss = vae(torch.zeros(4, 3))
        loss.loss.backward()
        torch.testing.assert_close(outputs.grad, torch.tensor([0.0, 2.0, 0.0, 0.0]))
        assert loss.loss.item() == pytest.approx(2.5)
        assert loss.kl.item() == pytest.approx(2.005)

    def test_only_of_what_has_a_closed_divergence(self):
        with pytest.raises(ValueError, match=r"free_bits is 0\.1, but only a diagonal Gaussian"):
            make(free_bits=0.1, prior=PRIORS["normal"])


class TestExtremes:
    @pytest.mark.parametrize("output", [1e4, -1e4, 1e30])
    def test_encoders_far_off_give_finite_losses_and_gradients_that_bring_them_back(self, output):
        log_std = nn.Parameter(torch.tensor([0.0, 0.0, output, output]))
        vae = VAE(Constant(log_std), MLP(2, (8,), 3), 2)
        loss = vae(torch.randn(4, 3), key=KEY).loss
        loss.backward()
        assert loss.isfinite()
        assert log_std.grad.isfinite().all()
        assert (log_std.grad[2:] * output > 0).all()

    def test_one_constant_image_and_latents_wider_than_the_data(self):
        vae = VAE(MLP(3, (4,), 20), MLP(10, (4,), 3), 10)
        optimizer = torch.optim.Adam(vae.parameters(), 0.1)
        x = torch.ones(1, 3)
        for _ in range(50):
            optimizer.zero_grad()
            terms = vae(x)
            terms.loss.backward()
            optimizer.step()
            assert terms.loss.isfinite()
            assert terms.kl >= -1e-6

    def test_the_divergence_is_not_negative_near_zero(self):
        log_std = torch.linspace(-1e-4, 1e-4, 1001)
        outputs = torch.stack([torch.zeros(1001), log_std], 1)
        vae = VAE(nn.Identity(), MLP(1, (4,), 2), 1)
        q = vae.encode(outputs)
        assert standard_normal_kl(q).min() >= 0
        exact = kl_divergence(Normal(0.0, log_std.double().exp()), Normal(double(0.0), double(1.0)))
        torch.testing.assert_close(
            standard_normal_kl(q).double(), exact.clamp(min=0), rtol=0, atol=math.ulp(1.0) * 2**28
        )
