"""masked_conv2d: the shared operator tests, the Jacobian pair by pair, dead taps, layouts."""

import itertools

import pytest
import torch
from testing.op_tester import OpTester, channels_last, expanded, offset, strided, transposed
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional

from gencore.nn import MaskedConv2d
from gencore.ops import backend, masked_conv2d

VARIANTS = {
    "A": {"mask": "A"},
    "B": {"mask": "B"},
    "A, groups": {"mask": "A", "channel_groups": 3},
    "B, groups, dilated": {"mask": "B", "channel_groups": 3, "dilation": 2},
}


def data(*shape, dtype=torch.float64, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


class TestMaskedConv2d(OpTester):
    function = staticmethod(masked_conv2d)
    overload = torch.ops.gencore.masked_conv2d.default
    differentiable = ("x", "weight", "bias")
    variants = VARIANTS
    traced = ("A", "B, groups, dilated")
    needs_chains = True
    # The bias's is a sum of 40,002 terms, which the reference adds up in float32, in torch's order.
    gradient_tolerance = {"rtol": 2e-5, "atol": 4e-6}  # noqa: RUF012

    def tensors(self, variant, shape, dtype, device):
        images, *rest = shape
        if len(rest) == 3:
            rest = rest[1:]
        height, width = (*(1,) * (2 - len(rest)), *rest)
        # Such that the weight's gradient is of order one.
        x = data(images, 3, height, width) / max(images * height * width, 1) ** 0.5
        tensors = {"x": x, "weight": data(6, 3, 3, 3), "bias": data(6)}
        return {name: t.to(device, dtype) for name, t in tensors.items()}

    def overload_arguments(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 4, 5), torch.float64, device).values()
        numbers = self.variants[variant]
        settings = numbers.get("channel_groups", 1), numbers.get("dilation", 1)
        return *(t.requires_grad_() for t in tensors), numbers["mask"] == "B", *settings

    def test_backward_opcheck(self, variant, device):
        x, weight, _, *settings = self.overload_arguments(variant, device)
        if variant == "B":
            x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        out = torch.randn(2, 6, 4, 5, dtype=x.dtype, device=device, requires_grad=True)
        overload = torch.ops.gencore.masked_conv2d_backward.default
        for needs in ((True, True, True), (True, False, False), (False, True, False)):
            utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
            torch.library.opcheck(overload, (out, x, weight, *settings, *needs), test_utils=utils)

    def test_derivatives_of_images(self, variant, device):
        function, leaves = self.leaves(variant, (1, 3, 3, 3), device)
        assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, leaves)

    # The tester expands matrices, and images have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 3, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        assert torch.equal(self.call(variant, views), self.call(variant, copies))

    # A convolution, which autocast lowers.
    def test_autocast_leaves_the_dtype_alone(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 5, 4), torch.float32, device)
        expected = self.call(variant, tensors)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            first = self.call(variant, tensors)
            second = self.call(variant, {**tensors, "x": tensors["x"].bfloat16()})
        assert first.dtype == second.dtype == torch.bfloat16
        torch.testing.assert_close(first.float(), expected, rtol=0.03, atol=0.03)
        assert torch.equal(first, second)

    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (9, 3, 40, 50), torch.float32, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 1):
                torch.set_num_threads(threads)
                y = self.call(variant, tensors)
                results.append(torch.autograd.grad(y, leaves, torch.ones_like(y) / 3))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def group(channel, channels, groups):
    return channel * groups // channels


def is_seen(output_pixel, output_group, input_pixel, input_group, mask):
    """Whether the model may let an output depend on an input."""
    if input_pixel != output_pixel:
        return input_pixel < output_pixel  # row, column: raster order
    return input_group < output_group if mask == "A" else input_group <= output_group


