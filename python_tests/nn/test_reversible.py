"""The backward pass that rebuilds inputs from outputs."""

import copy
import gc

import pytest
import torch
from testing.flow_testing import FLOWS, randn, randomize
from torch import Tensor

from gencore.nn import (
    MLP,
    ActNorm,
    AffineCoupling,
    Compose,
    ConvConditioner,
    InvertibleConv1x1,
    Permutation,
    ResidualConditioner,
    Reversible,
    Squeeze,
    Transform,
)
from gencore.ops import backend


def image_steps(channels: int = 4, num: int = 3, context_size: int = 0) -> list[Transform]:
    """Steps of every kind that a flow on images is made of."""
    steps: list[Transform] = []
    for i in range(num):
        steps += [
            ActNorm(channels),
            InvertibleConv1x1(channels),
            AffineCoupling(
                ConvConditioner(channels // 2, 8, channels, context_size=context_size),
                swap=bool(i % 2),
            ),
            AffineCoupling(
                ConvConditioner(channels, 8, 2 * channels, context_size=context_size),
                mask="checkerboard",
                swap=bool(i % 2),
            ),
            AffineCoupling(
                ConvConditioner(channels // 2, 8, channels // 2, context_size=context_size),
                additive=True,
            ),
        ]
    return [*steps, Squeeze(), Permutation.reverse(4 * channels)]


def gradients(stack: Transform, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
    """Outputs and gradients of a loss that weights every latent and log-determinant differently."""
    x = x.clone().requires_grad_()
    context = None if context is None else context.clone().requires_grad_()
    z, log_det = stack(x, context)
    weight = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)
    loss = (weight * z.square()).sum() - (log_det * torch.arange(1, len(x) + 1)).sum()
    leaves = [x, *stack.parameters()] if context is None else [x, context, *stack.parameters()]
    return [z, log_det, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("context_size", [0, 3])
def test_gradients_are_those_of_the_plain_stack(context_size, name):
    torch.manual_seed(0)
    steps = image_steps(context_size=context_size)
    plain, stack = Compose(*steps).double().eval(), Reversible(*steps).double().eval()
    randomize(plain)
    x = torch.randn(3, 4, 4, 2, dtype=torch.float64)
    context = torch.randn(3, context_size, dtype=torch.float64) if context_size else None
    with backend(name):
        for got, expected in zip(
            gradients(stack, x, context), gradients(plain, x, context), strict=True
        ):
            assert (got - expected).norm() <= 1e-8 * expected.norm() + 1e-12


def test_gradients_in_float32_agree_to_several_digits():
    torch.manual_seed(0)
    steps = image_steps(num=8)
    randomize(Compose(*steps), scale=0.1)
    x = torch.randn(8, 4, 8, 8)
    for got, expected in zip(
        gradients(Reversible(*steps).eval(), x), gradients(Compose(*steps).eval(), x), strict=True
    ):
        assert (got - expected).norm() <= 1e-4 * expected.norm()


def test_frozen_parameters_get_no_gradient_and_the_others_theirs():
    torch.manual_seed(0)
    steps = image_steps()
    plain = Compose(*steps).double().eval()
    randomize(plain)
    for parameter in list(plain.parameters())[::2]:
        parameter.requires_grad_(False)
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    results = []
    for stack in (plain, Reversible(*steps).eval()):
        stack.zero_grad()
        z, log_det = stack(x)
        (z.square().sum() - log_det.sum()).backward()
        results.append([parameter.grad for parameter in plain.parameters()])
    for got, expected in zip(results[1], results[0], strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            torch.testing.assert_close(got, expected)


def test_a_step_used_twice_adds_its_gradients():
    torch.manual_seed(0)
    step = AffineCoupling(MLP(2, (8,), 4))
    steps = [step, Permutation.reverse(4), step]
    plain, stack = Compose(*steps).double(), Reversible(*steps).double()
    randomize(plain)
    x = torch.randn(3, 4, dtype=torch.float64)
    for got, expected in zip(gradients(stack, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_parameter_that_changes_before_the_backward_pass_is_an_error():
    stack = Reversible(*image_steps()).eval()
    z, _ = stack(torch.randn(2, 4, 2, 2))
    with torch.no_grad():
        next(stack.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_second_derivatives_are_refused():
    stack = Reversible(*image_steps()).eval()
    x = torch.randn(2, 4, 2, 2, requires_grad=True)
    grad = torch.autograd.grad(stack(x)[0].square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_the_first_batch_initialises_actnorm_as_in_the_plain_stack():
    torch.manual_seed(0)
    plain = Compose(*image_steps())
    stack = Reversible(*copy.deepcopy(list(plain)))
    x = 3 + 2 * torch.randn(8, 4, 4, 4)
    for got, expected in zip(gradients(stack, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    for got, expected in zip(stack.buffers(), plain.buffers(), strict=True):
        assert torch.equal(got, expected)


def test_autocast_is_that_of_the_forward_pass():
    torch.manual_seed(0)
    steps = image_steps()
    randomize(Compose(*steps), scale=0.1)
    plain, stack = Compose(*steps).eval(), Reversible(*steps).eval()
    x = torch.randn(4, 4, 4, 4)
    results = []
    for flow in (plain, stack):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z, log_det = flow(x)
        assert z.dtype == torch.float32
        # outside of autocast, as training loops do
        loss = z.square().sum() - log_det.sum()
        results.append([z, log_det, *torch.autograd.grad(loss, list(flow.parameters()))])
    for got, expected in zip(results[1], results[0], strict=True):
        # The rebuilt inputs differ by a rounding of float32, which moves a few bfloat16 roundings.
        assert (got - expected).norm() <= 0.03 * expected.norm() + 1e-6


@pytest.mark.parametrize("name", sorted(FLOWS.keys() - {"ContinuousFlow", "ResidualFlow"}))
def test_flows_can_be_reversible(name):
    plain, flow = FLOWS[name](context_size=2), FLOWS[name](context_size=2, reversible=True)
    plain, flow = plain.double().eval(), flow.double().eval()
    randomize(plain)
    flow.load_state_dict(plain.state_dict())
    x, context = randn(4, *flow.event_shape), randn(4, 2, seed=1)
    grads = [
        torch.autograd.grad(model.log_prob(x, context).sum(), list(model.parameters()))
        for model in (flow, plain)
    ]
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
    assert any(isinstance(module, Reversible) for module in flow.modules())


def saved_bytes(stack: Transform, x: Tensor) -> int:
    """Memory that autograd holds between the passes, parameters not counted."""
    parameters = {parameter.data_ptr() for parameter in stack.parameters()}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = stack(x)
    gc.collect()
    del outputs
    return sum(held.values())


def test_memory_does_not_grow_with_depth():
    torch.manual_seed(0)

    def step() -> list[Transform]:
        return [ActNorm(4), AffineCoupling(ConvConditioner(2, 32, 4))]

    x = torch.randn(4, 4, 8, 8)
    sizes = {
        kind: [
            saved_bytes(kind(*(layer for _ in range(depth) for layer in step())).eval(), x)
            for depth in (4, 16)
        ]
        for kind in (Compose, Reversible)
    }
    assert sizes[Reversible][0] == sizes[Reversible][1] == x.numel() * 4
    assert sizes[Compose][1] > 3.5 * sizes[Compose][0]


def test_batch_normalised_networks_rewind_in_training_mode():
    torch.manual_seed(0)
    steps = [AffineCoupling(ResidualConditioner(2, 8, 4, num_blocks=1)) for _ in range(2)]
    randomize(Compose(*steps))
    x = torch.randn(8, 4, 4, 4, dtype=torch.float64)
    plain = Compose(*steps).double()
    expected = gradients(plain, x)
    for got, value in zip(gradients(Reversible(*steps).double(), x), expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-7, atol=1e-7)
