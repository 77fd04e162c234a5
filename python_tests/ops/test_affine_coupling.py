"""The affine coupling and the gated step: the shared operator tests, closed forms, bad input."""

import math

import pytest
import torch
from testing.flow_testing import jacobian_log_det, randn
from testing.op_tester import OpTester
from torch import Tensor

from gencore.ops import (
    affine_coupling,
    affine_coupling_backward_from_output,
    backend,
    iaf_step,
)


class TestAffineCoupling(OpTester):
    function = staticmethod(affine_coupling)
    overload = torch.ops.gencore.affine_coupling.default
    differentiable = ("x", "raw_scale", "shift")
    needs_chains = True
    variants = {  # noqa: RUF012
        "bounded": {"bound": 1.5},
        "bounded inverse": {"bound": 1.5, "inverse": True},
        "exponential": {"bound": None},
        "exponential inverse": {"bound": None, "inverse": True},
        "additive": {"raw_scale": None},
        "additive inverse": {"raw_scale": None, "inverse": True},
    }
    traced = ("bounded", "exponential inverse", "additive")

    def tensors(self, variant, shape, dtype, device):
        names = [n for n in self.differentiable if n == "x" or n not in self.variants[variant]]
        return {
            name: randn(*shape, seed=seed, device=device, dtype=dtype)
            for seed, name in enumerate(names)
        }

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        bound = self.variants[variant].get("bound", 1.0)
        kind = 0 if bound is None or "additive" in variant else 1
        operands = [t[n].requires_grad_() if n in t else None for n in self.differentiable]
        return *operands, kind, bound or 1.0, "inverse" in variant, 0, False, False


class TestIafStep(OpTester):
    function = staticmethod(iaf_step)
    overload = torch.ops.gencore.affine_coupling.default
    differentiable = ("z", "m", "s")
    needs_chains = True
    variants = {"forward": {}, "inverse": {"inverse": True}}  # noqa: RUF012

    def tensors(self, variant, shape, dtype, device):
        return {
            name: randn(*shape, seed=seed, device=device, dtype=dtype)
            for seed, name in enumerate(self.differentiable)
        }

    def overload_arguments(self, variant, device):
        z, m, s = self.tensors(variant, (4, 3), torch.float64, device).values()
        operands = (t.requires_grad_() for t in (z, s, m))
        return *operands, 2, 1.0, variant == "inverse", 0, False, False


@pytest.mark.parametrize("inverse", [False, True])
def test_the_log_det_of_a_gated_step_is_that_of_the_jacobian(inverse):
    z, m, s = (randn(2, 6, seed=seed) for seed in range(3))
    _, log_det = iaf_step(z, m, s, inverse=inverse)
    expected = jacobian_log_det(lambda z: iaf_step(z, m, s, inverse=inverse)[0], z)
    torch.testing.assert_close(log_det, expected)


