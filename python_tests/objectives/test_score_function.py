"""The score-function surrogate: exact sums over all draws of discrete distributions."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Gamma, Independent

from gencore.objectives import score_function_surrogate

LOGITS = torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)
# f of (0, 0, 0), (0, 0, 1), … or of the classes, far from 0.
TABLE = torch.tensor([7.0, 5.5, 9.0, 8.2, 6.1, 7.7, 4.8, 10.0], dtype=torch.float64)
BITS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)


def bernoulli(logits):
    return Independent(Bernoulli(logits=logits), 1), BITS, TABLE


def categorical(logits):
    return Categorical(logits=logits), torch.arange(3), TABLE[:3]


def moments(make, num, baseline=None):
    """The exact mean and variance of the gradient from `num` draws, by all tuples of values; and
    the gradient of E f."""
    logits = LOGITS.clone().requires_grad_()
    q, support, table = make(logits)
    log_prob = q.log_prob(support)
    tuples = torch.tensor(list(itertools.product(range(len(support)), repeat=num)))
    gradients = torch.stack([
        torch.autograd.grad(
            score_function_surrogate(log_prob[drawn], table[drawn], baseline).mean(),
            logits, retain_graph=True,
        )[0]
        for drawn in tuples
    ])  # fmt: skip
    p = log_prob.detach().exp()[tuples].prod(1)[:, None]
    mean = (p * gradients).sum(0)
    (exact,) = torch.autograd.grad((log_prob.exp() * table).sum(), logits)
    return mean, (p * (gradients - mean) ** 2).sum(), exact


BASELINES = [None, torch.tensor(7.0), torch.tensor([3.0, -2.0]), "leave_one_out"]


@pytest.mark.parametrize("make", [bernoulli, categorical])
@pytest.mark.parametrize("baseline", BASELINES)
def test_it_is_unbiased_with_any_baseline(make, baseline):
    mean, _, exact = moments(make, 2, baseline)
    torch.testing.assert_close(mean, exact)


@pytest.mark.parametrize("make", [bernoulli, categorical])
@pytest.mark.parametrize("num", [2, 3])
def test_leaving_one_out_takes_variance_away(make, num):
    """Of values between 4 and 10, whose mean is most of what there is without a baseline."""
    plain, left = (moments(make, num, baseline)[1] for baseline in (None, "leave_one_out"))
    assert left < plain / 4
    # One draw's variance is spread over independent draws, without a baseline.
    torch.testing.assert_close(plain, moments(make, 1)[1] / num)


def test_equal_values_have_no_noise_by_the_others():
    log_prob = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    value = torch.randn(5, dtype=torch.float64).expand(4, 5)
    score_function_surrogate(log_prob, value, "leave_one_out").sum().backward()
    torch.testing.assert_close(log_prob.grad, torch.zeros_like(value), atol=1e-14, rtol=0)


def test_each_draw_has_the_mean_of_the_others():
    """Beside values of other data, which have their own."""
    log_prob = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([[1.0, 0.0], [2.0, 10.0], [6.0, -4.0]], dtype=torch.float64)
    score_function_surrogate(log_prob, value, "leave_one_out").sum().backward()
    expected = torch.tensor([[1 - 4, 0 - 3], [2 - 3.5, 10 + 2], [6 - 1.5, -4 - 5]])
    torch.testing.assert_close(log_prob.grad, expected.double())


def test_the_value_is_that_of_the_draws_and_its_parameters_have_their_gradient():
    q = Gamma(torch.tensor(2.0, requires_grad=True), torch.tensor(1.0))
    weight = torch.tensor(3.0, requires_grad=True)
    baseline = torch.tensor(1.5, requires_grad=True)
    torch.manual_seed(0)
    z = q.sample((6,))
    found = score_function_surrogate(q.log_prob(z), weight * z, baseline)
    assert torch.equal(found, 3 * z)
    found.sum().backward()
    torch.testing.assert_close(weight.grad, z.sum())
    assert baseline.grad is None


def test_a_continuous_distribution_that_torch_reparametrises_too():
    """d/da E z² = 2a + 1 of Gamma(a, 1)."""
    a = torch.full((200_000,), 1.7, dtype=torch.float64, requires_grad=True)
    q = Gamma(a, torch.ones_like(a))
    torch.manual_seed(1)
    z = q.sample()
    score_function_surrogate(q.log_prob(z), z.square(), torch.tensor(4.6)).sum().backward()
    error = a.grad.std() / len(a) ** 0.5
    assert abs(a.grad.mean() - (2 * 1.7 + 1)) < 4 * error
    assert error < 0.1


@pytest.mark.parametrize(
    ("shapes", "baseline", "message"),
    [
        (([3], [3, 1]), None, r"log_prob has shape \[3\]; expected that of value, \[3, 1\]"),
        (([3], [3]), torch.ones(2), r"baseline has shape \[2\]; expected what broadcasts to \[3\]"),
        (([3], [3]), torch.ones(2, 3), r"baseline has shape \[2, 3\]"),
        (([1, 4], [1, 4]), "leave_one_out", r"values have shape \[1, 4\]; expected \[K, \.\.\.\]"),
        (([], []), "leave_one_out", r"values have shape \[\]"),
        (([3], [3]), "mean", "baseline is 'mean'; expected None, a tensor or leave_one_out"),
    ],
)
def test_what_does_not_fit(shapes, baseline, message):
    with pytest.raises(ValueError, match=f"score_function_surrogate: {message}"):
        score_function_surrogate(*map(torch.zeros, shapes), baseline)
