"""Flows of a single number: element-wise transforms of their own parameters, or of a context."""

import math

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw

from gencore.models import (
    IAF,
    MAF,
    NICE,
    AutoregressiveSplineFlow,
    CouplingFlow,
    Flow,
    MonotonicFlow,
    PlanarFlow,
    RadialFlow,
    SplineFlow,
)
from gencore.nn import MLP

FLOWS = {
    "NICE": lambda **options: NICE(1, hidden_widths=(8,), **options),
    "CouplingFlow": lambda **options: CouplingFlow(1, num_layers=3, hidden_widths=(8,), **options),
    "SplineFlow": lambda **options: SplineFlow(1, num_layers=3, hidden_widths=(8,), **options),
    "MAF": lambda **options: MAF(1, num_layers=2, hidden_widths=(8,), **options),
    "IAF": lambda **options: IAF(1, num_layers=2, hidden_widths=(8,), **options),
    "MonotonicFlow": lambda **options: MonotonicFlow(
        1, num_layers=1, hidden_widths=(4,), integrand_widths=(4,), embedding_size=2, **options
    ),
    "AutoregressiveSplineFlow": lambda **options: AutoregressiveSplineFlow(
        1, num_layers=2, hidden_widths=(8,), **options
    ),
    "PlanarFlow": lambda **options: PlanarFlow(1, num_layers=2, **options),
    "RadialFlow": lambda **options: RadialFlow(1, num_layers=2, **options),
}


def made(name: str, **options) -> Flow:
    flow = FLOWS[name](**options).double()
    redraw(flow, 0.5, seed=0)
    flow.log_prob(randn(16, 1), randn(16, flow.context_size) if flow.context_size else None)
    return flow.eval()


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("context_size", [0, 3])
@pytest.mark.parametrize("name", FLOWS)
def test_it_is_invertible_and_a_density_on_the_line(name, context_size, reversible):
    flow = made(name, context_size=context_size, reversible=reversible)
    context = randn(6, context_size, seed=1) if context_size else None
    check_transform(flow.transform, randn(6, 1), context)
    grid = torch.linspace(-60, 60, 120_001, dtype=torch.float64)[:, None]
    row = None if context is None else context[:1]
    with torch.no_grad():
        log_prob = flow.log_prob(grid, None if row is None else row.expand(len(grid), -1))
    assert abs(log_prob.exp().sum().item() * 0.001 - 1) < 1e-4
    if context is not None:
        x = randn(1, 1).expand(6, 1)
        assert len(flow.log_prob(x, context).unique()) == 6


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("name", ["NICE", "CouplingFlow", "SplineFlow"])
def test_a_reversible_one_has_the_same_gradients(name, context_size):
    grads = []
    for reversible in (False, True):
        flow = made(name, context_size=context_size, reversible=reversible)
        context = randn(5, context_size).requires_grad_() if context_size else None
        x = randn(5, 1).requires_grad_()
        leaves = [x, *flow.parameters(), *([] if context is None else [context])]
        value = flow.log_prob(x, context).sum()
        grads.append(torch.autograd.grad(value, leaves, allow_unused=True))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["NICE", "CouplingFlow", "SplineFlow"])
def test_it_learns_a_mean_that_the_context_says(name):
    torch.manual_seed(0)
    flow = FLOWS[name](context_size=1, base="normal")
    optimiser = torch.optim.Adam(flow.parameters(), 0.02)
    for _ in range(300):
        context = torch.randint(2, (256, 1)).float()
        x = 2 * context - 1 + 0.5 * torch.randn(256, 1)
        loss = -flow.log_prob(x, context).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    context = torch.tensor([[0.0], [1.0]]).repeat(5000, 1)
    with torch.no_grad():
        nll = -flow.log_prob(2 * context - 1 + 0.5 * torch.randn(10_000, 1), context).mean()
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    # 0.03 above the bound at most; a flow that ignores the context is 0.8 above
    assert entropy - 4 * math.sqrt(0.5 / 10_000) < nll < entropy + 0.03


def test_an_mlp_of_nothing_is_its_parameters():
    mlp = MLP(0, (8,), 2)
    with torch.no_grad():
        mlp.constant.copy_(torch.tensor([1.0, 2.0]))
    assert mlp(torch.zeros(3, 0), torch.ones(3, 5)).tolist() == [[1.0, 2.0]] * 3
    assert [name for name, _ in mlp.named_parameters()] == ["constant"]
    with pytest.raises(ValueError, match="inputs and a context of 0 or more"):
        MLP(-1, (8,), 2)
