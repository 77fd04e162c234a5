"""Flows under torch.compile, in one graph and with a gradient."""

import pytest
import torch
from testing.flow_testing import FLOWS, randn, ready
from torch.distributions import Uniform

from gencore.nn import AffineCoupling, Reversible

REVERSIBLE = (
    "NICE", "CouplingFlow", "SplineFlow", "MAF", "AutoregressiveSplineFlow", "Glow", "RealNVP",
)  # fmt: skip


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
@pytest.mark.parametrize("name", ["MAF", "IAF", "AutoregressiveSplineFlow"])
def test_autoregressive_flows_compile_in_their_sequential_direction(name, context_size):
    flow, context = with_context(name, context_size)
    function = flow.log_prob if name == "IAF" else samples(flow)
    check_gradients(flow, compiled(function), function, randn(5, 3), context)


def test_a_sequential_direction_of_passes_compiles():
    flow = ready(FLOWS["AutoregressiveSplineFlow"](residual=True, hidden_widths=(8, 8)))
    check_gradients(flow, compiled(samples(flow)), samples(flow), randn(5, 3))


@pytest.mark.slow
def test_a_reversible_stack_that_holds_a_network_twice_compiles_and_survives():
    network = torch.nn.Linear(2, 4).double()
    stack = Reversible(AffineCoupling(network), AffineCoupling(network, swap=True))
    check_gradients(
        stack, compiled(lambda x, _: stack(x)[0]), lambda x, _: stack(x)[0], randn(5, 4).double()
    )


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


@pytest.mark.parametrize("context_size", [0, 2])
def test_planar_flows_compile_in_their_implicit_direction(context_size):
    flow, context = with_context("PlanarFlow", context_size)
    check_gradients(flow, compiled(flow.log_prob), flow.log_prob, randn(5, 3), context)


def residual_flow():
    torch.manual_seed(0)
    return FLOWS["ResidualFlow"]().double().eval()


def test_samples_of_residual_flows_compile():
    flow = residual_flow()
    check_gradients(flow, compiled(samples(flow)), samples(flow), randn(5, 3))


def test_densities_of_residual_flows_are_no_single_graph():
    flow, x = residual_flow(), randn(5, 3)
    with pytest.raises(Exception, match="how many iterations its inverse takes depends on"):
        compiled(flow.log_prob)(x)
    torch.compiler.reset()
    density = torch.compile(flow.log_prob, backend="aot_eager")
    torch.testing.assert_close(density(x), flow.log_prob(x))


@pytest.mark.parametrize("direction", ["log_prob", "sample"])
def test_continuous_flows_are_no_single_graph(direction):
    pytest.importorskip("torchdiffeq")
    flow, x = ready(FLOWS["ContinuousFlow"]()), randn(5, 3)

    def function(x):
        key = torch.tensor([1, 0])
        return flow.log_prob(x) if direction == "log_prob" else flow.sample(5, key=key)

    with pytest.raises(Exception, match="how many steps its solver takes depends on the data"):
        compiled(function)(x)
    torch.compiler.reset()
    broken = torch.compile(function, backend="aot_eager")
    torch.testing.assert_close(broken(x), function(x))


def test_densities_of_monotonic_flows_compile_and_samples_are_no_single_graph():
    flow, x = ready(FLOWS["MonotonicFlow"]()), randn(5, 3)
    check_gradients(flow, compiled(flow.log_prob), flow.log_prob, x)
    with pytest.raises(Exception, match="how many steps its inverse takes depends on the data"):
        compiled(samples(flow))(x, None)
    torch.compiler.reset()
    broken = torch.compile(samples(flow), backend="aot_eager")
    torch.testing.assert_close(broken(x, None), samples(flow)(x, None))


class Exported(torch.nn.Module):
    """A flow's density and the data of latents, as a forward pass."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        latents = x.reshape(x.shape[0], *self.flow.latent_shape)
        return self.flow.log_prob(x), self.flow.transform.inverse(latents)[0]


@pytest.mark.parametrize(
    "name", sorted(FLOWS.keys() - {"ContinuousFlow", "MonotonicFlow", "ResidualFlow"})
)
def test_flows_export_for_any_number_of_rows(name):
    flow = ready(FLOWS[name]())
    shapes = ({0: torch.export.Dim("n")},)
    x = randn(5, *flow.event_shape)
    with torch.no_grad():
        program = torch.export.export(Exported(flow), (x,), dynamic_shapes=shapes).module()
        for n in (3, 7):
            y = randn(n, *flow.event_shape, seed=n)
            torch.testing.assert_close(program(y), Exported(flow)(y))


def test_a_flow_with_a_base_of_bounded_support_exports():
    flow = ready(FLOWS["CouplingFlow"](base=Uniform(-2 * torch.ones(3), torch.ones(3))))
    shapes = ({0: torch.export.Dim("n")},)
    with torch.no_grad():
        program = torch.export.export(Exported(flow), (randn(5, 3),), dynamic_shapes=shapes)
        y = randn(7, 3, seed=7)
        torch.testing.assert_close(program.module()(y), Exported(flow)(y))


def test_residual_flows_say_why_they_cannot_be_exported():
    with pytest.raises(RuntimeError, match=r"^EulerSteps: torch.export cannot trace a residual"):
        torch.export.export(Exported(residual_flow()), (randn(5, 3),))


def test_continuous_flows_say_why_they_cannot_be_exported():
    pytest.importorskip("torchdiffeq")
    flow = ready(FLOWS["ContinuousFlow"]())
    with pytest.raises(RuntimeError, match=r"^ContinuousTransform: torch.export cannot trace it"):
        torch.export.export(Exported(flow), (randn(5, 3),))


def test_monotonic_flows_export_their_density_and_say_why_no_samples():
    flow = ready(FLOWS["MonotonicFlow"]())

    class Density(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = flow

        def forward(self, x):
            return self.flow.log_prob(x)

    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(Density(), (randn(5, 3),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(randn(7, 3)), flow.log_prob(randn(7, 3)))
    with pytest.raises(RuntimeError, match=r"^MonotonicNetwork: torch.export cannot trace its inv"):
        torch.export.export(Exported(flow), (randn(5, 3),))
