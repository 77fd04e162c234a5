"""Contexts: needed where a flow was built for them, and an error where it was not."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from testing.flow_testing import redraw
from torch.distributions import Categorical, MixtureSameFamily

from gencore.models import (
    IAF,
    MAF,
    NICE,
    AutoregressiveSplineFlow,
    CircularSplineFlow,
    ContinuousFlow,
    CouplingFlow,
    Flow,
    FlowPosterior,
    Glow,
    MonotonicFlow,
    PlanarFlow,
    RadialFlow,
    RealNVP,
    ResidualFlow,
    SplineFlow,
)
from gencore.nn import (
    MADE,
    MLP,
    AffineCoupling,
    Compose,
    ConvConditioner,
    MaskedAutoregressive,
    Planar,
    ResidualConditioner,
    SplineCoupling,
)

FLOWS: dict[str, Callable[..., Flow]] = {
    "NICE": lambda **options: NICE(3, hidden_widths=(8,), **options),
    "CouplingFlow": lambda **options: CouplingFlow(3, hidden_widths=(8,), **options),
    "MAF": lambda **options: MAF(3, num_layers=2, hidden_widths=(8,), **options),
    "IAF": lambda **options: IAF(3, num_layers=2, hidden_widths=(8,), **options),
    "SplineFlow": lambda **options: SplineFlow(3, hidden_widths=(8,), **options),
    "CircularSplineFlow": lambda **options: CircularSplineFlow(3, hidden_widths=(8,), **options),
    "MonotonicFlow": lambda **options: MonotonicFlow(
        3, num_layers=2, hidden_widths=(8,), integrand_widths=(8,), **options
    ),
    "AutoregressiveSplineFlow": lambda **options: AutoregressiveSplineFlow(
        3, num_layers=2, hidden_widths=(8,), **options
    ),
    "PlanarFlow": lambda **options: PlanarFlow(3, num_layers=2, **options),
    "RadialFlow": lambda **options: RadialFlow(3, num_layers=2, **options),
    "ContinuousFlow": lambda **options: ContinuousFlow(3, hidden_widths=(8,), **options),
    "Glow": lambda **options: Glow(
        (1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4, **options
    ),
    "RealNVP": lambda **options: RealNVP(
        (1, 4, 4), hidden_channels=4, num_blocks=1, batch_norm=False, **options
    ),
}

if find_spec("torchdiffeq") is None:  # of an extra
    del FLOWS["ContinuousFlow"]


@pytest.mark.parametrize("name", [*FLOWS, "ResidualFlow"])
def test_flows_without_contexts_refuse_them(name):
    flow = {**FLOWS, "ResidualFlow": lambda: ResidualFlow(3, hidden_widths=(8,))}[name]()
    context = torch.zeros(5, 4)
    for call in (
        lambda: flow.log_prob(torch.zeros(5, *flow.event_shape), context),
        lambda: flow.sample(5, context),
        lambda: flow(context),
    ):
        with pytest.raises(ValueError, match="context_size is 0"):
            call()


@pytest.mark.parametrize(
    ("context", "error", "message"),
    [
        (None, ValueError, "got none"),
        (torch.zeros(5, 3), ValueError, r"expected a context \[5, 4\], got one of shape \[5, 3\]"),
        (torch.zeros(1, 4), ValueError, r"expected a context \[5, 4\], got one of shape \[1, 4\]"),
        (torch.zeros(5, 4, dtype=torch.int64), TypeError, "the context is torch.int64"),
        (
            torch.zeros(5, 4, dtype=torch.float64),
            TypeError,
            r"the context is torch\.float64 and the weights are torch\.float32; convert",
        ),
        ([[0.0] * 4] * 5, TypeError, "the context is a list; expected a tensor"),
    ],
)
@pytest.mark.parametrize("name", FLOWS)
def test_flows_with_contexts_need_fitting_ones(name, context, error, message):
    flow = FLOWS[name](context_size=4)
    with pytest.raises(error, match=message):
        flow.log_prob(torch.zeros(5, *flow.event_shape), context)
    with pytest.raises(error, match=message):
        flow.sample(5, context)
    if error is TypeError:
        with pytest.raises(error, match=f"FlowDistribution: {message}"):
            flow(context)


@pytest.mark.parametrize("name", FLOWS)
def test_a_less_precise_context_is_converted(name):
    torch.manual_seed(0)
    flow = FLOWS[name](context_size=4).eval()
    redraw(flow, 0.3, seed=0)
    context = torch.randn(5, 4).to(torch.bfloat16)
    x = torch.randn(5, *flow.event_shape)
    assert torch.equal(flow.log_prob(x, context), flow.log_prob(x, context.float()))


def test_layers_and_networks_name_a_context_that_is_too_precise():
    x, context = torch.zeros(5, 3), torch.zeros(5, 4, dtype=torch.float64)
    images = torch.zeros(5, 2, 4, 4)
    calls = {
        "MLP": lambda: MLP(3, (8,), 2, context_size=4)(x, context),
        "MADE": lambda: MADE(3, (8,), context_size=4)(x, context),
        "MaskedAutoregressive": lambda: MaskedAutoregressive(3, (8,), context_size=4).inverse(
            x, context
        ),
        "Planar": lambda: Planar(3, context_size=4)(x, context),
        "ConvConditioner": lambda: ConvConditioner(2, 8, 4, context_size=4)(images, context),
        "ResidualConditioner": lambda: ResidualConditioner(2, 8, 4, context_size=4)(
            images, context
        ),
        "FlowPosterior": lambda: FlowPosterior(3, 4)(x, x, context),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name}: the context is torch.float64 and the weigh"):
            call()
    assert MADE(3, (8,), context_size=4)(x[0], context[0].float()).shape == (2, 3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: MaskedAutoregressive(3, (8,), context_size=4), (3,)),
        (lambda: SplineCoupling(MLP(2, (8,), 23, context_size=4)), (3,)),
        (lambda: Planar(3, context_size=4), (3,)),
        (lambda: AffineCoupling(ConvConditioner(2, 8, 2, context_size=4)), (3, 2, 2)),
        (lambda: AffineCoupling(ResidualConditioner(2, 8, 2, context_size=4)), (3, 2, 2)),
    ],
)
@pytest.mark.parametrize("context", [None, torch.zeros(1, 4), torch.zeros(2, 3)])
def test_layers_with_contexts_need_fitting_ones(layer, shape, context):
    for direction in (layer(), layer().inverse):
        with pytest.raises(ValueError, match=r"expected a context \[2, 4\]"):
            direction(torch.zeros(2, *shape), context)


def test_layers_with_and_without_contexts_make_a_flow():
    stack = Compose(Planar(3), SplineCoupling(MLP(2, (8,), 23, context_size=4)), Planar(3))
    flow, context = Flow(stack, [3], context_size=4), torch.randn(5, 4)
    assert flow(context).log_prob(flow(context).sample()).shape == (5,)


def test_posteriors_refuse_contexts_that_do_not_fit():
    mean = torch.zeros(5, 3)
    plain = FlowPosterior(3, hidden_widths=(8,))
    with pytest.raises(ValueError, match="context_size is 0"):
        plain(mean, mean, torch.zeros(5, 4))
    with pytest.raises(ValueError, match="got none"):
        FlowPosterior(3, 4, hidden_widths=(8,))(mean, mean)
    with pytest.raises(ValueError, match=r"latents have shape \[1, 3\]"):
        plain.log_prob(mean[:1], mean, mean)


class TestBatches:
    def test_values_are_broadcast_with_the_batch(self):
        flow, context = CouplingFlow(2, context_size=3), torch.randn(4, 3)
        x = torch.randn(7, 1, 2)
        every = flow(context).log_prob(x)
        assert every.shape == (7, 4)
        torch.testing.assert_close(every, flow(context).log_prob(x.expand(7, 4, 2)))
        torch.testing.assert_close(flow(context).log_prob(x[0, 0]), every[0])

    def test_a_mixture_of_flows(self):
        flow = CouplingFlow(2, context_size=3)
        parts = flow(torch.eye(3))
        mixture = MixtureSameFamily(Categorical(torch.ones(3)), parts)
        x = torch.randn(5, 2)
        expected = parts.log_prob(x[:, None]).logsumexp(1) - torch.tensor(3.0).log()
        torch.testing.assert_close(mixture.log_prob(x), expected)
        assert mixture.sample((6,)).shape == (6, 2)

    def test_empty_batches(self):
        flow, context = CouplingFlow(2, context_size=3), torch.zeros(0, 3)
        assert flow(context).sample().shape == (0, 2)
        assert flow(context).log_prob(torch.zeros(0, 2)).shape == (0,)

    def test_the_support_has_the_shape_of_an_event(self):
        assert CouplingFlow(2)().support.event_dim == 1

    def test_values_of_another_shape(self):
        with pytest.raises(ValueError, match=r"values have shape \[5, 3\]"):
            CouplingFlow(2)().log_prob(torch.zeros(5, 3))
