"""The Metropolis-Hastings GAN, by exact enumeration on a discrete toy and by normal densities."""

import math

import pytest
import torch
from testing.chain_testing import assert_means, key, normal

from gencore.ops import philox_normal, philox_words
from gencore.samplers import MetropolisHastingsGAN

P = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
Q = torch.tensor([0.3, 0.1, 0.2, 0.25, 0.15])


def generator(num, *, key, first):
    """States 0 to 4 with the probabilities Q."""
    uniform = (philox_words((num,), key, first_element=first).double() + 0.5) / 2**32
    return torch.bucketize(uniform, Q.double().cumsum(0)).clamp(max=4).float()[:, None]


def ideal(x):
    """The logit of D = p/(p + q)."""
    state = x[:, 0].long()
    return (P.log() - Q.log())[state]


def test_the_transition_keeps_p_exactly():
    """pT = p for the matrix of all transitions, with the acceptance rates of the sampler."""
    rates = torch.empty(5, 5, dtype=torch.float64)
    states = torch.arange(5.0)[:, None]
    for there in range(5):
        sampler = MetropolisHastingsGAN(
            lambda num, *, key, first, there=there: torch.full((num, 1), float(there)), ideal
        )
        _, info = sampler.step(sampler.init(states), key=key(0))
        rates[:, there] = info.acceptance_rate
    d = P.double() / (P.double() + Q.double())
    turner = ((1 / d[:, None] - 1) / (1 / d[None] - 1)).clamp(max=1)
    torch.testing.assert_close(rates, turner, rtol=1e-6, atol=0)
    matrix = Q.double() * rates
    matrix += torch.diag(1 - matrix.sum(1))
    torch.testing.assert_close(P.double() @ matrix, P.double(), rtol=1e-6, atol=0)


def test_samples_of_q_become_samples_of_p():
    num = 40_000
    start = generator(num, key=key(1), first=0)
    x, info = MetropolisHastingsGAN(generator, ideal).sample(
        start, 40, key=key(2), return_info=True
    )
    assert_means(torch.nn.functional.one_hot(x[:, 0].long(), 5), P)
    # In the end the rate is its mean over pairs of a state of p and a proposal of q.
    ratio = P / Q
    expected = (P[:, None] * Q[None] * (ratio[None] / ratio[:, None]).clamp(max=1)).sum()
    assert_means(info.acceptance_rate[-1], expected)
    assert_means(info.is_accepted[-1], expected)


def wide(num, *, key, first):
    """q = N(0, 2²)."""
    return 2 * philox_normal((num, 1), key, first_element=first)


def log_ratio(x):
    """ln p/q of p = N(1, 1)."""
    return (-0.5 * (x - 1) ** 2 + x**2 / 8).sum(1) + math.log(2)


def test_moments_and_acceptance_between_normal_densities():
    """From samples to p, with the acceptance rate of a quadrature over pairs."""
    num = 20_000
    start = wide(num, key=key(6), first=0)
    x, info = MetropolisHastingsGAN(wide, log_ratio).sample(start, 50, key=key(7), return_info=True)
    assert x.shape == (num, 1)
    powers = torch.cat([x, x**2, x**3], 1)
    assert_means(powers, [1.0, 2.0, 4.0])
    grid = torch.linspace(-12, 13, 2501, dtype=torch.float64)
    p = torch.exp(-0.5 * (grid - 1) ** 2)
    q = torch.exp(-(grid**2) / 8)
    ratio = log_ratio(grid[:, None])
    rate = (ratio[None] - ratio[:, None]).exp().clamp(max=1)
    assert_means(info.acceptance_rate[-1], (p / p.sum()) @ rate @ (q / q.sum()))


