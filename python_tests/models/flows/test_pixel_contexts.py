"""Contexts a pixel of flows on images, and contexts a layer: who sees what."""

import pytest
import torch
from testing.flow_testing import check_transform, randn, randomize, ready, redraw
from torch import Tensor, nn

from gencore.models import CouplingFlow, Flow, Glow, RealNVP
from gencore.nn import (
    MLP,
    AffineCoupling,
    Compose,
    ConvConditioner,
    EmbeddedContext,
    Inverse,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    ResidualConditioner,
    Reversible,
    Squeeze,
    Transform,
)
from gencore.ops import squeeze2d

SHAPE, CONTEXT = (1, 4, 8), (2, 4, 8)

FLOWS = {
    "Glow": lambda **options: Glow(SHAPE, num_levels=2, num_steps=1, hidden_channels=4, **options),
    "spline Glow": lambda **options: Glow(
        SHAPE, num_levels=2, num_steps=1, hidden_channels=4, coupling="spline", **options
    ),
    "RealNVP": lambda **options: RealNVP(SHAPE, hidden_channels=4, num_blocks=1, **options),
}


def made(name: str, **options) -> Flow:
    torch.manual_seed(0)
    return ready(FLOWS[name](context_size=CONTEXT, **options), 0.2)


class Seen(Transform):
    """Keeps data as they are, and the contexts that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[Tensor] = []

    def forward(self, x, context=None):
        self.contexts.append(context)
        return x, x.new_zeros(len(x))

    def inverse(self, z, context=None):
        return self(z, context)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_invert_with_exact_jacobians(name):
    check_transform(made(name).transform, randn(2, *SHAPE), randn(2, *CONTEXT, seed=1))


@pytest.mark.parametrize("name", FLOWS)
def test_reversible_flows_have_the_same_gradients(name):
    grads = []
    for reversible in (False, True):
        flow = made(name, reversible=reversible)
        x, context = randn(3, *SHAPE).requires_grad_(), randn(3, *CONTEXT, seed=1).requires_grad_()
        leaves = [x, context, *flow.parameters()]
        grads.append(torch.autograd.grad(flow.log_prob(x, context).sum(), leaves))
    torch.testing.assert_close(*grads, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", FLOWS)
def test_every_number_of_a_context_matters_to_its_own_image_alone(name):
    flow = made(name)
    x, context = randn(3, *SHAPE), randn(3, *CONTEXT, seed=1).requires_grad_()
    (grad,) = torch.autograd.grad(flow.log_prob(x, context)[1], context)
    assert grad[1].all()
    assert not grad[[0, 2]].any()


@pytest.mark.parametrize("name", FLOWS)
def test_a_batch_of_distributions(name):
    flow = made(name)
    context = randn(2, 3, *CONTEXT, seed=1)
    several = flow(context)
    assert several.batch_shape == (2, 3)
    x = several.sample((4,))
    assert x.shape == (4, 2, 3, *SHAPE)
    log_prob = several.log_prob(x)
    expected = flow.log_prob(x[1].flatten(0, 1), context.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(log_prob[1], expected)
    one = flow(context[0, 0])
    assert one.batch_shape == ()
    torch.testing.assert_close(one.expand([4]).log_prob(x[:, 0, 0]), log_prob[:, 0, 0])


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, r"expected a context \[3, 2, 4, 8\], got none"),
        (torch.zeros(3, 2), r"expected a context \[3, 2, 4, 8\], got one of shape \[3, 2\]"),
        (torch.zeros(3, 2, 2, 4), r"got one of shape \[3, 2, 2, 4\]"),
        (torch.zeros(1, 2, 4, 8), r"got one of shape \[1, 2, 4, 8\]"),
    ],
)
def test_contexts_that_do_not_fit(context, message):
    flow = FLOWS["Glow"](context_size=CONTEXT)
    with pytest.raises(ValueError, match=message):
        flow.log_prob(torch.zeros(3, *SHAPE), context)
    if context is None or context.shape[0] == 3:
        with pytest.raises(ValueError, match="expected a context"):
            flow(context)


@pytest.mark.parametrize("context_size", [(2, 4, 4), (2, 8), (0, 4, 8), (1, 2, 4, 8)])
@pytest.mark.parametrize("name", FLOWS)
def test_sizes_of_contexts_that_do_not_fit(name, context_size):
    with pytest.raises(ValueError, match=r"context_size is .*; expected a number, or \(C, 4, 8\)"):
        FLOWS[name](context_size=context_size)


def test_a_reversible_stack_with_a_squeeze_compiles_in_one_graph():
    torch.compiler.reset()
    first = AffineCoupling(
        ConvConditioner(1, 4, 2, context_size=2, pixel_context=True), mask="checkerboard"
    )
    second = AffineCoupling(ConvConditioner(2, 4, 4, context_size=8, pixel_context=True))
    stack = Reversible(first, Squeeze(), second).double().eval()
    redraw(stack, 0.3, seed=0)
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    grads = []
    for function in (stack, compiled):
        x, context = randn(3, *SHAPE).requires_grad_(), randn(3, *CONTEXT, seed=1).requires_grad_()
        z, log_det = function(x, context)
        leaves = [x, context, *stack.parameters()]
        grads.append(torch.autograd.grad(z.square().sum() - log_det.sum(), leaves))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("network", [ConvConditioner, ResidualConditioner])
class TestConditioners:
    def test_a_pixel_sees_the_contexts_around_it(self, network):
        conditioner = network(1, 4, 1, context_size=2, pixel_context=True).double().eval()
        randomize(conditioner, 0.3)
        reach = 2 if network is ConvConditioner else 5  # two, or five, convolutions of 3×3
        x, context = randn(1, 1, 16, 16), randn(1, 2, 16, 16, seed=1).requires_grad_()
        (grad,) = torch.autograd.grad(conditioner(x, context)[0, 0, 8, 8], context)
        near = torch.zeros(16, 16, dtype=torch.bool)
        near[8 - reach : 9 + reach, 8 - reach : 9 + reach] = True
        assert torch.equal(grad[0].any(0), near)

    def test_contexts_move_what_moves_alone(self, network):
        for mask, channels in (("channel", 2), ("checkerboard", 4)):
            conditioner = network(channels, 4, 2 * channels, context_size=3, pixel_context=True)
            coupling = AffineCoupling(conditioner, mask=mask).double().eval()
            randomize(coupling, 0.3)
            x, context = randn(1, 4, 4, 4), randn(1, 3, 4, 4, seed=1)
            changed = coupling(x, context)[0] != coupling(x, -context)[0]
            h, w = torch.arange(4)[:, None], torch.arange(4)
            channel = (torch.arange(4) >= 2)[:, None, None]
            expected = channel if mask == "channel" else (h + w) % 2 == 1
            assert torch.equal(changed[0], expected.expand(4, 4, 4))

    def test_contexts_of_other_shapes_or_types(self, network):
        conditioner = network(1, 4, 1, context_size=2, pixel_context=True)
        x, name = torch.zeros(3, 1, 4, 4), network.__name__
        for context in (None, torch.zeros(3, 2), torch.zeros(3, 2, 2, 2)):
            with pytest.raises(ValueError, match=rf"{name}: expected a context \[3, 2, 4, 4\]"):
                conditioner(x, context)
        with pytest.raises(TypeError, match=f"{name}: the context is torch.float64"):
            conditioner(x, torch.zeros(3, 2, 4, 4, dtype=torch.float64))
        assert torch.equal(
            network(1, 4, 1)(x, torch.zeros(3, 7)), conditioner(x, torch.ones(3, 2, 4, 4))
        )


class TestCarrying:
    def test_a_squeeze_takes_the_context_with_the_data(self):
        first, second, third = Seen(), Seen(), Seen()
        stack = Compose(first, Squeeze(), second, Inverse(Squeeze()), third)
        x, context = randn(2, 1, 4, 4), randn(2, 3, 4, 4, seed=1)
        z, _ = stack(x, context)
        stack.inverse(z, context)
        for seen, expected in ((first, context), (second, squeeze2d(context)), (third, context)):
            assert all(torch.equal(c, expected) for c in seen.contexts)
            assert len(seen.contexts) == 2

    def test_what_stands_after_a_nested_stack_is_given_what_fits(self):
        """Also one that is turned round, or has a context of its own."""
        nested = Compose(Squeeze(), Compose(Squeeze(), Seen()))
        x, context = randn(2, 1, 4, 4), randn(2, 3, 4, 4, seed=1)
        twice = squeeze2d(squeeze2d(context))
        for inner in (nested, EmbeddedContext(nested, nn.Identity()), Inverse(Inverse(nested))):
            last = Seen()
            z, _ = Compose(inner, last)(x, context)
            back = Seen()
            Compose(Inverse(inner), back)(z, twice)
            Compose(Inverse(inner), back).inverse(x, twice)
            assert torch.equal(last.contexts[0], twice)
            assert torch.equal(back.contexts[0], context)
            assert torch.equal(back.contexts[1], context)

    def test_levels_see_the_context_at_their_size(self):
        levels = [Compose(Squeeze(), Seen()), Compose(Squeeze(), Seen())]
        flow = MultiScale(levels, [(4, 2, 2), (8, 1, 1)])
        x, context = randn(2, 1, 4, 4), randn(2, 3, 4, 4, seed=1)
        flow.inverse(flow(x, context)[0], context)
        once = squeeze2d(context)
        for level, expected in zip(levels, (once, squeeze2d(once)), strict=True):
            assert all(torch.equal(c, expected) for c in level.transforms[1].contexts)
            assert len(level.transforms[1].contexts) == 2

    def test_rows_are_carried_as_they_are(self):
        context = randn(2, 3)
        assert Squeeze().carry(context) is context
        assert Squeeze().carry(None) is None
        assert Compose(Squeeze(), Permutation.reverse(4)).carry(context, back=True) is context


def conditioned(context_size: int, swap: bool = False) -> AffineCoupling:
    return AffineCoupling(MLP(2, (8,), 4, context_size=context_size), swap=swap)


class Columns(nn.Module):
    """A part of the context."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, context: Tensor) -> Tensor:
        return context[:, self.start : self.stop]


