"""MAF and IAF as densities, and the posterior made of IAF steps."""

import math

import pytest
import torch
from testing.flow_testing import gaussian_entropy, grid_integral, redraw
from torch import Tensor, nn

from gencore.models import IAF, MAF, Flow, FlowPosterior
from gencore.nn import InverseAutoregressive, MaskedAutoregressive
from gencore.ops import philox_normal, random_key

FLOWS = (MAF, IAF)
CORRELATION = 0.9
MEAN_FIELD = -0.5 * math.log(1 - CORRELATION**2)  # no product of two Gaussians comes closer


def spread(module: nn.Module, scale: float) -> nn.Module:
    redraw(module.double().eval(), scale, seed=3)
    return module


def train(parameters, loss, steps: int, rate: float = 5e-3) -> None:
    optimizer = torch.optim.Adam(list(parameters), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("kind", FLOWS)
def test_density_integrates_to_one(kind):
    flow = spread(
        kind(2, num_layers=2, hidden_widths=(16, 16), activation="tanh", context_size=1), 0.4
    )
    context = torch.full((1, 1), 0.7, dtype=torch.float64)
    total = grid_integral(flow, 25, 501, context)
    assert total == pytest.approx(1.0, abs=1e-4)
    peak = flow.log_prob(torch.zeros(1, 2, dtype=torch.float64), context)
    assert abs(peak.item() + math.log(2 * math.pi)) > 0.05  # not the base's density


@pytest.mark.parametrize("kind", FLOWS)
def test_each_row_has_its_own_context(kind):
    flow = spread(kind(3, num_layers=2, hidden_widths=(12, 12), context_size=2), 0.5)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    contexts = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    together = flow.log_prob(x, contexts)
    for row in range(4):
        alone = flow.log_prob(x[row : row + 1], contexts[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])
    assert bool((flow.log_prob(x, contexts.roll(1, 0)) - together).abs().min() > 1e-3)
    samples = flow(contexts).sample((5,))
    z = flow.transform(samples[3], contexts)[0]
    torch.testing.assert_close(flow.transform.inverse(z, contexts)[0], samples[3])


@pytest.mark.parametrize("kind", FLOWS)
def test_is_a_distribution(kind):
    flow = spread(kind(3, num_layers=2, hidden_widths=(12, 12), context_size=2), 0.5)
    contexts = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    density = flow(contexts)
    assert density.batch_shape == (4,)
    assert density.event_shape == (3,)
    x = density.rsample((6,))
    assert x.shape == (6, 4, 3)
    assert density.log_prob(x).shape == (6, 4)
    assert not density.sample().requires_grad
    x.square().sum().backward()
    assert contexts.grad is not None
    assert bool(contexts.grad.any())
    for parameter in flow.parameters():
        assert parameter.grad is not None


@pytest.mark.parametrize("kind", FLOWS)
def test_log_prob_is_that_of_the_sample(kind):
    """log p(x) of x = f⁻¹(z) is log p₀(z) + log|det ∂z/∂x|, from the autograd Jacobian."""
    flow = spread(kind(4, num_layers=3, hidden_widths=(12, 12), activation="tanh"), 0.5)
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda t: flow.transform.inverse(t)[0][0], z)
    base = -0.5 * z.square().sum() - 2 * math.log(2 * math.pi)
    expected = base - matrix[:, 0].slogdet()[1]
    torch.testing.assert_close(flow.log_prob(flow.transform.inverse(z)[0])[0], expected)


@pytest.mark.parametrize("kind", FLOWS)
def test_a_gaussian_is_learned_to_its_entropy(kind):
    torch.manual_seed(0)
    factor = torch.tensor([[1.5, 0.0, 0.0], [-0.9, 0.6, 0.0], [0.4, 0.5, 0.8]])
    shift = torch.tensor([1.0, -2.0, 0.5])
    entropy = gaussian_entropy(factor @ factor.T)

    def data(num: int) -> Tensor:
        return torch.randn(num, 3) @ factor.T + shift

    flow = kind(3, num_layers=2, hidden_widths=(24, 24), activation="silu")
    train(flow.parameters(), lambda: -flow.log_prob(data(256)).mean(), 400, 2e-2)
    with torch.no_grad():
        nll = -flow.log_prob(data(20000))
    error = nll.std() / len(nll) ** 0.5
    assert abs(nll.mean() - entropy) < 0.02 + 3 * error


def kl_to_correlated(posterior: FlowPosterior, mean: Tensor, log_std: Tensor, num: int) -> Tensor:
    """log q − log p of samples, p with unit variances and the correlation 0.9."""
    z, log_q = posterior(mean.expand(num, 2), log_std.expand(num, 2))
    first, second = z.unbind(1)
    rest = 1 - CORRELATION**2
    log_p = -0.5 * (first.square() + (second - CORRELATION * first).square() / rest)
    return log_q - log_p + math.log(2 * math.pi) + 0.5 * math.log(rest)