def test_a_constant_discriminator_takes_every_proposal():
    sampler = MetropolisHastingsGAN(wide, lambda x: torch.full((len(x),), 0.7))
    state = sampler.init(torch.zeros(100, 1))
    moved, info = sampler.step(state, key=key(8))
    assert info.is_accepted.all()
    assert torch.equal(moved.position, wide(100, key=key(8), first=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_of_large_scores_are_finite(dtype):
    scores = torch.tensor([-800.0, -80.0, 80.0, 800.0], dtype=dtype)
    sampler = MetropolisHastingsGAN(
        lambda num, *, key, first: torch.full((num, 1), 2.0, dtype=dtype),
        lambda x: scores[x[:, 0].long()],
    )
    start = torch.arange(4, dtype=dtype)[:, None]
    _, info = sampler.step(sampler.init(start), key=key(9))
    assert info.acceptance_rate[:3].tolist() == [1.0, 1.0, 1.0]
    assert info.acceptance_rate[3] == pytest.approx(math.exp(-720), rel=1e-9, abs=1e-45)


class TestGenerate:
    def test_it_draws_p(self):
        data = 1 + normal(20_000, 1, seed=1)
        x = MetropolisHastingsGAN(wide, log_ratio).generate(data, 30, key=key(10))
        assert_means(torch.cat([x, x**2], 1), [1.0, 2.0])
        assert (x != data).all()

    def test_chains_that_do_not_leave_their_data_start_at_a_sample(self):
        """State 0 is never left and never proposed: those that begin there end like the rest."""
        logits = torch.tensor([torch.inf, 0.0, 0.0])

        def proposal(num, *, key, first):
            return 1.0 + (philox_words((num, 1), key, first_element=first) % 2).float()

        sampler = MetropolisHastingsGAN(proposal, lambda x: logits[x[:, 0].long()])
        x = sampler.generate(torch.tensor([0.0, 1.0]).repeat(5000)[:, None], 3, key=key(11))
        assert_means(x[::2] - 1, 0.5)
        assert_means(x[1::2] - 1, 0.5)

    def test_parts_of_a_batch_are_the_whole(self):
        sampler, data = MetropolisHastingsGAN(wide, log_ratio), 1 + normal(9, 1, seed=2)
        whole = sampler.generate(data, 2, key=key(12))
        parts = [
            sampler.generate(data[:4], 2, key=key(12)),
            sampler.generate(data[4:], 2, key=key(12), first=4),
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_an_uncalibrated_discriminator_gives_another_density():
    """Logits of half the size lead to √(p/q)·q."""
    x = MetropolisHastingsGAN(generator, lambda x: 0.5 * ideal(x)).sample(
        torch.ones(40_000, 1), 40, key=key(3)
    )
    wrong = (P * Q).sqrt()
    assert_means(torch.nn.functional.one_hot(x[:, 0].long(), 5), wrong / wrong.sum())


def test_parts_of_a_batch_run_the_chains_of_the_whole():
    sampler, x = MetropolisHastingsGAN(generator, ideal), generator(9, key=key(4), first=0)
    whole = sampler.sample(x, 6, key=key(5))
    parts = [sampler.sample(x[:2], 6, key=key(5)), sampler.sample(x[2:], 6, key=key(5), first=2)]
    assert torch.equal(torch.cat(parts), whole)


def test_what_is_certain_and_what_is_not_a_number():
    """D = 1 is never left for less, D = 0 always, and a NaN is refused."""
    logits = torch.tensor([torch.inf, -torch.inf, 0.0, torch.nan])
    sampler = MetropolisHastingsGAN(
        lambda num, *, key, first: torch.full((num, 1), 2.0), lambda x: logits[x[:, 0].long()]
    )
    _, info = sampler.step(sampler.init(torch.tensor([[0.0], [1.0], [2.0]])))
    assert info.acceptance_rate.tolist() == [0.0, 1.0, 1.0]
    to_nan = MetropolisHastingsGAN(
        lambda num, *, key, first: torch.full((num, 1), 3.0), sampler.discriminator
    )
    state, info = to_nan.step(to_nan.init(torch.tensor([[1.0]])))
    assert (state.position.item(), info.acceptance_rate.item()) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("proposal", "discriminator", "message"),
    [
        (lambda num, **_: torch.zeros(num, 2), ideal, r"proposal is torch.float32 of shape \[3, 2"),
        (lambda num, **_: None, ideal, "proposal is NoneType"),
        (generator, lambda x: ideal(x)[:, None], r"discriminator\(x\) has shape \[3, 1\]"),
        (generator, lambda x: ideal(x) * torch.nan, "3 of 3 chains start where the logit is NaN"),
    ],
)
def test_bad_input_is_explained(proposal, discriminator, message):
    with pytest.raises(ValueError, match=f"^MetropolisHastingsGAN.*{message}"):
        MetropolisHastingsGAN(proposal, discriminator).sample(torch.zeros(3, 1), 2)


def test_chains_need_no_gradient_of_the_discriminator():
    layer = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
    x = MetropolisHastingsGAN(lambda num, *, key, first: normal(num, 1, seed=first), layer).sample(
        normal(4, 1), 3
    )
    assert not x.requires_grad
