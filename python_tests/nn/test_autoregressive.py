"""MADE, and the layers of masked and inverse autoregressive flows."""

from functools import partial

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch import Tensor

from gencore.nn import (
    MADE,
    InverseAutoregressive,
    MaskedAutoregressive,
    MaskedAutoregressiveSpline,
)
from gencore.ops import backend, rational_quadratic_spline

SPLINES = partial(MaskedAutoregressiveSpline, num_bins=3)
LAYERS = (MaskedAutoregressive, InverseAutoregressive, SPLINES)
IDS = ("masked", "inverse", "spline")
SIZES = ((1, (4,)), (2, (5, 3)), (3, (2,)), (6, (11, 8, 9)))


def spread(module: torch.nn.Module, scale: float = 0.5) -> torch.nn.Module:
    """The same module in float64, with parameters away from where they start."""
    redraw(module.double(), scale, seed=3)
    return module


def jacobian(made: MADE, x: Tensor, context: Tensor | None = None) -> Tensor:
    """|∂y/∂x| summed over the points, [P, D, D]."""
    each = torch.func.vmap(torch.func.jacrev(made), in_dims=(0, None if context is None else 0))
    return each(x, context).abs().sum(0)


@pytest.mark.parametrize("order", [None, [3, 0, 4, 2, 1]], ids=str)
@pytest.mark.parametrize("context_size", [0, 3])
@pytest.mark.parametrize("widths", [(20,), (20, 17), (16, 30, 16, 20)], ids=str)
def test_an_output_depends_on_every_input_before_it_and_on_no_other(widths, context_size, order):
    made = spread(MADE(5, widths, 3, activation="tanh", context_size=context_size, order=order))
    context = randn(8, 3) if context_size else None
    dependence = jacobian(made, randn(8, 5), context)
    position = torch.tensor(order or range(5)).argsort()
    allowed = (position[None, :] < position[:, None]).expand(3, 5, 5)
    assert bool((dependence[~allowed] == 0).all())
    assert bool((dependence[allowed] > 0).all())


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize(
    ("features", "widths"), [(1, (4,)), (2, (1,)), (5, (2, 7)), (9, (3, 30, 4))]
)
def test_every_hidden_unit_is_used_and_has_an_input(features, widths, context_size):
    """Each unit's bias changes some output, and, but for constants, some input or context it."""
    made = spread(MADE(features, widths, 1, activation="tanh", context_size=context_size))
    x, context = randn(6, features), randn(6, 2) if context_size else None
    y = made(x, context)
    for linear in made.linears():
        (grad,) = torch.autograd.grad(y.square().sum(), linear.bias, retain_graph=True)
        assert bool((grad != 0).all())
    if features > 2:
        for linear, mask in zip(made.linears(), masks(made), strict=True):
            sees_context = linear is made.linears()[0] and context_size
            assert sees_context or linear is made.linears()[-1] or bool(mask.any(1).all())


def masks(made: MADE) -> list[Tensor]:
    return [made.get_buffer(f"mask{k}") for k in range(len(made.layers))]


def test_the_first_output_depends_on_the_context():
    made = spread(MADE(3, (12, 12), activation="tanh", context_size=2))
    x = randn(1, 3)
    first = torch.func.jacrev(lambda c: made(x, c)[..., 0])(randn(1, 2))
    assert bool((first.abs() > 0).all())