def test_without_steps_the_posterior_is_the_mean_field_optimum():
    torch.manual_seed(0)
    log_std = torch.full((2,), 0.5 * math.log(1 - CORRELATION**2))
    kl = kl_to_correlated(FlowPosterior(2, num_steps=0), torch.zeros(2), log_std, 100_000)
    assert abs(kl.mean() - MEAN_FIELD) < 4 * kl.std() / len(kl) ** 0.5


def test_one_step_fits_a_correlated_gaussian():
    torch.manual_seed(0)
    posterior = FlowPosterior(2, num_steps=1, hidden_widths=(16,), activation="silu")
    mean, log_std = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    train(
        [*posterior.parameters(), mean, log_std],
        lambda: kl_to_correlated(posterior, mean, log_std, 128).mean(), 600, 3e-2,
    )  # fmt: skip
    with torch.no_grad():
        kl = kl_to_correlated(posterior, mean, log_std, 20000)
    assert -4 * kl.std() / len(kl) ** 0.5 < kl.mean() < 0.02
    assert MEAN_FIELD > 0.8


def test_posterior_densities_agree_and_use_the_context():
    posterior = spread(FlowPosterior(3, 2, num_steps=3, hidden_widths=(12,)), 0.5)
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 8, 3, generator=generator, dtype=torch.float64).unbind(0)
    context = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    z, log_q = posterior(mean, log_std, context, generator=generator)
    torch.testing.assert_close(posterior.log_prob(z, mean, log_std, context), log_q)
    other = posterior.log_prob(z, mean, log_std, context.roll(1, 0))
    assert bool((other - log_q).abs().min() > 1e-4)
    seeded = torch.Generator().manual_seed(5)
    again = torch.Generator().manual_seed(5)
    first = posterior(mean, log_std, context, generator=seeded)
    torch.testing.assert_close(posterior(mean, log_std, context, generator=again), first)
    # The noise of the key that the generator draws, given instead.
    key = random_key(torch.Generator().manual_seed(5))
    epsilon = philox_normal(mean.shape, key, dtype=torch.float64)
    torch.testing.assert_close(posterior(mean, log_std, context, epsilon=epsilon), first)


def test_posterior_with_a_flow_prior_trains_everything():
    torch.manual_seed(0)
    posterior, prior = FlowPosterior(3, 4), MAF(3, num_layers=2, hidden_widths=(8,))
    encoder = nn.Linear(5, 3 + 3 + 4)
    mean, log_std, context = encoder(torch.randn(16, 5)).split([3, 3, 4], 1)
    z, log_q = posterior(mean, log_std, context)
    (log_q - prior.log_prob(z)).mean().backward()
    for module in (encoder, posterior, prior):
        assert all(p.grad is not None for p in module.parameters())


def test_layers_are_joined_by_reversals():
    maf = MAF(3, num_layers=4, hidden_widths=(8,))
    x = torch.randn(5, 3)
    for layer in maf.transform:
        if isinstance(layer, MaskedAutoregressive):  # the identity
            for parameter in layer.made.linears()[-1].parameters():
                nn.init.zeros_(parameter)
    assert torch.equal(maf.transform(x)[0], x.flip(1))  # three reversals
    assert isinstance(maf, Flow)
    steps = [t for t in IAF(3, num_layers=4).transform if isinstance(t, InverseAutoregressive)]
    assert len(steps) == 4


@pytest.mark.parametrize("kind", FLOWS)
def test_bad_sizes(kind):
    with pytest.raises(ValueError, match="num_layers is 0"):
        kind(3, num_layers=0)
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        kind(3).log_prob(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="num_steps is -1"):
        FlowPosterior(3, num_steps=-1)
    with pytest.raises(ValueError, match=r"FlowPosterior: mean .* expected \[N, 3\]"):
        FlowPosterior(3)(torch.zeros(5, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"epsilon has shape \[1, 3\]; expected \[5, 3\]"):
        FlowPosterior(3)(torch.zeros(5, 3), torch.zeros(5, 3), epsilon=torch.zeros(1, 3))


def test_iaf_starts_with_the_scale_of_its_first_batch():
    torch.manual_seed(0)
    data = torch.tensor([3.0, 0.5]) * torch.randn(2000, 2) + 1
    flow = IAF(2, num_layers=8)
    log_prob = flow.log_prob(data)
    gaussian = torch.distributions.Normal(data.mean(0), data.std(0)).log_prob(data).sum(1)
    assert abs(log_prob.mean() - gaussian.mean()).item() < 0.01
    samples = flow().sample((2000,))
    torch.testing.assert_close(samples.std(0), data.std(0), rtol=0.1, atol=0.0)
    torch.testing.assert_close(samples.mean(0), data.mean(0), rtol=0.0, atol=0.3)