def test_the_inverse_undoes_a_gated_step(device):
    z, m, s = (randn(4, 9, seed=seed, device=device) for seed in range(3))
    y, log_det = iaf_step(z, m, s)
    back, negative = iaf_step(y, m, s, inverse=True)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(negative, -log_det)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_third_derivatives(inverse, joint):
    x, parameters = randn(2, 2).requires_grad_(), randn(2, 4, seed=1).requires_grad_()

    def gradient(x: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
        raw_scale, shift = (parameters, None) if joint else parameters.chunk(2, 1)
        y, log_det = affine_coupling(x, raw_scale, shift, inverse=inverse)
        loss = y.pow(3).sum() + log_det.square().sum()
        return torch.autograd.grad(loss, (x, parameters), create_graph=True)

    assert torch.autograd.gradgradcheck(gradient, (x, parameters))


@pytest.mark.parametrize("inverse", [False, True])
def test_a_missing_gradient_is_zero(inverse, device):
    leaves = [randn(3, 5, seed=seed, device=device).requires_grad_() for seed in range(3)]
    outputs = affine_coupling(*leaves, inverse=inverse)
    zeros = [torch.zeros_like(out) for out in outputs]
    weight = randn(3, 5, seed=9, device=device)
    for used, ones in ((0, weight), (1, weight[:, 0])):
        ours = torch.autograd.grad(
            outputs[used], leaves, ones, retain_graph=True, allow_unused=True
        )
        both = [ones if k == used else zeros[k] for k in range(2)]
        whole = torch.autograd.grad(outputs, leaves, both, retain_graph=True)
        for a, b in zip(ours, whole, strict=True):
            assert torch.equal(torch.zeros_like(b) if a is None else a, b)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_bound_holds_for_any_raw_scale(inverse, dtype, device):
    raw = torch.tensor([[1e4, -1e4, math.inf, -math.inf, 0.0]], device=device, dtype=dtype)
    x = torch.ones_like(raw).requires_grad_()
    raw.requires_grad_()
    y, log_det = affine_coupling(x, raw, torch.zeros_like(x), bound=3.0, inverse=inverse)
    sign = -1 if inverse else 1
    s = sign * torch.tensor([[3.0, -3.0, 3.0, -3.0, 0.0]], device=device, dtype=dtype)
    torch.testing.assert_close(y.detach(), s.exp())
    torch.testing.assert_close(log_det.detach(), torch.zeros_like(log_det))
    y.sum().backward()
    torch.testing.assert_close(raw.grad, torch.tensor([[0.0] * 4 + [sign]]).to(raw))


def test_an_unbounded_scale_overflows_and_underflows_as_exp_does(device):
    raw = torch.linspace(-120, 100, 2001, device=device).unsqueeze(0)
    y, _ = affine_coupling(torch.ones_like(raw), raw, torch.zeros_like(raw), bound=None)
    smallest = torch.finfo(torch.float32).tiny
    torch.testing.assert_close(y, raw.exp(), rtol=4e-7, atol=smallest)
    assert y[0, 0] == 0.0
    assert y[0, -1] == math.inf


def test_small_scales_keep_their_digits(device):
    raw = torch.logspace(-30, 0, 200, device=device).unsqueeze(1)
    _, log_det = affine_coupling(torch.ones_like(raw), raw, torch.zeros_like(raw))
    exact = 2.0 * torch.tanh(raw.double().squeeze(1) / 2.0)
    torch.testing.assert_close(log_det.double(), exact, rtol=5e-7, atol=0.0)


@pytest.mark.parametrize("s", [1e4, -1e4, 40.0, -40.0])
def test_a_gate_is_stable_at_its_ends(s, device):
    z, m = (randn(2, 3, seed=seed, device=device, dtype=torch.float32) for seed in range(2))
    y, log_det = iaf_step(z, m, torch.full_like(z, s))
    torch.testing.assert_close(y, z if s > 0 else m)
    expected = torch.full_like(log_det, 0.0 if s > 0 else 3 * s)
    torch.testing.assert_close(log_det, expected)


@pytest.mark.parametrize("operand", range(3))
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("inverse", [False, True])
def test_nan_spreads_to_its_own_entry_alone(operand, bound, inverse, device):
    tensors = [randn(2, 40, seed=seed, device=device, dtype=torch.float32) for seed in range(3)]
    tensors[operand][1, 7] = math.nan
    for result in (
        affine_coupling(*tensors, bound=bound, inverse=inverse),
        iaf_step(tensors[0], tensors[2], tensors[1], inverse=inverse),
    ):
        assert result[0].isnan().nonzero().tolist() == [[1, 7]]
        assert result[1].isnan().tolist() == [False, operand == 1]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_large_rows_are_the_same_for_any_number_of_threads(rows, device):
    """A row is cut into pieces, and these are summed up in their order."""
    tensors = [randn(rows, 100_001, seed=s, device=device, dtype=torch.float32) for s in range(3)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(affine_coupling(*tensors))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
    exact = (2.0 * torch.tanh(tensors[1].double() / 2.0)).sum(1)
    torch.testing.assert_close(results[0][1].double(), exact, rtol=0.0, atol=2e-4)


def test_rows_without_elements_have_a_log_det(device):
    empty = torch.zeros(3, 0, device=device)
    assert affine_coupling(empty, empty, empty)[1].tolist() == [0.0] * 3
    whole = torch.ones(2, 1, 2, 2, device=device)
    nothing = torch.ones(2, 0, 2, 2, device=device)
    y, log_det = affine_coupling(whole, nothing, nothing, mask="channel")
    assert torch.equal(y, whole)
    assert log_det.tolist() == [0.0, 0.0]


def test_backward_operators_pass_opcheck():
    x, raw_scale, shift, grad_y, a, b, c = (randn(2, 3, seed=s).requires_grad_() for s in range(7))
    h = randn(2, seed=8).requires_grad_()
    settings = (1, 2.0, True, 0, False, False)
    ops = torch.ops.gencore
    saved = (grad_y, h, x, raw_scale, shift)
    torch.library.opcheck(
        ops.affine_coupling_backward.default, (*saved, *settings, True, True, True)
    )
    detached = [t.detach() for t in (a, b, c, *saved)]
    torch.library.opcheck(ops.affine_coupling_double_backward.default, (*detached, *settings))
    settings = (1, 2.0, False, 0, False, False)
    y, raw_scale, shift, grad_y, h = (t.detach() for t in (x, raw_scale, shift, grad_y, h))
    torch.library.opcheck(
        ops.affine_coupling_backward_from_output.default,
        (y, raw_scale, shift, grad_y, h, *settings, True),
    )


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.ones(2, 4).int()}, TypeError, "x is torch.int32"),
        ({"x": torch.tensor(1.0)}, ValueError, "x has no dimensions"),
        ({"raw_scale": torch.ones(2, 3)}, ValueError, r"raw_scale has shape \[2, 3\]"),
        ({"raw_scale": torch.ones(2, 4).half()}, TypeError, "raw_scale is torch.float16"),
        ({"raw_scale": 1.0}, TypeError, "raw_scale must be a tensor, got float"),
        ({"shift": torch.ones(2, 4, device="meta")}, ValueError, "shift is on meta"),
        ({"shift": torch.ones(2, 3)}, ValueError, r"shift has shape \[2, 3\]"),
        ({"shift": None}, ValueError, r"raw_scale has shape \[2, 4\].*twice over"),
        ({"shift": None, "raw_scale": None}, TypeError, "both None"),
        ({"bound": 0.0}, ValueError, "bound is 0.0; expected more than 0 and at most 80"),
        ({"bound": 81.0}, ValueError, "bound is 81.0"),
        ({"bound": math.nan}, ValueError, "bound must be finite"),
        ({"bound": "wide"}, TypeError, "bound must be"),
        ({"mask": "rows"}, ValueError, "mask is 'rows'; expected None, 'channel', 'checkerboard'"),
        ({"mask": "channel"}, ValueError, r"transformed part of x has shape \[2, 2\]"),
        ({"mask": "checkerboard"}, ValueError, r"x has shape \[2, 4\]; mask='checkerboard'"),
        ({"x": torch.ones(2), "mask": "channel"}, ValueError, r"x has shape \[2\]; mask='channel'"),
        ({"x": torch.ones(2), "shift": None}, ValueError, r"x has shape \[2\]; without a shift"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for name in ("native", "reference"):
        good = {key: torch.ones(2, 4) for key in ("x", "raw_scale", "shift")}
        with backend(name), pytest.raises(error, match=f"affine_coupling: .*{message}"):
            affine_coupling(**{**good, **wrong})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"m": torch.ones(2, 3)}, ValueError, r"m has shape \[2, 3\], z has shape \[2, 4\]"),
        ({"s": torch.ones(2, 4).double()}, TypeError, "s is torch.float64, z is torch.float32"),
        ({"z": torch.tensor(1.0)}, ValueError, "z has no dimensions"),
    ],
    ids=str,
)
def test_bad_input_of_a_gated_step_is_named(wrong, error, message):
    for name in ("native", "reference"):
        good = {key: torch.ones(2, 4) for key in "zms"}
        with backend(name), pytest.raises(error, match=f"iaf_step: {message}"):
            iaf_step(**{**good, **wrong})


