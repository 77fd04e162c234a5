"""Estimators of the bounds' gradients by q: means, variances, noise at the posterior, DReG."""

import itertools
import math

import numpy as np
import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import VARIANCE, double, probabilistic_pca
from torch import nn
from torch.distributions import Normal

from gencore.inference import NormalParameters
from gencore.inference.gaussian_posterior import draw_latents
from gencore.models import (
    VADE,
    VAE,
    CouplingFlow,
    FlowPosterior,
    GaussianLikelihood,
    ProbabilisticPCA,
)
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.nn import MLP, AffineCoupling

X = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
KEY = torch.tensor([5, 3])
ESTIMATORS = ["reparametrised", "path", "score"]


def rows(mean, std, num):
    """The same Gaussian in each of so many rows, whose gradients are independent estimates."""
    mean, log_std = (double(part).expand(num, -1).clone() for part in (mean, np.log(std)))
    return NormalParameters(mean.requires_grad_(), log_std.requires_grad_())


def linear_vae():
    """A VAE with a linear decoder, and the model whose bound is a closed form."""
    vae, _ = probabilistic_pca()
    weight, bias = vae.decoder.weight, vae.decoder.bias
    vae.likelihood.log_std.data = double(0.5 * math.log(VARIANCE))  # it was rounded to float32
    exact = ProbabilisticPCA(3, 2, weight=weight, mean=bias, variance=VARIANCE)
    return vae, exact


def gradients(vae, q, estimator, *, num_samples=1, **options):
    x = X[:1].expand(len(q.mean), 3)
    value = vae.elbo(x, num_samples, posterior=q, key=KEY, estimator=estimator, **options)
    return torch.cat(torch.autograd.grad(value.sum(), list(q)), 1)


class TestElbo:
    mean, std = [0.2, -0.4], [0.6, 0.3]

    def exact(self, model):
        q = rows(self.mean, self.std, 1)
        bound = model.elbo(X[:1], q.mean, q.log_std.exp())
        return torch.cat(torch.autograd.grad(bound.sum(), list(q)), 1)[0]

    @pytest.mark.parametrize(
        ("estimator", "options"),
        [
            ("reparametrised", {}),
            ("path", {}),
            ("score", {}),
            ("score", {"baseline": double(-10.0)}),
            ("reparametrised", {"num_samples": 3}),
            ("path", {"num_samples": 3}),
            ("score", {"num_samples": 3, "baseline": "leave_one_out"}),
        ],
    )
    def test_its_mean_is_the_gradient_of_the_closed_form(self, estimator, options):
        vae, model = linear_vae()
        found = gradients(vae, rows(self.mean, self.std, 100_000), estimator, **options)
        assert_means(found, self.exact(model))

    def test_a_baseline_of_each_data_point(self):
        """Which a network may give: rows with b have the gradients of b alone."""
        vae, _ = linear_vae()
        q, b = rows(self.mean, self.std, 4), double([0.0, -3.0, 5.0, -9.0])
        found = gradients(vae, q, "score", num_samples=2, baseline=b)
        for row in range(4):
            one = gradients(vae, q, "score", num_samples=2, baseline=b[row])
            torch.testing.assert_close(found[row], one[row])
        assert not torch.allclose(found, one)

    def test_the_order_of_their_variances(self):
        """Near the posterior; each of four latents."""
        vae, model = linear_vae()
        near = model.mean_field_posterior(X[:1])
        q = rows(near.mean[0].tolist(), (near.log_std[0].exp() * 1.05).tolist(), 5000)
        variances = [
            gradients(vae, q, estimator, num_samples=4, baseline=baseline).var(0).sum()
            for estimator, baseline in (
                ("path", None),
                ("score", "leave_one_out"),
                ("reparametrised", None),
                ("score", None),
            )
        ]
        assert all(b > 3 * a for a, b in itertools.pairwise(variances)), variances

    @pytest.mark.parametrize(
        ("estimator", "options"),
        [("path", {}), ("score", {"num_samples": 2, "baseline": "leave_one_out"})],
    )
    def test_there_is_no_noise_at_the_posterior(self, estimator, options):
        """Of orthogonal columns of W, whose posterior is a diagonal Gaussian; the plain estimator
        has the noise of the score."""
        vae, model = linear_vae()
        posterior = model.mean_field_posterior(X[:1])
        q = rows(posterior.mean[0].tolist(), posterior.log_std[0].exp().tolist(), 100)
        assert gradients(vae, q, estimator, **options).abs().max() < 1e-11
        assert gradients(vae, q, "reparametrised").std(0).min() > 0.5

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_the_value_is_the_same(self, estimator):
        vae, _ = linear_vae()
        values = vae.log_weights(X, 5, key=KEY).mean(1)
        found = vae.elbo(X, 5, key=KEY, estimator=estimator)
        torch.testing.assert_close(found, values, rtol=1e-13, atol=1e-13)

    def test_parts_of_a_batch_have_the_gradients_of_the_whole(self):
        vae, _ = linear_vae()
        q = rows([0.2, -0.4], [0.6, 0.3], 4)
        whole = gradients(vae, q, "path")
        part = NormalParameters(*(p[2:].detach().requires_grad_() for p in q))
        value = vae.elbo(X[:1].expand(2, 3), posterior=part, key=KEY, first=2, estimator="path")
        torch.testing.assert_close(
            torch.cat(torch.autograd.grad(value.sum(), list(part)), 1), whole[2:]
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"estimator": "reinforce"}, "estimator is 'reinforce'; expected one of reparam"),
            ({"baseline": double(1.0)}, "a baseline is given with estimator reparametrised"),
            ({"num_samples": 0}, "num_samples is 0; expected 1 or more"),
        ],
    )
    def test_what_does_not_fit(self, options, message):
        with pytest.raises(ValueError, match=rf"VAE\.elbo: {message}"):
            linear_vae()[0].elbo(X, **options)
        with pytest.raises(ValueError, match="of two draws or more"):
            linear_vae()[0].elbo(X, estimator="score", baseline="leave_one_out")