class TestEmbeddedContext:
    def test_each_layer_has_its_own(self):
        layers = [
            EmbeddedContext(conditioned(3), Columns(0, 3)),
            EmbeddedContext(conditioned(2, swap=True), Columns(3, 5)),
        ]
        stack = Compose(*layers).double()
        redraw(stack, 0.5, seed=0)
        x, context = randn(1, 4), randn(1, 5, seed=1)
        check_transform(stack, x, context)
        jacobian = torch.autograd.functional.jacobian(lambda c: layers[0](x, c)[0], context)
        assert torch.equal(jacobian[0, 2:, 0].any(0), torch.arange(5) < 3)
        jacobian = torch.autograd.functional.jacobian(lambda c: layers[1](x, c)[0], context)
        assert torch.equal(jacobian[0, :2, 0].any(0), torch.arange(5) >= 3)

    @pytest.mark.parametrize(
        "layer", [lambda: conditioned(3), lambda: MaskedAutoregressive(4, (8,), context_size=3)]
    )
    def test_around_any_transform_it_is_that_with_the_embedding(self, layer):
        inner, network = layer(), nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        embedded = EmbeddedContext(inner, network).double()
        redraw(embedded, 0.5, seed=0)
        x, context = randn(4, 4), randn(4, 5, seed=1)
        check_transform(embedded, x, context)
        torch.testing.assert_close(embedded(x, context), inner(x, network(context)))

    def test_a_flow_of_embedded_contexts_learns_its_embedding(self):
        flow = CouplingFlow(4, hidden_widths=(8,), context_size=3)
        network = nn.Linear(5, 3)
        whole = Flow(EmbeddedContext(flow.transform, network), [4], context_size=5)
        assert whole(torch.randn(6, 5)).sample().shape == (6, 4)
        whole.log_prob(torch.randn(6, 4), torch.randn(6, 5)).sum().backward()
        assert network.weight.grad.any()

    @pytest.mark.parametrize("grad_of_context", [False, True])
    def test_reversible_stacks_have_the_same_gradients(self, grad_of_context):
        network = nn.Linear(5, 3)  # one for all layers
        layers = [EmbeddedContext(conditioned(3, bool(i % 2)), network) for i in range(3)]
        layers.append(EmbeddedContext(Permutation.reverse(4), network))  # which has no use for it
        grads = []
        for kind in (Compose, Reversible):
            stack = kind(*layers).double()
            redraw(stack, 0.5, seed=0)
            x = randn(4, 4).requires_grad_()
            context = randn(4, 5, seed=1).requires_grad_(grad_of_context)
            z, log_det = stack(x, context)
            loss = z.square().sum() - log_det.sum()
            leaves = [x, *stack.parameters(), *([context] if grad_of_context else [])]
            grads.append(torch.autograd.grad(loss, leaves))
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)

    def test_a_parameter_of_both_the_transform_and_the_embedding_gets_both_gradients(self):
        coupling = conditioned(8)
        network = nn.Linear(4, 8)
        network.weight = nn.Parameter(torch.randn(8, 4))
        coupling.network.layers[0] = nn.Linear(10, 8)
        coupling.network.layers[0].bias = network.bias
        grads = []
        for kind in (Compose, Reversible):
            stack = kind(EmbeddedContext(coupling, network)).double()
            redraw(stack, 0.5, seed=0)
            z, log_det = stack(randn(3, 4).requires_grad_(), randn(3, 4, seed=1))
            loss = z.square().sum() - log_det.sum()
            grads.append(torch.autograd.grad(loss, list(stack.parameters())))
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)

    def test_bad_input(self):
        with pytest.raises(TypeError, match="EmbeddedContext: got a Linear"):
            EmbeddedContext(nn.Linear(1, 1), nn.Linear(1, 1))
        layer = EmbeddedContext(conditioned(3), nn.Linear(5, 3))
        for direction in (layer, layer.inverse):
            with pytest.raises(ValueError, match="EmbeddedContext: expected a context, got none"):
                direction(torch.zeros(2, 4))
