"""The importance-weighted bound: chunks, gradients, monotony, and its limit (Yan 2022, (2.2))."""

import math

import pytest
import torch
from testing.latent_testing import double, probabilistic_pca
from torch import nn

from gencore.inference import NormalParameters
from gencore.inference.gaussian_posterior import sample_key
from gencore.models import VAE, FlowPosterior, GaussianLikelihood
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.nn import MLP

X = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
KEY = torch.tensor([5, 3])


class GivenWeights(ImportanceBounds):
    """Importance weights from a table."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.calls = nn.Parameter(weights), []

    def log_weights(self, x, num, *, generator=None, key=None, first=0, first_sample=0):
        self.calls.append(num)
        return self.weights[:, first_sample : first_sample + num]


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_chunks_have_the_value_and_the_gradient_of_the_whole(chunk_size):
    torch.manual_seed(0)
    model = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2).double()
    for layer in (model.encoder, model.decoder):  # whose last layers start at zero
        nn.init.normal_(layer.layers[-1].weight if hasattr(layer, "layers") else layer[-1].weight)
    found = []
    for size in (None, chunk_size):
        model.zero_grad()
        bound = model.log_prob_bound(X, 7, chunk_size=size, key=KEY)
        bound.sum().backward()
        found.append([bound.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for whole, streamed in zip(*found, strict=True):
        torch.testing.assert_close(streamed, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["reparametrised", "doubly_reparametrised"])
@pytest.mark.parametrize("has_flow", [False, True])
def test_chunks_share_one_call_of_the_encoder(has_flow, estimator):
    torch.manual_seed(0)
    flow = FlowPosterior(2, context_size=3, hidden_widths=(8,)) if has_flow else None
    encoder = MLP(3, (8,), 7 if has_flow else 4, zero_last=False)
    decoder = MLP(2, (8,), 3, zero_last=False)
    model = VAE(encoder, decoder, 2, posterior_flow=flow).double()
    calls, found = [], []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    for size in (None, 3):
        model.zero_grad()
        calls.clear()
        bound = model.log_prob_bound(X, 7, chunk_size=size, key=KEY, estimator=estimator)
        bound.sum().backward()
        assert len(calls) == 1
        found.append([bound.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for whole, streamed in zip(*found, strict=True):
        torch.testing.assert_close(streamed, whole, rtol=1e-12, atol=1e-12)


def test_no_more_latents_than_a_chunk_are_in_memory():
    model = GivenWeights(torch.randn(2, 10))
    with torch.no_grad():
        model.log_prob_bound(X, 10, chunk_size=4)
    assert model.calls == [4, 4, 2]


def test_the_gradient_is_that_of_the_weights_by_their_shares():
    """Lucas 2020, (2.68): Σ w̃ᵢ ∇ log wᵢ."""
    weights = torch.randn(2, 9, dtype=torch.float64)
    model = GivenWeights(weights)
    model.log_prob_bound(X, 9, chunk_size=2).sum().backward()
    shares = weights.exp() / weights.exp().sum(1, keepdim=True)
    torch.testing.assert_close(model.weights.grad, shares, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_large_weights_do_not_overflow(shift):
    weights = torch.randn(2, 6, dtype=torch.float64)
    bounds = [
        GivenWeights(w).log_prob_bound(X, 6, chunk_size=4) for w in (weights, weights + shift)
    ]
    torch.testing.assert_close(bounds[0] + shift, bounds[1])


def test_it_grows_with_the_samples_towards_the_likelihood():
    """On average over many draws, for a posterior that is too wide (Lucas 2020, §2.10.4)."""
    model, marginal = probabilistic_pca(wider=1.5)
    rows = 400
    x = X[:1].expand(rows, 3)
    with torch.no_grad():
        means = [
            model.log_prob_bound(x, num, chunk_size=50, key=KEY).mean()
            for num in (1, 10, 100, 1000)
        ]
    assert (torch.stack(means).diff() > 0).all()
    exact = marginal.log_prob(X[0])
    assert means[-1] < exact + 1e-3
    assert exact - means[-1] < 0.01


def test_parts_of_a_batch_draw_what_the_whole_draws():
    model, _ = probabilistic_pca(wider=1.5)
    whole = model.log_prob_bound(X, 5, key=KEY)
    parts = [model.log_prob_bound(X[i : i + 1], 5, key=KEY, first=i) for i in range(2)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_samples_have_independent_keys():
    keys = torch.stack([sample_key(KEY, k) for k in range(1000)])
    assert len(keys.unique(dim=0)) == 1000
    assert torch.equal(keys[0], KEY)


def test_a_given_posterior_takes_the_place_of_the_encoder():
    model, marginal = probabilistic_pca(wider=3.0)
    q = model.encode(X)
    exact = NormalParameters(q.mean, q.log_std - math.log(3.0))
    torch.testing.assert_close(model.elbo(X, posterior=exact, key=KEY), marginal.log_prob(X))
    bound = model.log_prob_bound(X, 4, posterior=exact, key=KEY)
    torch.testing.assert_close(bound, marginal.log_prob(X))
    kl = model(X, posterior=exact, key=KEY).kl
    torch.testing.assert_close(
        kl,
        torch.distributions.kl_divergence(exact.distribution(), model.prior_distribution()).mean(),
        check_dtype=False,
    )
    with pytest.raises(ValueError, match=r"the posterior has shapes .*expected \[2, 2\] twice"):
        model.elbo(X, posterior=NormalParameters(q.mean[:1], q.log_std[:1]))


@pytest.mark.parametrize(("num", "chunk"), [(0, None), (3, 0)])
def test_numbers_that_are_none(num, chunk):
    model, _ = probabilistic_pca()
    with pytest.raises(ValueError, match=r"VAE\.log_prob_bound: "):
        model.log_prob_bound(X, num, chunk_size=chunk)


def test_both_estimators_of_the_gradient_have_the_exact_mean_and_one_less_variance():
    """d/dμ E_q[log p(x | z)] of a linear decoder, from z = μ + σε and from the score of q
    (Lucas 2020, (2.46)-(2.50))."""
    torch.manual_seed(1)
    weight, std, x = torch.randn(3, 2).double(), double([0.7, 1.3]), X[0]
    mean = double([0.2, -0.4])
    likelihood = GaussianLikelihood(0.8)
    epsilon = torch.randn(200_000, 2, dtype=torch.float64)
    z = mean + std * epsilon
    residual = (x - z @ weight.T) / 0.8**2
    by_path = residual @ weight
    log_p = likelihood.log_prob(z @ weight.T, x).sum(1, keepdim=True).detach()
    by_score = log_p * epsilon / std
    exact = (x - mean @ weight.T) / 0.8**2 @ weight
    for estimates in (by_path, by_score):
        error = estimates.std(0) / math.sqrt(len(z))
        assert ((estimates.mean(0) - exact).abs() < 5 * error).all()
    assert (by_path.var(0) < by_score.var(0)).all()
