"""Small convolutional networks, a whole image at a time."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from testing.op_tester import assert_equal, channels_last, offset, strided, transposed
from testing.torch_version import TORCH
from torch import Tensor
from torch.nn import functional

from gencore.ops import backend, conv_network

ACTIVATIONS = ("relu", "leaky_relu", "silu", "softplus", "tanh")
# Channels, sides of the kernels, height and width: around the vectors and the blocks of pixels.
NETWORKS = (
    ((1, 1), (1,), 1, 1),
    ((2, 3, 1), (3, 3), 1, 5),
    ((5, 7, 9, 4), (3, 1, 3), 5, 7),
    ((3, 20, 17), (5, 3), 3, 2),
    ((16, 33, 8, 16, 50), (1, 3, 7, 1), 4, 4),
    ((6, 32, 32, 12), (3, 1, 3), 16, 16),
)


@pytest.fixture(autouse=True)
def _two_threads():
    """With many threads and few images the operator is torch's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def network(
    channels: tuple[int, ...],
    sides: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    device: Any = "cpu",
) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(sum(channels))
    weights = [
        torch.randn(o, i, k, k, generator=generator, dtype=torch.float64) / (i * k * k) ** 0.5
        for (i, o), k in zip(pairwise(channels), sides, strict=True)
    ]
    biases = [0.3 * torch.randn(o, generator=generator, dtype=torch.float64) for o in channels[1:]]
    return [w.to(device, dtype) for w in weights], [b.to(device, dtype) for b in biases]


def data(*shape: int, dtype: torch.dtype = torch.float64, device: Any = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("channels", "sides", "height", "width"), NETWORKS, ids=str)
@pytest.mark.parametrize("images", [0, 1, 5])
def test_matches_the_reference_with_its_gradients(
    channels, sides, height, width, images, dtype, device
):
    for activation in ACTIVATIONS:
        results = []
        for name in ("native", "reference"):
            weights, biases = network(channels, sides, dtype, device)
            x = data(images, channels[0], height, width, dtype=dtype, device=device)
            term = data(images, channels[1], dtype=dtype, device=device) if images != 1 else None
            leaves = [x, *weights, *biases, *([] if term is None else [term])]
            for leaf in leaves:
                leaf.requires_grad_()
            with backend(name):
                y = conv_network(
                    x, weights, biases, activation=activation, negative_slope=0.3,
                    context_term=term,
                )  # fmt: skip
                grad = data(*y.shape, dtype=dtype, device=device)
                grads = torch.autograd.grad(y, leaves, grad, allow_unused=True)
            results.append((y, *(torch.zeros_like(t) if g is None else g
                                 for g, t in zip(grads, leaves, strict=True))))  # fmt: skip
        # Sums of up to a few thousand products of order one.
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        for ours, reference in zip(*results, strict=True):
            torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)


