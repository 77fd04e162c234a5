"""Posteriors behind any transform, with several samples of a data point."""

import math

import pytest
import torch
from testing.flow_testing import randn, randomize, redraw
from torch import Tensor, nn
from torch.distributions import Normal

from gencore.models import VAE, FlowPosterior, GaussianLikelihood, SplineFlow
from gencore.nn import (
    MLP,
    AffineCoupling,
    Compose,
    Inverse,
    MaskedAutoregressive,
    Permutation,
    Planar,
    Transform,
)
from gencore.ops import random_key

KEY = torch.tensor([7, 2])


def splines(features: int = 3, **options: bool) -> Transform:
    return SplineFlow(
        features, num_layers=2, hidden_widths=(8,), context_size=2, **options
    ).transform


TRANSFORMS = {
    "steps": lambda: None,
    "splines": splines,
    "reversible": lambda: splines(reversible=True),
    "without a context": lambda: Compose(
        AffineCoupling(MLP(2, (8,), 2)), Permutation.reverse(3), AffineCoupling(MLP(2, (8,), 2))
    ),
    "autoregressive": lambda: Inverse(MaskedAutoregressive(3, (8,), context_size=2)),
    "planar": lambda: Inverse(Planar(3, context_size=2)),
}


def posterior_of(name: str) -> tuple[FlowPosterior, Tensor, Tensor, Tensor]:
    """A posterior with its mean, log-scale and context for five data points."""
    posterior = FlowPosterior(3, 2, transform=TRANSFORMS[name]()).double()
    redraw(posterior, 0.4, seed=0)
    return posterior, randn(5, 3), 0.3 * randn(5, 3, seed=1), randn(5, 2, seed=2)


@pytest.mark.parametrize("name", TRANSFORMS)
class TestSeveralSamples:
    def test_they_have_their_density(self, name):
        """That of the Gaussian less the Jacobian's, of each sample by itself."""
        posterior, *given = posterior_of(name)
        z, log_q = posterior(*given, num_samples=4, key=KEY)
        assert (z.shape, log_q.shape) == ((5, 4, 3), (5, 4))
        torch.testing.assert_close(posterior.log_prob(z, *given), log_q)
        mean, log_std, context = given
        for n, k in ((0, 0), (2, 3)):
            row = context[n : n + 1]

            def to_noise(value, n=n, row=row):
                start = posterior.transform(value[None], row)[0][0]
                return (start - mean[n]) * torch.exp(-log_std[n])

            jacobian = torch.autograd.functional.jacobian(to_noise, z[n, k].detach())
            expected = Normal(0.0, 1.0).log_prob(to_noise(z[n, k])).sum() + jacobian.slogdet()[1]
            torch.testing.assert_close(log_q[n, k], expected)

    def test_they_are_those_of_one_at_a_time(self, name):
        posterior, *given = posterior_of(name)
        z, log_q = posterior(*given, num_samples=4, key=KEY)
        for k in range(4):
            alone = posterior(*given, key=KEY, first_sample=k)
            torch.testing.assert_close(alone, (z[:, k], log_q[:, k]))
            torch.testing.assert_close(posterior.log_prob(alone.z, *given), alone.log_q)
        rows = [part[2:] for part in given]
        of_a_rank = posterior(*rows, num_samples=4, key=KEY, first=2)
        torch.testing.assert_close(of_a_rank, (z[2:], log_q[2:]))

    def test_gradients_reach_everything(self, name):
        posterior, *given = posterior_of(name)
        for part in given:
            part.requires_grad_()
        z, log_q = posterior(*given, num_samples=4, key=KEY)
        (z.sin().sum() + log_q.sum()).backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in posterior.parameters())
        assert all(part.grad.any() for part in given[: 2 if name == "without a context" else 3])

    def test_a_path_has_no_gradient_beside_that_of_the_latents(self, name):
        posterior, *given = posterior_of(name)
        for part in given:
            part.requires_grad_()
        z = posterior(*given, num_samples=4, key=KEY).z.detach().requires_grad_()
        plain, path = (posterior.log_prob(z, *given, path=path) for path in (False, True))
        assert torch.equal(plain, path)
        leaves = [z, *given, *posterior.parameters()]
        found = torch.autograd.grad(path.sum(), leaves, allow_unused=True)
        assert all(part is None for part in found[1:])
        expected = torch.autograd.grad(plain.sum(), z)[0]
        torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("name", ["steps", "splines"])
