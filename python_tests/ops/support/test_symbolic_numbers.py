"""Numbers that change between the calls of a compiled function, and sizes that do."""

import pytest
import torch
from testing.flow_testing import FLOWS, ready
from torch._dynamo.testing import CompileCounterWithBackend

from gencore import ops
from gencore.nn import MADE

KEY = torch.tensor([3, 4])
VALUES = (0.1, 0.2, 0.3, 0.4)


def rows(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ENERGIES = rows(1, 8)
MLP = [rows(2, 6, 4), rows(3, 1, 6)], [rows(4, 6), rows(5, 1)]
CONV = [rows(6, 6, 4, 3, 3), rows(7, 4, 6, 3, 3)], [rows(8, 6), rows(9, 4)]
SLOPES = rows(10, 5), rows(11, 5), rows(12, 4)
NETWORK = MADE(4, (8,))


def first_of(function):
    return lambda x, a: function(x, a)[0]


def in_place(function):
    """An operator that writes to its first tensors, as a function of x."""

    def call(x, a):
        state, momentum = x.clone(), torch.ones_like(x)
        function(state, momentum, a)
        return state + momentum

    return call


def spline(x, a):
    parameters = [x[..., None] * slope for slope in SLOPES]
    shares = {"min_width": a / 10, "min_height": a / 9, "min_derivative": a}
    return ops.rational_quadratic_spline(x, *parameters, tail_bound=10 * a, bound=a, **shares)


def made_inverse(x, a):
    linears = NETWORK.linears()
    weights, biases = [m.weight for m in linears], [m.bias for m in linears]
    return ops.made_inverse(x, weights, biases, NETWORK.unit_ends, bound=a)


def nuts(x, a):
    tree = ops.nuts_tree(x, x.square().sum(1), x, step_size=a, key=KEY)
    y = tree.position
    ops.nuts_leaf_(tree, y.square().sum(1), 2 * y, 0, a, key=KEY, max_energy_error=1000 * a)
    return tree.position


DIFFERENTIABLE = {
    "langevin_step": lambda x, a: ops.langevin_step(
        x, x**3, a, prior_precision=a, grad_clamp=a, clamp=(-a, 2 * a), key=KEY
    ),
    "affine_coupling": first_of(lambda x, a: ops.affine_coupling(x, 2 * x, x.cos(), bound=a)),
    "affine_coupling joint": first_of(
        lambda x, a: ops.affine_coupling(x, 2 * x, None, bound=a, mask="channel", inverse=True)
    ),
    "rational_quadratic_spline": first_of(spline),
    "leapfrog_start": first_of(lambda x, a: ops.leapfrog_start(x, x**2, a, a, key=KEY)),
    "leapfrog_step": first_of(lambda x, a: ops.leapfrog_step(x, x, x**2, a, a)),
    "leapfrog_end": lambda x, a: ops.leapfrog_end(x, x**2, a, a).kinetic,
    "mlp_langevin_chain": lambda x, a: ops.mlp_langevin_chain(
        x, *MLP, 3, a, prior_precision=a, key=KEY
    ),
    "conv_network": lambda x, a: ops.conv_network(
        x.view(2, 4, 2, 2), *CONV, activation="leaky_relu", negative_slope=a
    ),
    "sghmc_step": first_of(lambda x, a: ops.sghmc_step(x, x, x**2, a, a, a, key=KEY)),
    "riemannian_langevin_step": lambda x, a: ops.riemannian_langevin_step(
        x, x**2, x.exp(), x, a, key=KEY
    ),
}
OTHERS = {
    "langevin_step_": in_place(lambda x, m, a: ops.langevin_step_(x, m, a, clamp=(-a, a), key=KEY)),
    "leapfrog_step_": in_place(lambda x, m, a: ops.leapfrog_step_(x, m, x.clone(), a, a)),
    "sghmc_step_": in_place(lambda x, m, a: ops.sghmc_step_(x, m, x.clone(), a, a, a, key=KEY)),
    "riemannian_langevin_step_": in_place(
        lambda x, m, a: ops.riemannian_langevin_step_(x, x.clone(), m, None, a, key=KEY)
    ),
    "affine_coupling_backward_from_output": first_of(
        lambda x, a: ops.affine_coupling_backward_from_output(x, x, x, x, ENERGIES, bound=a)
    ),
    "made_inverse": first_of(made_inverse),
    "metropolis_accept": first_of(
        lambda x, a: ops.metropolis_accept(
            x, x, ENERGIES, 2 * x, x, ENERGIES + a, ENERGIES, ENERGIES, key=KEY, max_energy_error=a
        )
    ),
    "metropolis_accept_": in_place(
        lambda x, m, a: ops.metropolis_accept_(
            x, x.clone(), ENERGIES.clone(), m, m, ENERGIES + a, ENERGIES, ENERGIES,
            key=KEY, max_energy_error=a,
        )
    ),
    "mlp_hmc_chain": first_of(
        lambda x, a: ops.mlp_hmc_chain(
            x, *MLP, 2, a, 2, inverse_mass=a, prior_precision=a, max_energy_error=a, key=KEY
        )
    ),
    "nuts_leaf_": nuts,
}  # fmt: skip
QUICK = ("langevin_step", "affine_coupling", "langevin_step_")


def named(cases):
    return [
        pytest.param(f, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, f in cases.items()
    ]


def compiled(function, **options):
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(function, backend=counter, fullgraph=True, **options), counter


@pytest.mark.parametrize("of_leaf", named(DIFFERENTIABLE))
def test_a_number_that_changes_is_compiled_twice_at_most(of_leaf):
    x = rows(0, 8, 4).requires_grad_()

    def function(x, a):
        return of_leaf(1.5 * x, a)  # an operand inside the graph is no leaf

    call, counter = compiled(function)
    for a in VALUES:
        ours, expected = call(x, a), function(x, a)
        torch.testing.assert_close(ours, expected)
        grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, expected)]
        torch.testing.assert_close(*grads)
    assert counter.frame_count <= 2


