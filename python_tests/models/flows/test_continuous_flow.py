"""Continuous flows as densities: integrals, samples, training, regularised paths."""

import math

import pytest
import torch
from testing.flow_testing import gaussian_entropy, grid_integral, randn, ready
from torch import nn

from gencore.data import load_density
from gencore.models import ContinuousFlow

pytest.importorskip("torchdiffeq")

KEY = torch.tensor([3, 0])
STEPS = {"solver": "rk4", "num_steps": 2}


class Linear(nn.Linear):
    """f(x) = A x."""

    def forward(self, t, x, context):
        return super().forward(x)


def moons(num: int, step: int) -> torch.Tensor:
    return load_density("two_moons").sample(num, key=torch.tensor([7, step]))


def train(flow: ContinuousFlow, num: int, weight: float = 0.0) -> None:
    optimizer = torch.optim.Adam(flow.parameters(), 2e-2)
    for step in range(num):
        found = flow.regularised_log_prob(moons(128, step))
        penalty = found.kinetic_energy + found.jacobian_norm
        optimizer.zero_grad()
        (weight * penalty - found.log_prob).mean().backward()
        optimizer.step()


def test_it_starts_as_the_base_learns_two_moons_and_stays_a_density():
    torch.manual_seed(0)
    flow, test = ContinuousFlow(2, hidden_widths=(32,), **STEPS), moons(2000, 10_000)
    with torch.no_grad():
        before = flow.log_prob(test)
    torch.testing.assert_close(before, torch.distributions.Normal(0, 1).log_prob(test).sum(1))
    train(flow, 50)
    with torch.no_grad():
        gain = flow.log_prob(test) - before
    assert gain.mean() > 0.4  # of 1.3 that the true density gains
    flow = flow.double()
    flow.transform.num_steps = 6
    assert grid_integral(flow, 6, 101) == pytest.approx(1, abs=2e-3)


def test_samples_of_a_linear_field_are_a_known_gaussian():
    """x = e^{−A} z, z ~ N(0, I), is N(0, e^{−A} e^{−Aᵀ})."""
    a = 0.5 * randn(2, 2, seed=4)
    field = Linear(2, 2, bias=False).double()
    with torch.no_grad():
        field.weight.copy_(a)
    flow = ContinuousFlow(2, field=field, rtol=1e-8, atol=1e-8)
    x, log_prob = flow.sample_and_log_prob(2000, key=KEY)
    back = torch.linalg.matrix_exp(-a)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), back @ back.T)
    torch.testing.assert_close(log_prob, gaussian.log_prob(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow.log_prob(x), log_prob, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow.sample(2000, key=KEY), x, rtol=1e-6, atol=1e-6)
    cold = flow.sample(5, key=KEY, temperature=0.5)
    torch.testing.assert_close(cold, 0.5 * x[:5], rtol=1e-6, atol=1e-6)
    entropy = -log_prob.mean()
    error = log_prob.std() / math.sqrt(len(x))
    assert abs(entropy - gaussian_entropy(back @ back.T)) < 4 * error


@pytest.mark.parametrize("trace", ["exact", "rademacher"])
def test_densities_with_the_measures_of_their_paths(trace):
    flow = ready(ContinuousFlow(3, hidden_widths=(8,), context_size=2, trace=trace, **STEPS))
    x, context = randn(5, 3), randn(5, 2, seed=1)
    found = flow.regularised_log_prob(x, context, key=KEY)
    if trace == "exact":
        torch.testing.assert_close(found.log_prob, flow.log_prob(x, context))
    path = flow.transform.follow(x, context, key=KEY)
    torch.testing.assert_close(found.kinetic_energy, path.kinetic_energy)
    torch.testing.assert_close(found.jacobian_norm, path.jacobian_norm)
    again = flow.regularised_log_prob(x[2:], context[2:], key=KEY, first=2)
    torch.testing.assert_close(again.log_prob, found.log_prob[2:])


def test_a_key_gives_one_estimate_of_a_samples_density():
    flow = ready(ContinuousFlow(3, hidden_widths=(8,), trace="gaussian", **STEPS))
    first, second = (flow.sample_and_log_prob(5, key=KEY) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    x, log_prob = flow.sample_and_log_prob(3, key=KEY, first=2)
    torch.testing.assert_close((x, log_prob), (first[0][2:], first[1][2:]))


def test_regularised_paths_are_straighter():
    """And of nearly the same likelihood."""
    found = []
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        flow = ContinuousFlow(2, hidden_widths=(32,), **STEPS)
        train(flow, 30, weight)
        with torch.no_grad():
            found.append([part.mean().item() for part in flow.regularised_log_prob(moons(500, 99))])
    plain, regularised = found
    assert regularised[1] < 0.9 * plain[1]
    assert regularised[2] < 0.9 * plain[2]
    assert regularised[0] > plain[0] - 0.3


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="ContinuousFlow: features is 0"):
        ContinuousFlow(0)
    with pytest.raises(ValueError, match="activation is 'sine'"):
        ContinuousFlow(2, activation="sine")
    with pytest.raises(ValueError, match="solver is 'rk5'"):
        ContinuousFlow(2, solver="rk5")
    with pytest.raises(ValueError, match="temperature is -1"):
        ContinuousFlow(2).sample(5, temperature=-1.0)
    with pytest.raises(ValueError, match=r"data have shape \[5, 3\]"):
        ContinuousFlow(2).regularised_log_prob(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="context_size is 0"):
        ContinuousFlow(2).regularised_log_prob(torch.zeros(5, 2), torch.zeros(5, 1))