def test_masks_are_not_saved_and_weights_stay_whole():
    made = MADE(4, (8, 8))
    assert set(made.state_dict()) == {
        f"layers.{k}.{n}" for k in range(3) for n in ("weight", "bias")
    }
    before = [linear.weight.clone() for linear in made.linears()]
    made(torch.randn(3, 4)).sum().backward()
    for linear, weight, mask in zip(made.linears(), before, masks(made), strict=True):
        assert torch.equal(linear.weight, weight)
        assert not bool(weight[~mask].eq(0).any())
        assert linear.weight.grad is not None
        assert not bool(linear.weight.grad[~mask].any())
    ordered = MADE(4, (8, 8), order=[2, 0, 3, 1])
    other = MADE(4, (8, 8), order=[0, 1, 2, 3])
    other.load_state_dict(ordered.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(other(x), ordered(x))


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_inputs": 0}, "num_inputs is 0"),
    ({"hidden_widths": ()}, r"hidden_widths \(\)"),
    ({"hidden_widths": (8, 1)}, "at least two units"),
    ({"outputs_per_input": 0}, "outputs_per_input 0"),
    ({"activation": "sine"}, "activation is 'sine'"),
    ({"order": [0, 1, 1]}, "not a permutation"),
    ({"residual": True, "hidden_widths": (8, 9)}, r"\(8, 9\); expected equal ones"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"dropout": -0.1}, "dropout .* -0.1"),
    ({"adjacency": torch.zeros(3, 3)}, "adjacency is torch.float32"),
    ({"adjacency": torch.zeros(2, 3, dtype=torch.bool)}, r"shape \[2, 3\]; .* \[3, 3\]"),
    ({"adjacency": torch.eye(3).bool()}, "has a cycle"),
    ({"adjacency": [[False, True, False], [False] * 3, [False] * 3], "order": [0, 1, 2]},
     "an order and an adjacency"),
    ({"adjacency": [[False, True, False], [False, False, True], [True, False, False]]},
     "has a cycle"),
])  # fmt: skip
def test_bad_networks(changes, message):
    with pytest.raises(ValueError, match=f"MADE: .*{message}"):
        MADE(**{"num_inputs": 3, "hidden_widths": (8, 8), **changes})


def test_bad_inputs():
    made = MADE(3, (8,), context_size=2)
    with pytest.raises(ValueError, match=r"inputs have shape \[5, 4\]"):
        made(torch.zeros(5, 4), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="the context is None"):
        made(torch.zeros(5, 3))
    layer = MaskedAutoregressive(3, (8,))
    for direction in (layer, layer.inverse):
        with pytest.raises(ValueError, match=r"MaskedAutoregressive: data have shape \[5, 4\]"):
            direction(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="num_bins is 1"):
        MaskedAutoregressiveSpline(3, (8,), 1)


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize(("features", "widths"), SIZES, ids=str)
@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_log_det_is_that_of_the_jacobian_both_ways(kind, features, widths, context_size):
    layer = spread(kind(features, widths, activation="tanh", context_size=context_size))
    x = randn(3, features)
    context = randn(3, context_size) if context_size else None
    for direction in (layer.forward, layer.inverse):
        log_det = direction(x, context)[1]
        for row in range(3):
            c = None if context is None else context[row : row + 1]
            matrix = torch.autograd.functional.jacobian(
                lambda t, c=c, direction=direction: direction(t[None], c)[0][0], x[row]
            )
            assert bool((matrix.triu(1) == 0).all())
            torch.testing.assert_close(matrix.slogdet()[1], log_det[row])


@pytest.mark.parametrize("order", [None, [2, 5, 0, 1, 4, 3]], ids=str)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "silu", "softplus"])
@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_inverse_undoes_forward(kind, activation, order):
    layer = spread(kind(6, (11, 8), activation=activation, context_size=2, order=order))
    x, context = 3 * randn(50, 6), randn(50, 2)
    with torch.no_grad():
        for first, second in ((layer.forward, layer.inverse), (layer.inverse, layer.forward)):
            z, log_det = first(x, context)
            back, log_det_back = second(z, context)
            torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(log_det_back, -log_det, rtol=1e-9, atol=1e-9)
            with backend("reference"):
                torch.testing.assert_close(first(x, context), (z, log_det))


