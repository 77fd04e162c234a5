"""Variational latent optimisation: rows against exact posteriors, and what a step moves."""

import pytest
import torch
from testing.latent_testing import double, probabilistic_pca
from torch import nn
from torch.distributions import Independent, Normal

from gencore.inference import DataLatents, LatentAdam, NormalParameters
from gencore.models import (
    VLO,
    GaussianLikelihood,
    ProbabilisticPCA,
    infer_posterior,
    pca_posterior,
)
from gencore.nn import MLP

KEY = torch.tensor([2, 0])
WEIGHT = torch.tensor([[1.0, 0.8], [0.3, 1.2], [0.0, 0.5]], dtype=torch.float64)


def linear(x, **settings):
    """A fixed linear decoder, whose posteriors are known."""
    decoder = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        decoder.weight.copy_(WEIGHT)
    zeros = torch.zeros(len(x), 2, dtype=torch.float64)
    latents = DataLatents(torch.cat([zeros, zeros], 1), optimizer=LatentAdam(0.05))
    likelihood = GaussianLikelihood(0.4**0.5)
    return VLO(decoder, latents, likelihood=likelihood, **settings).double()


def test_rows_converge_to_the_best_diagonal_posteriors():
    """Means to those of the posterior and variances to 1/Λᵢᵢ, by steps on single draws whose rate
    falls (Yan 2022, §2.1.7)."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64)
    truth = ProbabilisticPCA(3, 2, weight=WEIGHT, variance=0.4)
    model, index = linear(x, num_inner_steps=50), torch.arange(4)
    for step in range(60):
        key = torch.tensor([7, step * 50])
        model.descend(x, index, key=key, factor=1 / (1 + step / 3))
    q, best = model.posterior(index), truth.mean_field_posterior(x)
    torch.testing.assert_close(q.mean, best.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(q.log_std, best.log_std, rtol=0, atol=0.1)
    inferred = model.infer(x, 1500, optimizer=LatentAdam(0.01), key=KEY)
    torch.testing.assert_close(inferred.mean, best.mean, rtol=0, atol=0.15)


def test_a_step_moves_its_rows_and_gives_the_decoder_alone_gradients():
    x = torch.randn(6, 3)
    model = VLO(MLP(2, (8,), 3, zero_last=False), pca_posterior(x, 2))
    before = model.latents.values.clone()
    index = torch.tensor([4, 1])
    model(x[index], index, key=KEY).loss.backward()
    assert all(p.grad is not None for p in model.vae.decoder.parameters())
    changed = (model.latents.values != before).any(1)
    assert changed.tolist() == [False, True, False, False, True, False]


def test_without_inner_steps_rows_stay():
    x = torch.randn(6, 3)
    model = VLO(MLP(2, (8,), 3), pca_posterior(x, 2), num_inner_steps=0)
    before = model.latents.values.clone()
    terms = model(x, torch.arange(6), key=KEY)
    assert torch.equal(model.latents.values, before)
    expected = model.vae(x, posterior=pca_posterior(x, 2), key=KEY)
    torch.testing.assert_close(terms.loss, expected.loss)


def test_the_start_is_that_of_principal_components():
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    found = pca_posterior(x, 3)
    expected = torch.from_numpy(decomposition.PCA(3).fit_transform(x.numpy()))
    torch.testing.assert_close(found.mean.abs(), expected.abs())
    assert not found.log_std.any()
    with pytest.raises(ValueError, match=r"pca_posterior: 7 components of \[50, 6\] numbers"):
        pca_posterior(x, 7)
    with pytest.raises(ValueError, match="pca_posterior: num_fitted is -1; expected 1 or more"):
        pca_posterior(x, 3, num_fitted=-1)


def test_it_has_no_encoder():
    model = VLO(MLP(2, (8,), 3), NormalParameters(torch.zeros(4, 2), torch.zeros(4, 2)))
    assert model.sample(3).shape == (3, 3)
    assert model.encode(torch.randn(2, 3)).mean.shape == (2, 2)
    with pytest.raises(RuntimeError, match="VLO: it has no encoder; give a posterior"):
        model.vae.elbo(torch.randn(2, 3))


@pytest.mark.parametrize(
    ("posterior", "error", "message"),
    [
        (torch.zeros(4, 4), TypeError, "VLO: posterior is a Tensor; expected NormalParameters or"),
        (DataLatents(torch.zeros(4, 3)), ValueError, r"VLO: .* rows \[4, 3\]; expected \[M, 2L\]"),
        (DataLatents(torch.zeros(4, 2, 2)), ValueError, r"VLO: posterior has rows \[4, 2, 2\]"),
        (
            NormalParameters(torch.zeros(4, 3), torch.zeros(4, 1)), ValueError,
            r"mean and log_std have shapes \[4, 3\] and \[4, 1\]; expected \[N, L\] twice",
        ),
    ],
)  # fmt: skip
def test_posteriors_that_are_none(posterior, error, message):
    with pytest.raises(error, match=message):
        VLO(MLP(2, (8,), 3), posterior)


def test_posteriors_of_another_prior_are_found_too():
    """Of a linear model with orthogonal columns, whose posterior is a diagonal Gaussian."""
    mean, std = double([0.5, -1.0]), double([0.7, 2.0])
    prior = Independent(Normal(mean, std), 1)
    vae, _ = probabilistic_pca(prior, prior_std=std.tolist(), prior_mean=mean.tolist())
    x = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])
    found = infer_posterior(vae, x, 1000, optimizer=LatentAdam(0.01), key=KEY)
    exact = vae.encode(x)
    torch.testing.assert_close(found.mean, exact.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(found.log_std, exact.log_std, rtol=0, atol=0.1)
    with pytest.raises(ValueError, match="optimise_posterior: num_steps must not be negative"):
        infer_posterior(vae, x, -1)
