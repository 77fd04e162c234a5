"""Autoregressive neural spline flows, and the options that all autoregressive flows take."""

import math

import pytest
import torch
from testing.flow_testing import (
    check_transform,
    gaussian_entropy,
    grid_integral,
    jacobian_log_det,
    randn,
    redraw,
)

from gencore.models import IAF, MAF, AutoregressiveSplineFlow, SplineFlow
from gencore.nn import Inverse, LULinear, MaskedAutoregressiveSpline, Permutation

FLOWS = (MAF, IAF, AutoregressiveSplineFlow)
GRAPH = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]).bool()


def spread(flow, scale=0.5):
    redraw(flow.double().eval(), scale, seed=3)
    return flow


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_it_inverts_with_exact_jacobians(features, context_size):
    flow = spread(
        AutoregressiveSplineFlow(
            features, num_layers=3, hidden_widths=(10, 8), num_bins=5, context_size=context_size
        )
    )
    context = randn(4, context_size, seed=1) if context_size else None
    check_transform(flow.transform, 1.5 * randn(4, features), context)


def test_round_trips_in_float32():
    torch.manual_seed(0)
    flow = AutoregressiveSplineFlow(
        6, num_layers=5, hidden_widths=(16, 16), tail_bound=3.0, bound=1.0, mixing="reverse"
    )
    redraw(flow, 0.5)
    x = 2 * torch.randn(300, 6)
    with torch.no_grad():
        z, log_det = flow.transform(x)
        back, log_det_back = flow.transform.inverse(z)
    assert (z - x).abs().max() > 0.1
    assert (back - x).abs().max() < 5e-3
    assert (log_det + log_det_back).abs().max() < 5e-2


@pytest.mark.parametrize(("value", "residual"), [(-1.0, False), (0.7, True)])
def test_the_density_integrates_to_one_for_a_context(value, residual):
    flow = spread(
        AutoregressiveSplineFlow(
            2,
            num_layers=3,
            hidden_widths=(8, 8),
            tail_bound=3.0,
            bound=1.0,
            mixing="reverse",
            context_size=1,
            residual=residual,
        ),
        0.35,
    )
    context = torch.tensor([[value]], dtype=torch.float64)
    assert grid_integral(flow, 4.5, 500, context) == pytest.approx(1.0, abs=1e-3)
    peak = flow.log_prob(torch.zeros(1, 2, dtype=torch.float64), context)
    assert abs(peak.item() + math.log(2 * math.pi)) > 0.05


def test_log_prob_is_that_of_the_sample():
    flow = spread(AutoregressiveSplineFlow(4, num_layers=3, hidden_widths=(12, 12)))
    z = randn(3, 4, seed=1)
    expected = -0.5 * z.square().sum(1) - 2 * math.log(2 * math.pi)
    expected = expected - jacobian_log_det(lambda t: flow.transform.inverse(t)[0], z)
    torch.testing.assert_close(flow.log_prob(flow.transform.inverse(z)[0]), expected)


def test_gradients_of_densities_and_samples():
    flow = spread(
        AutoregressiveSplineFlow(
            3, num_layers=2, hidden_widths=(4,), num_bins=3, context_size=1, activation="tanh"
        )
    )
    x, context = randn(2, 3).requires_grad_(), randn(2, 1, seed=1).requires_grad_()
    leaves = (x, context, *flow.parameters())
    assert torch.autograd.gradcheck(lambda x, c, *_: flow.log_prob(x, c), leaves)
    assert torch.autograd.gradcheck(lambda z, c, *_: flow.transform.inverse(z, c)[0], leaves)