def test_data_of_any_shape_and_half_types():
    torch.manual_seed(0)
    layer = MaskedAutoregressive(12, (32, 32))
    torch.nn.init.normal_(layer.made.linears()[-1].weight, std=0.1)
    x = torch.randn(5, 3, 2, 2)
    z, log_det = layer(x)
    back = layer.inverse(z)[0]
    assert z.shape == x.shape
    assert log_det.shape == (5,)
    assert back.shape == x.shape
    torch.testing.assert_close(back, x)
    with torch.no_grad():
        assert layer.inverse(x[:0])[0].shape == (0, 3, 2, 2)
        half = layer.half()
        z, log_det = half(x.half())
        assert z.dtype == torch.float16
        assert log_det.dtype == torch.float32
        torch.testing.assert_close(half.inverse(z)[0], x.half(), rtol=0.02, atol=0.02)


def test_start():
    x = randn(7, 4)
    layer = MaskedAutoregressive(4, (8, 8)).double()
    z, log_det = layer(x)
    assert torch.equal(z, x - layer.made(x)[:, 0])  # s = 0
    assert (z != x).all()
    assert not bool(log_det.any())
    y, log_det = InverseAutoregressive(4, (8, 8), gate_bias=40.0, bound=None).double().inverse(x)
    torch.testing.assert_close(y, x)  # m = 0, σ = 1
    torch.testing.assert_close(log_det, torch.zeros(7, dtype=torch.float64))


def test_a_gate_bias_beyond_its_bound_is_named():
    with pytest.raises(ValueError, match=r"gate_bias is 6.0; expected one within the bound of 5.0"):
        InverseAutoregressive(4, (8,), gate_bias=6.0)


def test_gate_on_the_diagonal():
    """∂x_i/∂z_i is σ_i, from the network's own output."""
    layer = spread(InverseAutoregressive(5, (9, 9), activation="tanh"))
    z = randn(1, 5)
    matrix = torch.autograd.functional.jacobian(lambda t: layer.inverse(t[None])[0][0], z[0])
    logits = 5 * torch.tanh(layer.made(z)[0, 1] / 5)
    torch.testing.assert_close(matrix.diagonal(), torch.sigmoid(logits))


def test_log_scales_are_bounded():
    layer = spread(MaskedAutoregressive(5, (9, 9), bound=0.7), scale=100.0)
    x = randn(200, 5)
    log_det = layer(x)[1].detach()
    assert float(log_det.abs().max()) <= 5 * 0.7 * (1 + 1e-12)
    assert float(log_det.abs().max()) > 0.7
    free = spread(MaskedAutoregressive(5, (9, 9), bound=None))
    torch.testing.assert_close(free(x)[1], -free.made(x)[:, 1].sum(1))