def test_bad_gradients_are_named():
    good = [torch.ones(2, 4) for _ in range(4)]
    with pytest.raises(ValueError, match=r"from_output: grad_log_det has shape \[3\]"):
        affine_coupling_backward_from_output(*good, torch.ones(3))
    with pytest.raises(ValueError, match=r"from_output: grad_y has shape \[2, 3\]"):
        affine_coupling_backward_from_output(*good[:3], torch.ones(2, 3), torch.ones(2))


@pytest.mark.parametrize("name", ["native", "reference"])
def test_a_saturated_scale_has_no_slope(name, device):
    """tanh is one in float32 from 9.02 on, however large the multiplier is."""
    raw = torch.tensor([[800.0, -800.0, math.inf]], device=device, requires_grad=True)
    x, shift = torch.ones(1, 3, device=device), torch.zeros(1, 3, device=device)
    with backend(name):
        y, log_det = affine_coupling(x, raw, shift, bound=80.0)
        (grad,) = torch.autograd.grad(y.sum() + log_det.sum(), raw)
    assert log_det.item() == pytest.approx(80.0)
    assert grad.eq(0).all()


@pytest.mark.parametrize("name", ["native", "reference"])
def test_a_closed_gate_is_inverted_to_infinity(name, device):
    m, s = torch.ones(1, 2, device=device), torch.full((1, 2), -100.0, device=device)
    z = torch.tensor([[3.0, -3.0]], device=device)
    with backend(name):
        x, log_det = iaf_step(z, m, s, inverse=True)
    assert x.tolist() == [[math.inf, -math.inf]]
    assert log_det.item() == pytest.approx(200.0)
