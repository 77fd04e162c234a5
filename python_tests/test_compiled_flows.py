"""Flows under torch.compile, in one graph and with a gradient."""

import pytest
import torch
from flow_testing import FLOWS, randn, ready

REVERSIBLE = ("NICE", "CouplingFlow", "SplineFlow", "MAF", "Glow", "RealNVP")


def compiled(function, **options):
    torch.compiler.reset()
    return torch.compile(function, backend="aot_eager", fullgraph=True, **options)


def check_gradients(flow, call, expected, x, context=None):
    """The compiled function's values and gradients are those of the function."""
    leaves = [x.requires_grad_(), *([] if context is None else [context.requires_grad_()])]
    leaves += [p for p in flow.parameters() if p.requires_grad]
    weights = torch.linspace(0.5, 1.5, x.numel()).to(x)
    results = []
    for function in (call, expected):
        y = function(x, context)
        loss = (y.flatten() * weights[: y.numel()]).sum()
        results.append((y, *torch.autograd.grad(loss, leaves, allow_unused=True)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)


def slow_but(names, *quick):
    return [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", slow_but(REVERSIBLE, "CouplingFlow"))
def test_reversible_stacks_compile(name):
    flow = ready(FLOWS[name](reversible=True))
    x = randn(5, *flow.event_shape)
    check_gradients(flow, compiled(flow.log_prob), flow.log_prob, x)


def test_reversible_stacks_compile_with_a_context():
    flow = ready(FLOWS["CouplingFlow"](reversible=True, context_size=2))
    check_gradients(flow, compiled(flow.log_prob), flow.log_prob, randn(5, 3), randn(5, 2, seed=1))


def samples(flow):
    return lambda z, context: flow.transform.inverse(z, context)[0]


def with_context(name, size):
    flow = ready(FLOWS[name](context_size=size))
    return flow, randn(5, size, seed=1) if size else None


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("name", ["MAF", "IAF"])
def test_autoregressive_flows_compile_in_their_sequential_direction(name, context_size):
    flow, context = with_context(name, context_size)
    function = samples(flow) if name == "MAF" else flow.log_prob
    check_gradients(flow, compiled(function), function, randn(5, 3), context)


@pytest.mark.slow
def test_compiled_reversible_stacks_save_no_inputs():
    saved = []
    for layers in (1, 2):
        flow = ready(FLOWS["CouplingFlow"](reversible=True))
        flow.transform.transforms.extend(
            t for _ in range(layers) for t in FLOWS["CouplingFlow"]().double().eval().transform
        )
        kept = {}
        x = randn(200, 3)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.setdefault(t.data_ptr(), t), lambda t: t
        ):
            compiled(flow.log_prob)(x).sum().backward()
        saved.append(sum(t.shape[:1] == x.shape[:1] for t in kept.values()))
    assert saved[0] == saved[1]
