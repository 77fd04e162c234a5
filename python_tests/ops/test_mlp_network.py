"""Small fully connected networks, a few rows at a time."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from gencore.nn import MLP
from gencore.ops import backend, mlp_network

ROWS = 1024  # from which the kernel is used
# Around the vectors and the blocks of units.
NETWORKS = ((1, 1), (3, 20, 2), (5, 7, 9, 4), (2, 33, 64, 48, 17), (16, 128, 128, 50))


def network(widths: tuple[int, ...], dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(sum(widths))
    weights = [
        torch.randn(o, i, generator=generator, dtype=torch.float64) / i**0.5
        for i, o in pairwise(widths)
    ]
    biases = [0.3 * torch.randn(o, generator=generator, dtype=torch.float64) for o in widths[1:]]
    return [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]


def data(rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(rows + width)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("widths", "activation"),
    [
        *((widths, "silu") for widths in NETWORKS),
        *((NETWORKS[2], name) for name in ("relu", "leaky_relu", "softplus", "tanh")),
    ],
    ids=str,
)
def test_matches_the_reference_with_its_gradients(widths, activation, dtype, device):
    for rows in (0, 3, ROWS, ROWS + 77):
        results = []
        for name in ("native", "reference"):
            weights, biases = network(widths, dtype)
            x = data(rows, widths[0], dtype)
            leaves = [t.to(device).requires_grad_() for t in (x, *weights, *biases)]
            with backend(name):
                y = mlp_network(
                    leaves[0], leaves[1 : len(widths)], leaves[len(widths) :],
                    activation=activation, negative_slope=0.3,
                )  # fmt: skip
                grad = data(*y.shape, dtype).to(device)
                results.append((y, *torch.autograd.grad(y, leaves, grad)))
        # Rounding of a sum over rows, or over units, of terms of up to about ten.
        atol = 10 * max(rows, *widths) * torch.finfo(dtype).eps
        for ours, reference in zip(*results, strict=True):
            torch.testing.assert_close(ours, reference, rtol=0, atol=atol)


def test_a_hidden_unit_by_hand(device):
    x = torch.linspace(-2, 2, ROWS, dtype=torch.float64, device=device)[:, None]
    weights = [torch.tensor([[1.0], [-1.0]], dtype=torch.float64, device=device)]
    weights.append(torch.ones(1, 2, dtype=torch.float64, device=device))
    biases = [torch.zeros(o, dtype=torch.float64, device=device) for o in (2, 1)]
    torch.testing.assert_close(mlp_network(x, weights, biases), x.abs())  # relu(x) + relu(-x)


def test_a_row_is_computed_by_itself(device):
    weights, biases = ([t.to(device) for t in ts] for ts in network((6, 32, 12), torch.float32))
    x = data(2 * ROWS + 5, 6, torch.float32).to(device)
    together = mlp_network(x, weights, biases)
    for part in (slice(ROWS - 3, None), slice(7, 9)):
        torch.testing.assert_close(mlp_network(x[part], weights, biases), together[part])


def test_half_of_the_columns_are_read_where_they_lie(device):
    weights, biases = ([t.to(device) for t in ts] for ts in network((3, 8, 4)))
    x = data(ROWS, 7).to(device)
    for part in (slice(0, 3), slice(2, 5), slice(4, 7), slice(0, 6, 2)):
        columns = x[:, part]
        torch.testing.assert_close(
            mlp_network(columns, weights, biases), mlp_network(columns.clone(), weights, biases)
        )


def test_gradcheck_to_second_order(device):
    weights, biases = network((1, 2, 1))
    x = data(1, 1)
    tensors = [t.to(device).requires_grad_() for t in (x, *weights, *biases)]

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        # A row a thousand times is one that the kernel takes.
        y = mlp_network(x.expand(ROWS, -1), rest[:2], rest[2:], activation="silu")
        return y[:1] + y[-1:]

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


def test_is_deterministic_for_any_number_of_threads():
    weights, biases = network((4, 64, 8), torch.float32)
    tensors = [t.requires_grad_() for t in (data(3 * ROWS, 4, torch.float32), *weights, *biases)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            y = mlp_network(tensors[0], weights, biases)
            results.append((y, *torch.autograd.grad(y.square().sum(), tensors)))
    finally:
        torch.set_num_threads(before)
    for first, *others in zip(*results, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_autocast_lowers_the_precision_as_for_every_linear_layer(device):
    weights, biases = ([t.to(device) for t in ts] for ts in network((3, 8, 4), torch.float32))
    x = data(ROWS, 3, torch.float32).to(device)
    exact = mlp_network(x, weights, biases)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = mlp_network(x, weights, biases)
        assert mlp_network(x.bfloat16(), weights, biases).dtype == y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("widths", [(3, 300, 2), (3, 8, 8, 8, 8, 2)], ids=["wide", "deep"])
def test_other_networks_are_torchs_own(widths, device):
    weights, biases = ([t.to(device) for t in ts] for ts in network(widths))
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        linear = nn.Linear(*weight.shape[::-1], dtype=weight.dtype, device=device)
        linear.weight.data, linear.bias.data = weight, bias
        layers += [linear, nn.ReLU()]
    x = data(ROWS, 3).to(device)
    expected = nn.Sequential(*layers[:-1])(x)
    torch.testing.assert_close(mlp_network(x, weights, biases), expected)


@pytest.mark.parametrize("activation", ["elu", "relu", "tanh"])
def test_the_module_computes_what_its_layers_do(activation, device):
    torch.manual_seed(0)
    mlp = MLP(3, [16, 16], 2, activation=activation, zero_last=False).to(device)
    x = torch.randn(ROWS, 3, device=device)
    torch.testing.assert_close(mlp(x), mlp.layers(x), rtol=1e-5, atol=1e-5)


def test_the_module_sees_a_layer_that_was_replaced_or_parametrised(device):
    torch.manual_seed(0)
    mlp = MLP(3, [16], 2, zero_last=False).to(device)
    x = torch.randn(ROWS, 3, device=device)
    torch.nn.utils.parametrizations.weight_norm(mlp.layers[0])
    torch.testing.assert_close(mlp(x), mlp.layers(x))
    mlp.layers[2] = nn.Identity()
    assert mlp(x).shape == (ROWS, 16)
    mlp = MLP(3, [16], 2, zero_last=False).to(device)
    mlp.layers[1] = nn.Dropout(1.0)
    assert torch.equal(mlp(x), mlp.layers[2].bias.expand(ROWS, 2))


def test_compiles_without_graph_breaks(device):
    weights, biases = ([t.to(device) for t in ts] for ts in network((2, 8, 4), torch.float32))
    tensors = [t.requires_grad_() for t in (data(ROWS, 2, torch.float32).to(device), *weights)]

    def loss() -> Tensor:
        return mlp_network(tensors[0], weights, biases).square().sum()

    expected = torch.autograd.grad(loss(), tensors)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for ours, eager in zip(torch.autograd.grad(compiled(), tensors), expected, strict=True):
        torch.testing.assert_close(ours, eager)


def test_bad_input():
    weights, biases = network((3, 8, 4))
    x = data(2, 3)
    with pytest.raises(ValueError, match=r"mlp_network: x has shape \[3\], expected \[N, D\]"):
        mlp_network(x[0], weights, biases)
    with pytest.raises(ValueError, match="mlp_network: got 2 weights and 1 biases"):
        mlp_network(x, weights, biases[:1])
    with pytest.raises(ValueError, match="mlp_network: got no weights"):
        mlp_network(x, [], [])
    with pytest.raises(ValueError, match=r"mlp_network: layer 0 has a weight of shape \[8, 3\]"):
        mlp_network(x[:, :2], weights, biases)
    with pytest.raises(ValueError, match=r"mlp_network: layer 0's weight is torch\.float64"):
        mlp_network(x.float(), weights, biases)
    with pytest.raises(ValueError, match="mlp_network: activation is 'gelu'"):
        mlp_network(x, weights, biases, activation="gelu")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"mlp_network: .* got list"):
        mlp_network([1.0], weights, biases)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["native", "reference"])
def test_a_closed_unit_contributes_nothing(name, device):
    """silu(z) = z / (1 + e^−z) vanishes at the largest negative numbers too."""
    weights, biases = [torch.ones(1, 1), torch.ones(1, 1)], [torch.zeros(1), torch.zeros(1)]
    x = torch.tensor([[-90.0], [-1e30], [-3e38]])
    with backend(name):
        y = mlp_network(x, weights, biases, activation="silu")
    torch.testing.assert_close(y, torch.zeros(3, 1), rtol=0, atol=1e-35)