@pytest.mark.parametrize("kind", [MAF, AutoregressiveSplineFlow])
def test_reversible_stacks_have_the_same_gradients(kind):
    grads = []
    for reversible in (False, True):
        flow = spread(
            kind(3, num_layers=2, hidden_widths=(6, 6), residual=True, reversible=reversible)
        )
        x = randn(5, 3).requires_grad_()
        grads.append(torch.autograd.grad(flow.log_prob(x).sum(), [x, *flow.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=1e-8)


def test_a_fit_reaches_the_entropy_of_a_ring():
    """Angle uniform, radius N(1.5, 0.2²) to its positive part: H = log 2π + E log r + H(r)."""
    torch.manual_seed(0)

    def draw(num: int) -> torch.Tensor:
        radius, angle = 1.5 + 0.2 * torch.randn(num), 2 * math.pi * torch.rand(num)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    flow = AutoregressiveSplineFlow(2, num_layers=3, hidden_widths=(32,), tail_bound=4.0)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        (-flow.log_prob(draw(256)).mean()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        nll = -flow.log_prob(draw(20_000))
    radius = 1.5 + 0.2 * torch.randn(1_000_000, dtype=torch.float64)
    entropy = (math.log(2 * math.pi) + radius.log().mean()).item() + gaussian_entropy(
        torch.tensor([[0.04]])
    )
    error = 4 * nll.std() / math.sqrt(len(nll))
    assert entropy - error < nll.mean() < entropy + 0.05 + error


def test_the_inverse_of_a_layer_has_samples_in_one_pass():
    layer = MaskedAutoregressiveSpline(4, (9, 9)).double()
    redraw(layer, 0.7, seed=1)
    x = randn(5, 4)
    for ours, expected in zip(Inverse(layer).inverse(x), layer(x), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("kind", FLOWS)
def test_coordinates_are_permuted_at_random_if_asked_for(kind):
    flows = [
        kind(
            6, num_layers=4, hidden_widths=(8,), mixing="permutation",
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    ]  # fmt: skip
    orders = [
        [layer.order.tolist() for layer in flow.transform if isinstance(layer, Permutation)]
        for flow in flows
    ]
    assert orders[0] == orders[1]
    assert len(orders[0]) == 3
    assert orders[0] != [[5, 4, 3, 2, 1, 0]] * 3
    for seed in range(6):  # two coordinates always change places
        flow = kind(2, mixing="permutation", generator=torch.Generator().manual_seed(seed))
        assert all(t.order.tolist() == [1, 0] for t in flow.transform if isinstance(t, Permutation))


@pytest.mark.parametrize("kind", FLOWS)
def test_all_layers_of_a_graph_are_that_graph(kind):
    """∂z/∂x of the flow is nowhere but on the paths of the graph."""
    flow = spread(kind(4, num_layers=3, hidden_widths=(9, 9), adjacency=GRAPH, activation="tanh"))
    check_transform(flow.transform, randn(3, 4))
    matrix = torch.func.vmap(torch.func.jacrev(lambda t: flow_pass(flow, t[None])[0]))(randn(9, 4))
    paths = torch.eye(4)
    for _ in range(4):
        paths = (paths + paths @ GRAPH.float()).clamp(max=1)
    assert torch.equal(matrix.abs().sum(0) > 0, paths.bool())


def flow_pass(flow, x):
    """The direction that is one pass of each network."""
    return (flow.transform.inverse if isinstance(flow, IAF) else flow.transform)(x)[0]


@pytest.mark.parametrize("kind", FLOWS)
def test_networks_of_every_option_train(kind):
    torch.manual_seed(0)
    flow = kind(
        4, num_layers=2, hidden_widths=(8, 8), activation="gelu", residual=True, dropout=0.2
    )
    flow.log_prob(torch.randn(6, 4)).mean().backward()
    assert all(p.grad is not None for p in flow.parameters())
    flow.eval()
    x = torch.randn(5, 4)
    back = flow.transform.inverse(flow.transform(x)[0])[0]
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"mixing": "shuffle"}, "mixing is 'shuffle'"),
        ({"dropout": 0.1, "reversible": True}, "Reversible: .*dropout"),
        (
            {"adjacency": torch.eye(3).bool().roll(1, 0).tril(-1), "mixing": "lu"},
            "nothing is mixed",
        ),
        ({"adjacency": torch.ones(3, 3).bool()}, "MADE: the adjacency has a cycle"),
        ({"activation": "sine"}, "activation is 'sine'"),
    ],
)
def test_bad_options_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(3, **options)


def test_bad_bins_are_named():
    with pytest.raises(ValueError, match="num_bins is 1; expected 2 or more"):
        AutoregressiveSplineFlow(3, num_bins=1)


@pytest.mark.parametrize(
    ("kind", "fixed"),
    [
        (AutoregressiveSplineFlow, {"adjacency": torch.ones(4, 4).bool().tril(-1)}),
        (SplineFlow, {"masks": [[True, False, True, False], [False, True, False, True]]}),
    ],
)
def test_splines_are_mixed_by_matrices_unless_coordinates_keep_their_places(kind, fixed):
    assert any(isinstance(layer, LULinear) for layer in kind(4).transform)
    assert not any(isinstance(layer, LULinear) for layer in kind(4, **fixed).transform)