def test_importance_weights_of_a_vae_have_the_likelihood_as_their_mean(name):
    """That of a grid over the latents; for all estimators the values are the same."""
    torch.manual_seed(0)
    flow = FlowPosterior(2, 2, transform=splines(2) if name == "splines" else None)
    vae = VAE(
        MLP(3, (8,), 6), MLP(2, (8,), 3), 2, posterior_flow=flow,
        likelihood=GaussianLikelihood(0.7),
    ).double()  # fmt: skip
    for part in (vae.encoder, vae.decoder, flow):
        randomize(part, 0.2)
    with torch.no_grad():
        vae.encoder.layers[-1].bias[2:4] = 0.7  # wider than the posterior, for even weights
    x = randn(4, 3)
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        decoded = vae.decoded(grid)
        log_likelihood = Normal(decoded, 0.7).log_prob(x[:, None]).sum(-1)
        log_prior = Normal(0.0, 1.0).log_prob(grid).sum(-1)
        log_cell = 2 * math.log(axis[1] - axis[0])
        expected = (log_likelihood + log_prior).logsumexp(1) + log_cell
        log_weights = vae.log_weights(x, 4000, key=KEY)
        shares = torch.exp(log_weights - expected[:, None])  # with the mean 1
        error = shares.std(1) / math.sqrt(4000)
        assert ((shares.mean(1) - 1).abs() < 4.5 * error).all()
        assert error.max() < 0.05
        for estimator in ("path", "score"):
            weighed = vae.weigh(x, 3, key=KEY, estimator=estimator)
            torch.testing.assert_close(weighed.log_weights, vae.log_weights(x, 3, key=KEY))
        assert torch.equal(vae.codes(x), flow.transform.inverse(*_middle(vae, x))[0])


def _middle(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, _, context = vae.encoder(x).split(2, 1)
    return mean, context


def test_the_noise_can_be_given():
    posterior, *given = posterior_of("splines")
    epsilon = randn(5, 4, 3)
    several = posterior(*given, num_samples=4, epsilon=epsilon)
    for k in range(4):
        alone = posterior(*given, epsilon=epsilon[:, k])
        torch.testing.assert_close(alone, (several.z[:, k], several.log_q[:, k]))
    generator = torch.Generator().manual_seed(3)
    drawn = posterior(*given, generator=generator)
    key = random_key(torch.Generator().manual_seed(3))
    assert torch.equal(drawn.z, posterior(*given, key=key).z)


def test_which_ones_are_gaussian():
    assert FlowPosterior(3, num_steps=0).is_gaussian
    assert not FlowPosterior(3).is_gaussian
    assert not FlowPosterior(3, transform=Permutation.reverse(3)).is_gaussian


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FlowPosterior(3, transform=nn.Linear(3, 3)), TypeError, "transform is a Linear"),
        (
            lambda: FlowPosterior(3, transform=Permutation.reverse(3), num_steps=4),
            ValueError,
            "expected none of them beside transform",
        ),
        (
            lambda: FlowPosterior(3)(randn(5, 3), randn(5, 3), num_samples=0),
            ValueError,
            "num_samples is 0",
        ),
        (
            lambda: FlowPosterior(3)(
                randn(5, 3), randn(5, 3), num_samples=2, epsilon=randn(2, 5, 3)
            ),
            ValueError,
            r"epsilon has shape \[2, 5, 3\]; expected \[5, 2, 3\]",
        ),
        (
            lambda: FlowPosterior(3).log_prob(randn(2, 5, 3), randn(5, 3), randn(5, 3)),
            ValueError,
            r"latents have shape \[2, 5, 3\]; expected \[5, 3\] or \[5, K, 3\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=f"FlowPosterior: .*{message}"):
        call()