def masked(weight, mask, groups):
    """The weight with its forbidden elements set to zero, one by one."""
    outputs, inputs, side, _ = weight.shape
    weight = weight.clone()
    centre = (side // 2, side // 2)
    for o, i, row, column in itertools.product(*map(range, weight.shape)):
        groups_of = group(o, outputs, groups), group(i, inputs, groups)
        if not is_seen(centre, groups_of[0], (row, column), groups_of[1], mask):
            weight[o, i, row, column] = 0.0
    return weight


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("mask", ["A", "B"])
def test_an_output_depends_on_exactly_what_it_may_see(mask, groups, dilation, name, device):
    inputs, outputs, height, width, side = 3, 6, 5, 4, 3
    x = data(1, inputs, height, width, device=device)
    weight = data(outputs, inputs, side, side, device=device)
    with backend(name):
        jacobian = torch.autograd.functional.jacobian(
            lambda x: masked_conv2d(x, weight, mask=mask, channel_groups=groups, dilation=dilation),
            x,
        )[0, :, :, :, 0]
    pixels = list(itertools.product(range(height), range(width)))
    for o, p, i, q in itertools.product(range(outputs), pixels, range(inputs), pixels):
        steps = [abs(a - b) for a, b in zip(p, q, strict=True)]
        is_tap = all(s % dilation == 0 and s // dilation <= side // 2 for s in steps)
        groups_of = group(o, outputs, groups), group(i, inputs, groups)
        permitted = is_tap and is_seen(p, groups_of[0], q, groups_of[1], mask)
        assert bool(jacobian[(o, *p, i, *q)] != 0) == permitted


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("mask", ["A", "B"])
def test_dead_taps_have_a_gradient_of_exactly_zero(mask, groups, side, device):
    x = data(4, 6, 9, 9, dtype=torch.float32, device=device)
    weight = data(33, 6, side, side, dtype=torch.float32, device=device).requires_grad_()
    before = weight.detach().clone()
    y = masked_conv2d(x, weight, mask=mask, channel_groups=groups)
    (found,) = torch.autograd.grad(y, weight, torch.randn_like(y))
    live = masked(torch.ones_like(before), mask, groups) != 0
    assert torch.equal(found != 0, live)
    assert torch.equal(weight, before)


# Bands of rows, stacks of tiny images, vectors of channels filled and not, several pieces.
SIZES = [
    (1, 3, 6, 300, 9, 7),
    (2, 66, 63, 33, 31, 3),
    (40, 18, 33, 2, 3, 5),
    (3, 48, 15, 1, 1, 3),
    (5, 3, 129, 28, 20, 1),
    (2, 300, 9, 12, 40, 3),
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("images", "inputs", "outputs", "height", "width", "side"), SIZES)
def test_is_a_convolution_with_a_masked_weight(
    images, inputs, outputs, height, width, side, dtype, layout, device
):
    x = data(images, inputs, height, width, dtype=dtype, device=device)
    x = x.contiguous(memory_format=layout).requires_grad_()
    weight = data(outputs, inputs, side, side, dtype=dtype, device=device).requires_grad_()
    bias = data(outputs, dtype=dtype, device=device).requires_grad_()
    for mask, groups, dilation in (("A", 1, 1), ("B", 1, 2), ("A", 3, 2), ("B", 3, 1)):
        y = masked_conv2d(x, weight, bias, mask=mask, channel_groups=groups, dilation=dilation)
        live = masked(torch.ones_like(weight), mask, groups)
        expected = functional.conv2d(
            x, weight * live, bias, padding=side // 2 * dilation, dilation=dilation
        )
        weights = data(*y.shape, dtype=dtype, device=device)
        ours = y, *torch.autograd.grad(y, (x, weight, bias), weights)
        theirs = expected, *torch.autograd.grad(expected, (x, weight, bias), weights)
        for a, b in zip(ours, theirs, strict=True):
            # Sums of some thousand terms of order one.
            tolerance = 1e-11 if dtype == torch.float64 else 2e-3
            torch.testing.assert_close(a, b, rtol=tolerance / 10, atol=tolerance)


def test_counts_the_neighbours_before_each_pixel(device):
    x, weight = torch.ones(1, 1, 3, 4, device=device), torch.ones(1, 1, 3, 3, device=device)
    y = masked_conv2d(x, weight, mask="A")
    assert y[0, 0].tolist() == [[0, 1, 1, 1], [2, 4, 4, 3], [2, 4, 4, 3]]
    y = masked_conv2d(x, weight, torch.full((1,), 0.5, device=device), mask="B", dilation=2)
    assert y[0, 0].tolist() == [[1.5, 1.5, 2.5, 2.5], [1.5, 1.5, 2.5, 2.5], [3.5, 3.5, 4.5, 4.5]]


def test_the_colours_of_a_pixel_follow_one_another(device):
    x = torch.tensor([1.0, 10.0, 100.0], device=device).view(1, 3, 1, 1)
    weight = torch.ones(6, 3, 3, 3, device=device)
    first = masked_conv2d(x, weight, mask="A", channel_groups=3)
    second = masked_conv2d(x, weight, mask="B", channel_groups=3)
    assert first.flatten().tolist() == [0, 0, 1, 1, 11, 11]
    assert second.flatten().tolist() == [1, 1, 11, 11, 111, 111]


@pytest.mark.parametrize(
    "layout", [transposed, strided, offset, channels_last, expanded], ids=lambda f: f.__name__
)
def test_gradients_of_any_layout(layout, device):
    x, weight = data(4, 6, 5, 7, device=device), data(9, 6, 3, 3, device=device)
    weights = data(4, 9, 5, 7, device=device)
    results = []
    for lay_out in (layout, lambda t: layout(t).contiguous()):
        leaves = [lay_out(t).detach().requires_grad_() for t in (x, weight)]
        y = masked_conv2d(*leaves, mask="B", channel_groups=3)
        results.append((y, *torch.autograd.grad(y, leaves, lay_out(weights))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_result_is_channels_last_where_the_images_are(device):
    x = data(2, 3, 4, 5, device=device).contiguous(memory_format=torch.channels_last)
    weight = data(6, 3, 3, 3, device=device)
    y = masked_conv2d(x, weight, mask="A")
    assert y.is_contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(masked_conv2d, fullgraph=True, backend="aot_eager")
    assert compiled(x, weight, mask="A").stride() == y.stride()
    assert torch.equal(compiled(x, weight, mask="A"), y)


def test_compiles_once_for_sizes_that_change(device):
    layer = MaskedConv2d(3, 6, 3, mask="B", channel_groups=3).to(device)
    counter = CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for images, height, width in ((2, 4, 5), (3, 6, 7), (4, 9, 8)):
        x = data(images, 3, height, width, dtype=torch.float32, device=device)
        ours, expected = (
            torch.autograd.grad(f(x).square().sum(), list(layer.parameters()))
            for f in (compiled, layer)
        )
        torch.testing.assert_close(ours, expected)
    assert counter.frame_count == 1


def test_gradients_of_some_tensors_alone(device):
    tensors = [data(3, 6, 4, 4, device=device), data(6, 6, 3, 3, device=device), data(6)]
    tensors[2] = tensors[2].to(device)
    weights = data(3, 6, 4, 4, device=device, seed=1)
    leaves = [t.requires_grad_() for t in tensors]
    expected = torch.autograd.grad(masked_conv2d(*leaves, mask="A"), leaves, weights)
    for k in range(3):
        chosen = [t.detach().requires_grad_(i == k) for i, t in enumerate(tensors)]
        (ours,) = torch.autograd.grad(masked_conv2d(*chosen, mask="A"), chosen[k], weights)
        assert torch.equal(ours, expected[k])


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("shape", [(2, 3, 0, 4), (0, 3, 5, 4), (2, 3, 0, 0)])
def test_no_pixels_have_a_graph(shape, name, device):
    x = torch.zeros(shape, requires_grad=True, device=device)
    weight, bias = data(6, 3, 3, 3).float().to(device), torch.ones(6, device=device)
    leaves = x, weight.requires_grad_(), bias.requires_grad_()
    with backend(name):
        y = masked_conv2d(*leaves, mask="B", channel_groups=3)
        grads = torch.autograd.grad(y.sum(), leaves)
    assert y.shape == (shape[0], 6, *shape[2:])
    assert not any(g.any() for g in grads)


def test_taps_that_reach_far_beyond_the_image(device):
    x = data(2, 2, 5, 5, device=device).requires_grad_()
    weight = data(2, 2, 3, 3, device=device).requires_grad_()
    y = masked_conv2d(x, weight, mask="B", dilation=1000)
    expected = functional.conv2d(x, weight[:, :, 1:2, 1:2])  # all others see zeros
    torch.testing.assert_close(y, expected)
    (ours,) = torch.autograd.grad(y.sum(), weight)
    assert not ours.view(2, 2, 9)[:, :, [0, 1, 2, 3, 5, 6, 7, 8]].any()


def test_transforms_of_torch_func(device):
    layer = MaskedConv2d(3, 6, 3, mask="B", channel_groups=3).to(device)
    x = data(4, 3, 5, 5, dtype=torch.float32, device=device)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    y = functional_call(layer, parameters, (x,))
    torch.testing.assert_close(y, layer(x))

    def loss(parameters, image):
        return functional_call(layer, parameters, (image[None],)).square().sum()

    each = vmap(grad(loss), (None, 0))(parameters, x)
    expected = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
    torch.testing.assert_close(each["weight"].sum(0), expected, rtol=1e-4, atol=1e-4)
    stacked = torch.stack([parameters["weight"], -parameters["weight"]])
    results = vmap(lambda w: masked_conv2d(x, w, mask="B", channel_groups=3))(stacked)
    torch.testing.assert_close(results[0], -results[1])
    assert jacrev(lambda x: masked_conv2d(x, stacked[0], mask="A"))(x).shape == (*y.shape, *x.shape)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(3, 5, 5)}, ValueError, r"x has shape \[3, 5, 5\]"),
        ({"x": torch.zeros(1, 3, 5, 5, dtype=torch.int64)}, TypeError, "x is torch.int64"),
        ({"x": [0.0]}, TypeError, "x must be a tensor, got list"),
        ({"weight": torch.zeros(6, 2, 3, 3)}, ValueError, r"weight has shape .* I = 3"),
        ({"weight": torch.zeros(6, 3, 2, 2)}, ValueError, "odd k"),
        ({"weight": torch.zeros(6, 3, 3, 5)}, ValueError, "odd k"),
        ({"weight": torch.zeros(6, 3, 3)}, ValueError, "odd k"),
        ({"weight": torch.zeros(0, 3, 3, 3)}, ValueError, r"weight has shape \[0, 3, 3, 3\]"),
        ({"weight": torch.zeros(6, 3, 3, 3).double()}, TypeError, "weight is torch.float64"),
        ({"weight": 1.0}, TypeError, "weight must be a tensor, got float"),
        ({"bias": 1.0}, TypeError, "bias must be a tensor, got float"),
        ({"bias": torch.zeros(5)}, ValueError, r"bias has shape \[5\], expected \[6\]"),
        ({"bias": torch.zeros(6, device="meta")}, ValueError, "bias is on meta"),
        ({"mask": "C"}, ValueError, "mask is 'C'"),
        ({"channel_groups": 2}, ValueError, "channel_groups is 2, expected .* divides the 3 input"),
        ({"channel_groups": 0}, ValueError, "channel_groups is 0"),
        ({"channel_groups": 1.0}, TypeError, "channel_groups must be an integer"),
        ({"dilation": 0}, ValueError, "dilation is 0"),
        ({"dilation": -1}, ValueError, "dilation must not be negative"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"x": torch.zeros(1, 3, 5, 5), "weight": torch.zeros(6, 3, 3, 3), "mask": "A"}
    with pytest.raises(error, match=f"^masked_conv2d: .*{message}"):
        masked_conv2d(**{**arguments, **change})


@pytest.mark.parametrize(("mask", "live"), [("A", [24, 25, 26]), ("B", [25, 26, 27])])
def test_parameters_start_between_the_bounds_of_their_live_taps(mask, live):
    torch.manual_seed(0)
    width = 3000
    layer = MaskedConv2d(3, 3 * width, 5, mask=mask, channel_groups=3)
    # One input channel a group; 12 taps before the centre are live in all three.
    counts = (masked(torch.ones(3, 3, 5, 5), mask, 3) != 0).sum((1, 2, 3))
    assert counts.tolist() == [count + 12 for count in live]
    for k, count in enumerate(counts.tolist()):
        weight = layer.weight.detach()[k * width : (k + 1) * width].flatten()
        bias = layer.bias.detach()[k * width : (k + 1) * width]
        bound = count**-0.5
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.999 * bound
        # Uniform draws: the mean of |u| is a half, with a standard deviation of 1/sqrt(12).
        drawn = weight[weight != 0].abs() / bound
        assert drawn.numel() == count * width
        assert abs(drawn.mean() - 0.5) < 5 * (12 * drawn.numel()) ** -0.5
        assert abs(bias.abs().mean() / bound - 0.5) < 5 * (12 * width) ** -0.5
        assert bias.abs().max() <= bound


def test_an_output_that_sees_nothing_is_its_bias():
    layer = MaskedConv2d(2, 4, 1, mask="A", channel_groups=2)
    assert not layer.weight[:2].any()
    assert layer.weight[2:, 0].all()
    assert not layer.bias[:2].any()
    layer.bias.data.fill_(0.25)
    assert (layer(data(1, 2, 3, 3).float())[:, :2] == 0.25).all()
    alone = MaskedConv2d(2, 4, 1, mask="A")
    assert not alone(data(1, 2, 3, 3).float()).any()


def test_layers_keep_the_order_of_pixels_and_colours():
    torch.manual_seed(0)
    network = nn.Sequential(
        MaskedConv2d(3, 12, 5, mask="A", channel_groups=3),
        nn.Tanh(),
        MaskedConv2d(12, 12, 3, mask="B", channel_groups=3, dilation=2),
        nn.Tanh(),
        MaskedConv2d(12, 3, 1, mask="B", channel_groups=3, bias=False),
    ).double()
    x = data(1, 3, 4, 4)
    jacobian = torch.autograd.functional.jacobian(network, x)[0, :, :, :, 0]
    # [outputs, inputs], in raster order and red, green, blue at each pixel.
    ordered = jacobian.permute(1, 2, 0, 4, 5, 3).reshape(48, 48)
    assert not ordered.triu().any()
    follows = torch.arange(1, 48) % 12 != 0  # the one before is near, in the same row
    assert torch.equal(ordered.diagonal(-1) != 0, follows)


def test_the_module_is_the_operator(device):
    layer = MaskedConv2d(6, 9, 3, mask="B", channel_groups=3, dilation=2).to(device)
    x = data(2, 6, 5, 5, dtype=torch.float32, device=device)
    y = masked_conv2d(x, layer.weight, layer.bias, mask="B", channel_groups=3, dilation=2)
    assert torch.equal(layer(x), y)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert MaskedConv2d(3, 3, 3, mask="A", bias=False).bias is None
    assert "mask='B', channel_groups=3, dilation=2" in repr(layer)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (6, 9, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 4}, "channel_groups is 3, expected a divisor of in_channels, 4"),
        ({"out_channels": 4}, "channel_groups is 3, expected a divisor"),
        ({"kernel_size": 4}, "kernel_size is 4, expected a positive odd number"),
        ({"mask": "a"}, "mask is 'a'"),
        ({"dilation": 0}, "dilation 0; expected positive numbers"),
    ],
)
def test_bad_sizes_of_the_module(change, message):
    sizes = {"in_channels": 3, "out_channels": 6, "kernel_size": 3, "mask": "A"}
    with pytest.raises(ValueError, match=f"^MaskedConv2d: .*{message}"):
        MaskedConv2d(**{**sizes, "channel_groups": 3, **change})
