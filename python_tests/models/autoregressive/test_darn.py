"""DARN against sums over all latents."""

import math

import pytest
import torch
from testing.vector_testing import all_vectors, random_model

from gencore.models import DARN
from gencore.models.autoregressive.darn import half_gradient_bits
from gencore.ops import random_key


def tables(model):
    """log p(x, h) and log q(h | x) of all x (rows) and h (columns)."""
    x, h = all_vectors(model.features), model.all_latents()
    pairs = x.repeat_interleave(len(h), 0), h.repeat(len(x), 1)
    shape = (len(x), len(h))
    return model.log_joint(*pairs).view(shape), model.log_posterior(pairs[1], pairs[0]).view(shape)


MODELS = {
    "one layer": lambda: DARN(4, (3,), order=[2, 0, 3, 1]),
    "two layers": lambda: DARN(4, (3, 2)),
    "deterministic layers": lambda: DARN(4, (3, 2), hidden_widths=(5,)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_joint_and_posterior_are_normalised(make):
    joint, posterior = tables(random_model(make()).double())
    assert joint.exp().sum().item() == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(posterior.exp().sum(1), torch.ones(16, dtype=torch.float64))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_bound_is_below_the_likelihood_by_the_divergence(make):
    """The gap is KL(q ‖ p(h | x)), and the bound the mean of its draws."""
    model = random_model(make())
    joint, posterior = tables(model)
    x, log_prob = all_vectors(4), model.log_prob(all_vectors(4))
    torch.testing.assert_close(log_prob, joint.logsumexp(1))
    bound = (posterior.exp() * (joint - posterior)).sum(1)
    divergence = (posterior.exp() * (posterior - (joint - log_prob[:, None]))).sum(1)
    assert (bound < log_prob).all()
    torch.testing.assert_close(log_prob - bound, divergence)
    with torch.no_grad():
        draws = model.elbo(x.repeat(5000, 1), generator=torch.Generator().manual_seed(0))
    draws = draws.view(5000, 16)
    error = draws.std(0) / math.sqrt(5000)
    assert ((draws.mean(0) - bound).abs() < 4.5 * error).all()


def test_the_bound_is_tight_with_the_exact_posterior():
    """Of one latent bit with independent data, the log-odds given x are linear in x."""
    model = random_model(DARN(4, (1,))).double()
    decoder, prior = model.decoders
    linear = model.encoders[0].layers[0]
    with torch.no_grad():
        decoder.weight.zero_()
        low = decoder(torch.zeros(1, 4).double(), torch.zeros(1, 1).double())[0]
        high = decoder(torch.zeros(1, 4).double(), torch.ones(1, 1).double())[0]
        softplus = torch.nn.functional.softplus
        linear.weight.copy_((high - low)[None])
        linear.bias.copy_(prior.bias - (softplus(high) - softplus(low)).sum())
    joint, posterior = tables(model)
    bound = (posterior.exp() * (joint - posterior)).sum(1)
    x = all_vectors(4)
    torch.testing.assert_close(bound, model.log_prob(x))
    torch.testing.assert_close(model.importance_bound(x, 1), model.log_prob(x))


def test_the_importance_bound_tightens_to_the_likelihood():
    model = random_model(DARN(4, (3, 2)))
    x, generator = all_vectors(4), torch.Generator().manual_seed(0)
    with torch.no_grad():
        exact = model.log_prob(x)
    means = [
        model.importance_bound(x.repeat(200, 1), k, generator=generator).mean().item()
        for k in (1, 5, 25)
    ]
    assert means[0] < means[1] < means[2] < exact.mean().item()
    # The relative variance of the mean of the weights is that of one over their number.
    joint, posterior = tables(model)
    variance = (2 * joint - posterior).exp().sum(1) / exact.exp().square() - 1
    many = model.importance_bound(x, 1000, generator=generator)
    assert ((many - exact).abs() < 5 * (variance / 1000).sqrt()).all()


def test_the_half_estimator_is_exact_for_quadratic_functions():
    """The mean over the four draws of two bits of the estimate of ∂ E f / ∂ logits."""
    logits = torch.tensor([[0.4, -1.3]], dtype=torch.float64, requires_grad=True)

    def f(h):
        return 1.5 * h[:, 0] ** 2 - 0.7 * h[:, 0] * h[:, 1] + 2 * h[:, 1] - 0.3 * h[:, 1] ** 2

    q, codes = torch.sigmoid(logits), all_vectors(2).double()
    probs = torch.where(codes == 1, q, 1 - q).prod(1)
    (exact,) = torch.autograd.grad((probs * f(codes)).sum(), logits)
    estimate = torch.zeros_like(logits)
    for code, prob in zip(codes, probs.detach(), strict=True):
        number = torch.where(code == 1, 0, 1 - 1e-9)[None]
        h = half_gradient_bits(logits, number)
        assert torch.equal(h.detach()[0], code)
        estimate += prob * torch.autograd.grad(f(h).sum(), logits)[0]
    torch.testing.assert_close(estimate, exact)


def test_parts_of_a_batch_have_the_draws_of_the_whole():
    model, key, x = random_model(DARN(4, (3, 2))), random_key(), all_vectors(4)
    parts = [model(x[:9], key=key), model(x[9:], key=key, first=9)]
    torch.testing.assert_close(torch.cat(parts), model(x, key=key))


def test_latents_learn_what_a_logistic_autoregression_cannot():
    """The parity of two bits as the third: 2 log 2 nats, and 3 log 2 without latents."""
    torch.manual_seed(0)
    model = DARN(3, (6,))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    x = all_vectors(2)
    x = torch.cat([x, x.sum(1, keepdim=True) % 2], 1)
    for _ in range(400):
        optimizer.zero_grad()
        model(x.repeat(16, 1)).mean().backward()
        optimizer.step()
    loss = -model.log_prob(x).mean().item()
    assert 2 * math.log(2) - 1e-6 < loss < 2.3 * math.log(2)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"latents are \(\)"):
        DARN(3, ())
    with pytest.raises(ValueError, match="17 bits are too many; expected at most 16"):
        DARN(3, (10, 7)).log_prob(all_vectors(3))
    with pytest.raises(ValueError, match="num_samples is 0"):
        DARN(3, (2,)).importance_bound(all_vectors(3), 0)
    with pytest.raises(ValueError, match=r"latents have shape \[8, 3\]; expected \[8, 2\]"):
        DARN(3, (2,)).log_joint(all_vectors(3), torch.zeros(8, 3))