def test_the_weights_of_a_chain_have_gradients_where_its_step_size_changes():
    x, weights = rows(0, 8, 4), [w.clone().requires_grad_() for w in MLP[0]]

    def function(a):
        return ops.mlp_langevin_chain(x, weights, MLP[1], 3, a, key=KEY).sum()

    call, _ = compiled(function)
    for a in VALUES[:2]:
        grads = [torch.autograd.grad(f(a), weights) for f in (call, function)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("function", named(OTHERS))
def test_so_is_one_of_an_operator_without_a_derivative(function):
    x = rows(0, 8, 4)
    call, counter = compiled(function)
    with torch.no_grad():
        for a in VALUES:
            torch.testing.assert_close(call(x, a), function(x, a))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_a_wrong_number_is_refused_after_right_ones(wrong):
    call, _ = compiled(lambda x, a: ops.langevin_step(x, x, a, key=KEY))
    x = torch.zeros(8, 4)
    for a in VALUES[:3]:
        call(x, a)
    with pytest.raises(Exception, match=r"(?i)observed exception|step_size"):
        call(x, wrong)


def flow_and_data(name):
    flow = ready(FLOWS[name]())
    return flow, lambda n: rows(n, n, *flow.event_shape).double()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "CouplingFlow" else pytest.mark.slow)
        for name in FLOWS
        if name not in ("ContinuousFlow", "PlanarFlow", "ResidualFlow")
    ],
)
def test_flows_compile_with_sizes_that_change(name):
    flow, data = flow_and_data(name)
    torch.compiler.reset()
    density = torch.compile(flow.log_prob, backend="eager", fullgraph=True, dynamic=True)
    for n in (5, 7):
        x = data(n).requires_grad_()
        ours, expected = density(x), flow.log_prob(x)
        torch.testing.assert_close(ours, expected)
        grads = [torch.autograd.grad(y.sum(), x)[0] for y in (ours, expected)]
        torch.testing.assert_close(*grads)