@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
@pytest.mark.parametrize(
    ("features", "context_size", "order"), [(4, 2, [2, 0, 3, 1]), (3, 0, None)]
)
def test_gradients_of_the_sequential_direction(kind, features, context_size, order):
    layer = spread(
        kind(features, (7, 6), activation="tanh", context_size=context_size, order=order)
    )
    v = randn(2, features).requires_grad_()
    context = randn(2, context_size).requires_grad_() if context_size else None
    parameters = tuple(layer.parameters())
    operands = (v, *(() if context is None else (context,)), *parameters)

    def solve(v: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return layer.solve(v, context)

    assert torch.autograd.gradcheck(solve, operands)
    assert torch.autograd.gradgradcheck(solve, operands[: len(operands) - len(parameters) + 1])


@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_gradients_through_the_sequential_direction_are_those_of_its_steps(kind):
    """Against autograd through D passes, one coordinate settled in each."""
    layer = spread(kind(6, (12, 12), activation="silu", context_size=2))
    v, context = randn(9, 6).requires_grad_(), randn(9, 2).requires_grad_()
    weight = randn(9, 6, seed=5)

    def by_steps() -> tuple[Tensor, Tensor]:
        u = torch.zeros_like(v)
        for i in range(6):
            raw = layer.made(u, context)
            if kind is SPLINES:
                value = rational_quadratic_spline(v, *raw.split([3, 3, 2], 2), inverse=True)[0]
            elif kind is MaskedAutoregressive:
                m, s = raw.unbind(1)
                value = v * torch.exp(2 * torch.tanh(s / 2)) + m
            else:
                m, s = raw.unbind(1)
                value = m + (v - m) / torch.sigmoid(5 * torch.tanh(s / 5))
            u = torch.cat([u[:, :i], value[:, i : i + 1], u[:, i + 1 :]], 1)
        return u, -layer.evaluate(u, context)[1]

    leaves = [v, context, *layer.parameters()]
    grads = []
    for u, log_det in (layer.solve(v, context), by_steps()):
        loss = (weight * u).sum() + log_det.square().sum()
        grads.append(torch.autograd.grad(loss, leaves, retain_graph=True))
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_frozen_parameters_and_a_frozen_context_get_no_gradient():
    layer = spread(MaskedAutoregressive(3, (8,), context_size=2))
    layer.made.linears()[0].weight.requires_grad_(False)
    z = randn(4, 3).requires_grad_()
    x, log_det = layer.inverse(z, randn(4, 2))
    (x.sum() + log_det.sum()).backward()
    frozen, *others = [p.grad for p in layer.made.linears()[0].parameters()]
    assert frozen is None
    assert z.grad is not None
    assert all(g is not None for g in others)


@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_rewinding_gives_the_gradients_of_the_forward_map(kind):
    layer = spread(kind(4, (9, 9), activation="tanh", context_size=2))
    x, context = randn(5, 4).requires_grad_(), randn(5, 2).requires_grad_()
    grad_z, grad_log_det = randn(5, 4, seed=1), randn(5, seed=2)
    z, log_det = layer(x, context)
    leaves = [x, context, *layer.parameters()]
    expected = torch.autograd.grad([z, log_det], leaves, [grad_z, grad_log_det])
    rewound = layer.rewind(z.detach(), context, grad_z, grad_log_det)
    torch.testing.assert_close(rewound.x, x.detach())
    ours = [rewound.grad_x, rewound.grad_context, *rewound.grad_parameters.values()]
    for grad, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(grad, other)


def test_a_spline_layer_starts_as_the_identity_and_is_one_outside_its_interval():
    layer = MaskedAutoregressiveSpline(4, (8, 8), tail_bound=2.0).double()
    x = 2 * randn(30, 4)
    z, log_det = layer(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(30, dtype=torch.float64), atol=1e-9, rtol=0)
    far = x.sign() * (2.01 + x.abs())
    z, log_det = spread(layer)(far)
    assert torch.equal(z, far)
    assert not bool(log_det.any())


def test_a_spline_layer_in_float32_undoes_itself():
    torch.manual_seed(0)
    layer = MaskedAutoregressiveSpline(16, (32, 32), context_size=2)
    redraw(layer, 0.3, seed=1)
    x, context = torch.randn(500, 16), torch.randn(500, 2)
    with torch.no_grad():
        z, log_det = layer(x, context)
        back, log_det_back = layer.inverse(z, context)
    assert (back - x).abs().max() < 2e-3
    torch.testing.assert_close(log_det_back, -log_det, atol=2e-2, rtol=0)


GRAPHS = {
    "chain": [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    "fork against the order": [[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    "independent": [[0] * 4] * 4,
    "diamond": [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
}
DEPTHS = {"chain": 4, "fork against the order": 2, "independent": 1, "diamond": 3}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("graph", GRAPHS)
def test_outputs_depend_on_what_the_adjacency_names_and_on_nothing_else(
    graph, context_size, residual
):
    adjacency = torch.tensor(GRAPHS[graph]).bool()
    made = spread(
        MADE(4, (12, 12), 3, activation="elu", context_size=context_size, adjacency=adjacency,
             residual=residual)
    )  # fmt: skip
    x, context = randn(8, 4), randn(8, context_size) if context_size else None
    dependence = jacobian(made, x, context)
    assert torch.equal(dependence > 0, adjacency.expand(3, 4, 4))
    assert made.depth == DEPTHS[graph]
    if context_size:
        by_context = torch.func.jacrev(lambda c: made(x, c))(context).abs().sum((0, 3, 4))
        assert bool((by_context > 0).all())


def test_units_of_narrow_layers_of_a_graph_have_inputs():
    """Four inputs depend on one other each: a layer of two units knows two of those."""
    adjacency = torch.zeros(8, 8, dtype=torch.bool)
    adjacency[range(4, 8), range(4)] = True
    made = MADE(8, (2, 4, 3), adjacency=adjacency)
    for mask in masks(made)[:-1]:
        assert bool(mask.any(1).all())
    for layer, mask in enumerate(masks(made)[1:], 1):
        assert bool(mask.any()), layer


def test_an_adjacency_that_is_an_order_is_that_order():
    order = [2, 0, 3, 1]
    position = torch.tensor(order).argsort()
    adjacency = position[None, :] < position[:, None]
    for context_size in (0, 1):
        options = {"context_size": context_size, "activation": "tanh"}
        ordered = MADE(4, (9, 2, 5), order=order, **options).double()
        graph = MADE(4, (9, 2, 5), adjacency=adjacency, **options).double()
        assert graph.order.tolist() == order
        graph.load_state_dict({k: v for k, v in ordered.state_dict().items() if "order" not in k})
        x, context = randn(6, 4), randn(6, context_size) if context_size else None
        assert torch.equal(graph(x, context), ordered(x, context))


def test_a_residual_network_worked_out_by_hand():
    made = MADE(2, (3, 3), 1, activation="tanh", residual=True).double()
    redraw(made, 1.0, seed=0)
    x = randn(5, 2)
    first, inner, outer, last = made.linears()
    h = x[:, :1] * first.weight[:, 0] + first.bias  # every unit sees the first input
    h = h + torch.tanh(torch.tanh(h) @ inner.weight.T + inner.bias) @ outer.weight.T + outer.bias
    y = torch.tanh(h) @ last.weight[1] + last.bias[1]
    torch.testing.assert_close(made(x)[:, 0], torch.stack([last.bias[0].expand(5), y], 1))


def test_outputs_of_an_input_are_neighbours_if_asked_for():
    apart = spread(MADE(3, (8,), 4, order=[2, 0, 1]))
    joint = MADE(3, (8,), 4, order=[2, 0, 1], features_first=True).double()
    state = apart.state_dict()
    for name in ("layers.1.weight", "layers.1.bias"):
        state[name] = state[name].unflatten(0, (4, 3)).transpose(0, 1).flatten(0, 1)
    joint.load_state_dict(state)
    x = randn(6, 3)
    assert joint(x).shape == (6, 3, 4)
    torch.testing.assert_close(joint(x), apart(x).transpose(1, 2))


OPTIONS = {
    "activation": {"activation": "gelu"},
    "residual": {"residual": True, "activation": "silu"},
    "deep": {"hidden_widths": (9,) * 6, "activation": "tanh"},
    "graph": {"adjacency": GRAPHS["diamond"], "activation": "tanh"},
    "residual graph": {
        "adjacency": GRAPHS["fork against the order"], "residual": True, "activation": "elu"},
}  # fmt: skip


def with_options(kind, name: str, widths: tuple[int, ...] = (9, 9)) -> torch.nn.Module:
    options = {"hidden_widths": widths, "context_size": 2, **OPTIONS[name]}
    if "adjacency" in options:
        options["adjacency"] = torch.tensor(options["adjacency"]).bool()
    return spread(kind(4, **options))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_layers_of_any_network_invert_with_exact_jacobians(kind, name):
    layer = with_options(kind, name)
    assert (layer.made.fused_activation is None) == (name != "graph")
    context = randn(3, 2, seed=1)
    check_transform(layer, randn(3, 4), context)
    with torch.no_grad():  # gradients wanted, the log-determinant is that of the other direction
        v, log_det = layer.evaluate(randn(3, 4), context)
        torch.testing.assert_close(layer.solve(v, context), (randn(3, 4), -log_det))


@pytest.mark.parametrize("name", ["residual", "graph", "residual graph"])
@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_gradients_of_the_sequential_direction_of_any_network(kind, name):
    layer = with_options(kind, name, (4, 4))
    v, context = randn(2, 4).requires_grad_(), randn(2, 2, seed=1).requires_grad_()
    leaves = (v, context, *layer.parameters())
    assert torch.autograd.gradcheck(lambda v, c, *_: layer.solve(v, c), leaves)


def test_passes_are_as_many_as_the_longest_path(monkeypatch):
    layer, calls = with_options(MaskedAutoregressive, "residual graph"), []
    forward = layer.made.forward
    monkeypatch.setattr(layer.made, "forward", lambda *a, **k: calls.append(0) or forward(*a, **k))
    with torch.no_grad():
        layer.inverse(randn(3, 4), randn(3, 2))
    assert len(calls) == 2


def test_what_a_pass_has_found_stays_though_a_later_one_overflows():
    layer = MaskedAutoregressive(3, (4, 4), residual=True, bound=None, activation="tanh").double()
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.made.linears()[-1].bias[3 + 1] = 1000.0  # s of the second coordinate
        x = layer.inverse(torch.ones(1, 3, dtype=torch.float64))[0]
    assert x[0, :2].tolist() == [1.0, float("inf")]


@pytest.mark.parametrize("kind", LAYERS, ids=IDS)
def test_dropout_is_in_the_direction_of_one_pass_in_training(kind):
    torch.manual_seed(0)
    layer = spread(kind(4, (30, 30), dropout=0.5, activation="tanh"))
    x = randn(5, 4)
    first, second = layer.evaluate(x)[0], layer.evaluate(x)[0]
    assert not torch.equal(first, second)
    solved = layer.solve(x)
    grads = torch.autograd.grad(solved[0].square().sum(), list(layer.parameters()))
    layer.eval()
    expected = layer.solve(x)
    torch.testing.assert_close(solved, expected)
    torch.testing.assert_close(
        grads, torch.autograd.grad(expected[0].square().sum(), list(layer.parameters()))
    )
    v, log_det = layer.evaluate(solved[0])
    torch.testing.assert_close(v, x)
    torch.testing.assert_close(log_det, -solved[1])


def test_dropout_keeps_the_mean_of_hidden_units():
    """Of a network whose last layer is all that follows: over masks, the mean output is that
    without dropout."""
    torch.manual_seed(0)
    made = spread(MADE(3, (20,), 1, dropout=0.25, activation="tanh"))
    x = randn(1, 3)
    draws = made(x.expand(20_000, 3))[:, 0]
    expected = made(x, dropout=False)[0, 0]
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - expected).abs() <= 4 * error + 1e-12).all())
    assert bool(error[1:].min() > 0)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MaskedAutoregressive, {"bound": 0.7}),
        (InverseAutoregressive, {"bound": 0.7, "gate_bias": 0.1}),
        (MaskedAutoregressiveSpline, {"bound": 0.5, "tail_bound": 1.5, "num_bins": 4}),
    ],
)
def test_settings_reach_both_directions(kind, settings, residual):
    layer, x = spread(kind(4, (9, 9), residual=residual, **settings)), 2 * randn(40, 4)
    with torch.no_grad():
        v, log_det = layer.evaluate(x)
        torch.testing.assert_close(layer.solve(v), (x, -log_det))