def test_counts_the_neighbours_of_each_pixel(device):
    ones = torch.ones(1, 1, 3, 3, device=device)
    y = conv_network(torch.ones(1, 1, 3, 4, device=device), [ones], [torch.zeros(1, device=device)])
    expected = [[4.0, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]
    assert y[0, 0].tolist() == expected


def test_is_a_correlation_not_a_convolution(device):
    weight = torch.zeros(1, 1, 3, 3, device=device)
    weight[0, 0, 0, 1] = 1.0  # the pixel above
    x = torch.arange(6.0, device=device).view(1, 1, 3, 2)
    y = conv_network(x, [weight], [torch.ones(1, device=device)])
    assert y[0, 0].tolist() == [[1.0, 1], [1, 2], [3, 4]]


@pytest.mark.parametrize("shift", [(1, 0), (0, -2)], ids=str)
def test_commutes_with_shifts_away_from_the_border(shift, device):
    weights, biases = network((2, 5, 3), (3, 3), device=device)
    small = data(2, 2, 3, 3, device=device)
    room = torch.zeros(2, 2, 11, 11, dtype=torch.float64, device=device)
    room[:, :, 4:7, 4:7] = small
    moved = conv_network(room.roll(shift, (2, 3)), weights, biases)
    inner = (..., slice(3, 8), slice(3, 8))
    torch.testing.assert_close(
        moved[inner], conv_network(room, weights, biases).roll(shift, (2, 3))[inner]
    )


def test_a_pixel_reaches_as_far_as_the_kernels(device):
    weights, biases = network((3, 4, 6), (5, 3), device=device)
    x = data(3, 3, 9, 9, device=device)
    before = conv_network(x, weights, biases)
    x[1, 2, 4, 4] = torch.nan
    after = conv_network(x, weights, biases)
    reached = (after.isnan() | (after != before)).nonzero()
    assert set(reached[:, 0].tolist()) == {1}
    assert set(reached[:, 2].tolist()) == set(reached[:, 3].tolist()) == set(range(1, 8))


def test_an_image_is_computed_by_itself(device):
    weights, biases = network((6, 16, 12), (3, 3), torch.float32, device)
    x, term = data(5, 6, 7, 7, dtype=torch.float32, device=device), None
    for term in (None, data(5, 16, dtype=torch.float32, device=device)):
        together = conv_network(x, weights, biases, context_term=term)
        for k in range(5):
            row = None if term is None else term[k : k + 1]
            alone = conv_network(x[k : k + 1], weights, biases, context_term=row)
            torch.testing.assert_close(alone[0], together[k], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "layout", [transposed, strided, offset, channels_last], ids=lambda f: f.__name__
)
def test_layout_does_not_change_the_result(layout, device):
    weights, biases = network((3, 8, 4), (3, 3), torch.float32, device)
    x = data(2, 3, 5, 7, dtype=torch.float32, device=device)
    expected = conv_network(x, weights, biases)
    result = conv_network(layout(x), [layout(w) for w in weights], biases)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
    assert result.is_contiguous()


def test_some_of_the_channels_are_read_where_they_lie(device):
    weights, biases = network((3, 8, 4), (3, 3), device=device)
    x = data(2, 7, 5, 5, device=device)
    for part in (slice(0, 3), slice(2, 5), slice(4, 7)):
        torch.testing.assert_close(
            conv_network(x[:, part], weights, biases),
            conv_network(x[:, part].clone(), weights, biases),
            rtol=0, atol=1e-13,
        )  # fmt: skip


def leaves(device: Any, context: bool) -> tuple[Any, list[Tensor]]:
    weights, biases = network((2, 3, 2), (3, 1), device=device)
    tensors = [data(3, 2, 3, 2, device=device), *weights, *biases]
    if context:
        tensors.append(data(3, 3, device=device))

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        term = rest[4] if context else None
        return conv_network(x, rest[:2], rest[2:4], activation="silu", context_term=term)

    return function, [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("context", [False, True])
def test_gradcheck_to_second_order(context, device):
    function, tensors = leaves(device, context)
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


def test_gradients_of_some_tensors_alone(device):
    function, tensors = leaves(device, context=True)
    grad = data(3, 2, 3, 2, device=device)
    expected = torch.autograd.grad(function(*tensors), tensors, grad)
    for k in range(len(tensors)):
        chosen = [t.detach().requires_grad_(i == k) for i, t in enumerate(tensors)]
        (ours,) = torch.autograd.grad(function(*chosen), chosen[k], grad)
        torch.testing.assert_close(ours, expected[k])


def test_opcheck():
    weights, biases = network((2, 3, 4), (3, 1), torch.float32)
    pairs = zip(weights, biases, strict=True)
    parameters = torch.cat([t.reshape(-1) for pair in pairs for t in pair]).requires_grad_()
    x, term = (data(*s, dtype=torch.float32).requires_grad_() for s in ((2, 2, 3, 3), (2, 3)))
    settings = ([2, 3, 4], [3, 1], 0, 0.0)
    torch.library.opcheck(torch.ops.gencore.conv_network.default, (x, parameters, term, *settings))
    grad = data(2, 4, 3, 3, dtype=torch.float32).requires_grad_()
    utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if TORCH >= (2, 13):  # torch 2.11's own convolution has no second derivative of symbolic sizes
        utils.append("test_aot_dispatch_dynamic")
    torch.library.opcheck(
        torch.ops.gencore.conv_network_backward.default,
        (grad, x, parameters, term, *settings, True),
        test_utils=utils,
    )


def test_compiles_without_graph_breaks(device):
    weights, biases = network((2, 3, 4), (3, 1), torch.float32, device)
    x = data(2, 2, 3, 3, dtype=torch.float32, device=device)
    tensors = [tensor.requires_grad_() for tensor in (x, *weights, *biases)]

    def loss() -> Tensor:
        return conv_network(x, weights, biases).square().sum()

    expected = torch.autograd.grad(loss(), tensors)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for ours, eager in zip(torch.autograd.grad(compiled(), tensors), expected, strict=True):
        torch.testing.assert_close(ours, eager)


def test_is_deterministic_for_any_number_of_threads():
    weights, biases = network((4, 16, 8), (3, 3), torch.float32)
    x = data(40, 4, 8, 8, dtype=torch.float32)
    tensors = [tensor.requires_grad_() for tensor in (x, *weights, *biases)]
    results = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        y = conv_network(x, weights, biases)
        results.append((y, *torch.autograd.grad(y.square().sum(), tensors)))
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


def test_few_images_for_many_threads_are_torchs_own():
    weights, biases = network((3, 8, 4), (3, 3))
    x = data(1, 3, 5, 5)
    expected = conv_network(x, weights, biases)
    torch.set_num_threads(3)
    torch.testing.assert_close(conv_network(x, weights, biases), expected)


def test_a_wide_network_is_torchs_own(device):
    weights, biases = network((3, 300, 2), (1, 1), device=device)
    x = data(2, 3, 2, 2, device=device)
    hidden = functional.relu(functional.conv2d(x, weights[0], biases[0]))
    expected = functional.conv2d(hidden, weights[1], biases[1])
    torch.testing.assert_close(conv_network(x, weights, biases), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_torchs_own(dtype, device):
    weights, biases = network((3, 8, 4), (3, 3), dtype, device)
    x = data(2, 3, 5, 5, dtype=dtype, device=device)
    y = conv_network(x, weights, biases)
    exact = conv_network(x.double(), [w.double() for w in weights], [b.double() for b in biases])
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact, rtol=0.03, atol=0.03)


def test_autocast_lowers_the_precision_as_for_every_convolution(device):
    weights, biases = network((3, 8, 4), (3, 3), torch.float32, device)
    x = data(2, 3, 5, 5, dtype=torch.float32, device=device)
    term = data(2, 8, dtype=torch.float32, device=device)
    exact = conv_network(x, weights, biases, context_term=term)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = conv_network(x, weights, biases, context_term=term.bfloat16())
        assert functional.conv2d(x, weights[0]).dtype == y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.03, atol=0.03)


def test_bad_input():
    weights, biases = network((3, 8, 4), (3, 3))
    x = data(2, 3, 5, 5)
    with pytest.raises(ValueError, match=r"conv_network: x has shape \[3, 5, 5\]"):
        conv_network(x[0], weights, biases)
    with pytest.raises(ValueError, match=r"conv_network: got 2 weights and 1 biases"):
        conv_network(x, weights, biases[:1])
    with pytest.raises(ValueError, match="got 0 weights and 0 biases"):
        conv_network(x, [], [])
    with pytest.raises(ValueError, match=r"layer 0 has a weight of shape \[8, 3, 3, 3\].* 2, k, k"):
        conv_network(x[:, :2], weights, biases)
    with pytest.raises(ValueError, match="an odd k of at most 7"):
        conv_network(x, [weights[0][..., :2, :2]], biases[:1])
    with pytest.raises(ValueError, match=r"layer 1's weight is torch\.float32"):
        conv_network(x, [weights[0], weights[1].float()], biases)
    with pytest.raises(TypeError, match="a bias must be a tensor, got float"):
        conv_network(x, weights[:1], [0.0])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"x is torch.int64"):
        conv_network(x.long(), weights, biases)
    with pytest.raises(ValueError, match="activation is 'gelu'"):
        conv_network(x, weights, biases, activation="gelu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"context_term is torch.float64 of shape \[2, 4\]"):
        conv_network(x, weights, biases, context_term=data(2, 4))
    with pytest.raises(ValueError, match="negative_slope must be finite"):
        conv_network(x, weights, biases, activation="leaky_relu", negative_slope=float("nan"))


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("shape", [(2, 3, 0, 4), (0, 3, 5, 4), (2, 3, 0, 0)])
def test_images_without_pixels_have_a_graph(shape, name):
    x = torch.zeros(shape, requires_grad=True)
    weights = [torch.ones(4, 3, 3, 3, requires_grad=True), torch.ones(2, 4, 1, 1)]
    with backend(name):
        y = conv_network(x, weights, [torch.zeros(4), torch.zeros(2)])
        grads = torch.autograd.grad(y.sum(), (x, weights[0]))
    assert y.shape == (shape[0], 2, *shape[2:])
    assert not grads[1].any()


@pytest.mark.parametrize("term", [3, "a", [1.0]])
def test_a_context_term_that_is_no_tensor_is_named(term):
    with pytest.raises(TypeError, match=r"^conv_network: context_term must be a tensor"):
        conv_network(
            torch.zeros(1, 1, 2, 2), [torch.zeros(1, 1, 1, 1)], [torch.zeros(1)], context_term=term
        )


def test_the_meta_device_has_no_autocast():
    layer = [torch.zeros(3, 1, 1, 1, device="meta")], [torch.zeros(3, device="meta")]
    y = conv_network(torch.zeros(2, 1, 5, 5, device="meta"), *layer)
    assert y.shape == (2, 3, 5, 5)