def networks(posterior_flow=False):
    """A VAE whose decoder, prior and scale are learned, and are the parameters of p."""
    torch.manual_seed(0)
    context = 3 if posterior_flow else 0
    flow = FlowPosterior(2, context, num_steps=1, hidden_widths=(6,)) if posterior_flow else None
    vae = VAE(
        MLP(3, (8,), 4 + context, zero_last=False), MLP(2, (8,), 3, zero_last=False), 2,
        prior=CouplingFlow(2, num_layers=2, hidden_widths=(4,)), posterior_flow=flow,
        likelihood=GaussianLikelihood(0.8, learned=True),
    ).double()  # fmt: skip
    with torch.no_grad():
        for weight in vae.parameters():  # what starts at 0 hides errors
            weight.add_(0.2 * torch.randn_like(weight))
    of_p = [*vae.decoder.parameters(), *vae.prior.parameters(), *vae.likelihood.parameters()]
    flow_weights = [] if flow is None else list(flow.parameters())
    return vae, [w for w in of_p if w.requires_grad], [*vae.encoder.parameters(), *flow_weights]


@pytest.mark.parametrize("posterior_flow", [False, True])
class TestNetworks:
    @pytest.mark.parametrize(
        ("method", "others"),
        [("elbo", ["path", "score"]), ("log_prob_bound", ["doubly_reparametrised"])],
    )
    def test_the_gradient_by_p_is_that_of_the_value(self, posterior_flow, method, others):
        vae, of_p, of_q = networks(posterior_flow)
        plain, *rest = (
            torch.autograd.grad(
                getattr(vae, method)(X, 6, key=KEY, estimator=estimator).sum(), of_p + of_q
            )
            for estimator in ["reparametrised", *others]
        )
        for other in rest:
            for index, (a, b) in enumerate(zip(plain, other, strict=True)):
                if index < len(of_p):
                    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)
            assert not all(map(torch.allclose, plain[len(of_p) :], other[len(of_p) :]))

    @pytest.mark.parametrize("estimator", ["path", "score"])
    def test_the_mean_by_q_is_that_of_the_plain_one(self, posterior_flow, estimator):
        """The difference of both, with common latents, is 0 on average over 200 keys of 50."""
        vae, _, of_q = networks(posterior_flow)
        options = {"baseline": "leave_one_out"} if estimator == "score" else {}
        differences = []
        for seed in range(200):
            key = torch.tensor([seed, 0])
            values = vae.elbo(X, 50, key=key) - vae.elbo(
                X, 50, key=key, estimator=estimator, **options
            )
            found = torch.autograd.grad(values.sum(), of_q)
            differences.append(torch.cat([part.flatten() for part in found]))
        differences = torch.stack(differences)
        moved = differences.std(0) > 1e-9  # a unit may be off for both data points
        assert moved.float().mean() > 0.5
        assert_means(differences[:, moved], 0.0, errors=5.0)

    def test_the_path_has_the_gradient_of_the_latents_alone(self, posterior_flow):
        """That of log w by z, with q held fixed, and back from z to the encoder."""
        vae, _, of_q = networks(posterior_flow)
        z, _, log_weights = vae.weigh(X, 3, key=KEY, estimator="path")
        leaf = z.detach().flatten(0, 1).requires_grad_()
        encoded = vae.encoder(X).repeat_interleave(3, 0)
        mean, log_std, context = encoded.tensor_split([2, 4], 1)
        if posterior_flow:
            log_q = vae.posterior_flow.log_prob(leaf, mean, log_std, context)
        else:
            log_q = Normal(mean, log_std.exp()).log_prob(leaf).sum(1)
        log_p = vae.likelihood_distribution(leaf).log_prob(X.repeat_interleave(3, 0))
        expected = log_p + vae.prior.log_prob(leaf) - log_q
        torch.testing.assert_close(log_weights.flatten(), expected)
        (slope,) = torch.autograd.grad(expected.sum(), leaf, retain_graph=True)
        found = torch.autograd.grad(log_weights.sum(), of_q, retain_graph=True)
        by_hand = torch.autograd.grad(z, of_q, slope.view_as(z))
        for a, b in zip(found, by_hand, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("chunk_size", [1, 3, 7])
    def test_chunks_have_the_doubly_reparametrised_gradient_of_the_whole(
        self, posterior_flow, chunk_size
    ):
        vae, of_p, of_q = networks(posterior_flow)
        whole, streamed = (
            torch.autograd.grad(
                vae.log_prob_bound(
                    X, 7, chunk_size=size, key=KEY, estimator="doubly_reparametrised"
                ).sum(),
                of_p + of_q,
            )
            for size in (None, chunk_size)
        )
        for a, b in zip(whole, streamed, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    def test_of_one_latent_it_is_that_of_the_path(self, posterior_flow):
        vae, of_p, of_q = networks(posterior_flow)
        path = torch.autograd.grad(vae.elbo(X, key=KEY, estimator="path").sum(), of_p + of_q)
        bound = vae.log_prob_bound(X, 1, key=KEY, estimator="doubly_reparametrised")
        for a, b in zip(path, torch.autograd.grad(bound.sum(), of_p + of_q), strict=True):
            torch.testing.assert_close(a, b)


def test_so_it_is_where_features_are_learned():
    """V-ADE: the flow of the features is in p and q, and its gradient by the mean of both."""
    torch.manual_seed(0)
    encoder, decoder = MLP(2, (6,), 2, zero_last=False), MLP(1, (6,), 2, zero_last=False)
    model = VADE(encoder, decoder, AffineCoupling(MLP(1, (6,), 2, zero_last=False)), 1).double()
    x, weights = torch.randn(4000, 2).double()[:1].expand(4000, 2), list(model.parameters())
    found = {
        estimator: [
            torch.cat([
                part.flatten()
                for part in torch.autograd.grad(
                    model.elbo(x, 2, estimator=estimator, key=torch.tensor([seed, 0])).mean(),
                    weights,
                )
            ])
            for seed in range(60)
        ]
        for estimator in ESTIMATORS
    }  # fmt: skip
    plain = torch.stack(found["reparametrised"])
    for estimator in ("path", "score"):
        difference = torch.stack(found[estimator]) - plain
        moved = difference.std(0) > 1e-12
        assert moved.any()
        assert_means(difference[:, moved], 0.0, errors=5.0)


def scalar_vae():
    """x | z ~ N(1.5 z, 0.7²) in one dimension."""
    decoder = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(decoder.weight, 1.5)
    return VAE(nn.Linear(1, 2), decoder, 1, likelihood=GaussianLikelihood(0.7)).double()


class TestImportanceWeighted:
    mean, std, x = [0.3], [0.8], 1.2

    def gradients(self, num_rows, num_samples, estimator, **options):
        vae, q = scalar_vae(), rows(self.mean, self.std, num_rows)
        x = double([[self.x]]).expand(num_rows, 1)
        bound = vae.log_prob_bound(
            x, num_samples, posterior=q, key=KEY, estimator=estimator, **options
        )
        return torch.cat(torch.autograd.grad(bound.sum(), list(q)), 1)

    def test_the_formula_by_hand(self):
        """Σ w̃² ∂log w/∂z ∂z/∂(μ, log σ), in numpy, from the latents alone."""
        (mean,), (std,), x = self.mean, self.std, self.x
        z = draw_latents(rows(self.mean, self.std, 3), 4, KEY)[0].squeeze(2).detach().numpy()
        epsilon = (z - mean) / std
        log_w = -0.5 * ((x - 1.5 * z) / 0.7) ** 2 - 0.5 * z**2 + 0.5 * epsilon**2  # and a constant
        share = np.exp(log_w) / np.exp(log_w).sum(1, keepdims=True)
        slope = 1.5 * (x - 1.5 * z) / 0.49 - z + (z - mean) / std**2
        expected = np.stack(
            [(share**2 * slope).sum(1), (share**2 * slope * std * epsilon).sum(1)], 1
        )
        found = self.gradients(3, 4, "doubly_reparametrised")
        torch.testing.assert_close(found, torch.from_numpy(expected))

    @pytest.mark.parametrize("estimator", ["reparametrised", "doubly_reparametrised"])
    def test_its_mean_is_the_gradient_by_quadrature(self, estimator):
        """Of E log ½(w₁ + w₂) over both latents, by Gauss–Hermite nodes in two dimensions."""
        nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
        epsilon = torch.cartesian_prod(nodes, nodes)
        p = torch.cartesian_prod(weights, weights).prod(1) / weights.sum() ** 2
        q = rows(self.mean, self.std, 1)
        z = q.mean + q.log_std.exp() * epsilon
        log_w = (-0.5 * ((self.x - 1.5 * z) / 0.7) ** 2 - 0.5 * z**2 + 0.5 * epsilon**2) + q.log_std
        bound = (p * torch.logsumexp(log_w, 1)).sum()
        exact = torch.cat(torch.autograd.grad(bound, list(q)), 1)[0]
        assert_means(self.gradients(200_000, 2, estimator), exact)

    def test_its_signal_does_not_sink_into_noise_with_more_samples(self):
        """The ratio of mean to deviation falls as 1/√K (Rainforth et al. 2018) and that of the
        other grows as √K (Tucker et al. 2019). Their means are equal, and that of the second has
        the smaller error."""
        quiet, noisy = (
            [self.gradients(20_000, num, estimator) for num in (16, 128)]
            for estimator in ("doubly_reparametrised", "reparametrised")
        )
        signals = [part.mean(0).abs() for part in quiet]
        doubly, plain = (
            [signal / part.std(0) for signal, part in zip(signals, parts, strict=True)]
            for parts in (quiet, noisy)
        )
        root = torch.full((2,), math.sqrt(128 / 16), dtype=torch.float64)
        torch.testing.assert_close(doubly[1] / doubly[0], root, rtol=0.1, atol=0)
        torch.testing.assert_close(plain[0] / plain[1], root, rtol=0.1, atol=0)

    def test_large_weights_do_not_overflow(self):
        self.x = 300.0
        assert self.gradients(3, 5, "doubly_reparametrised", chunk_size=2).isfinite().all()

    def test_without_a_gradient_by_q_the_value_remains(self):
        vae = scalar_vae()
        x = double([[1.0]])
        options = {"key": KEY, "posterior": NormalParameters(x, 0 * x)}
        plain = vae.log_prob_bound(x, 3, **options)
        bound = vae.log_prob_bound(x, 3, estimator="doubly_reparametrised", **options)
        torch.testing.assert_close(bound, plain)
        bound.sum().backward()
        assert vae.decoder.weight.grad.abs() > 0
        with torch.no_grad():
            torch.testing.assert_close(
                vae.log_prob_bound(x, 3, estimator="doubly_reparametrised", **options), plain
            )

    def test_a_model_with_weights_alone_has_the_plain_gradient(self):
        class Weights(ImportanceBounds):
            def log_weights(self, x, num, **options):
                return x.expand(-1, num)

        model, x = Weights(), double([[1.0]])
        torch.testing.assert_close(model.elbo(x, 3), model.log_prob_bound(x, 3))
        message = "Weights: estimator is 'path'; expected 'reparametrised'"
        with pytest.raises(NotImplementedError, match=message):
            model.elbo(x, estimator="path")
        with pytest.raises(NotImplementedError, match=message):
            model.log_prob_bound(x, 2, estimator="doubly_reparametrised")

    def test_another_estimator(self):
        with pytest.raises(ValueError, match=r"VAE\.log_prob_bound: estimator is 'path'; expected"):
            self.gradients(1, 2, "path")
