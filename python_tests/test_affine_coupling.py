"""The affine coupling and the gated step: the shared operator tests, closed forms, bad input."""

import math

import pytest
import torch
from op_tester import OpTester
from torch import Tensor

from gencore.ops import (
    affine_coupling,
    affine_coupling_backward_from_output,
    backend,
    iaf_step,
)

MASKED = [
    pytest.param(mask, swap, id=f"{mask}{' swapped' if swap else ''}")
    for mask in (None, "channel", "checkerboard")
    for swap in (False, True)
    if mask or not swap
]


def randn(*shape: int, seed: int = 0, device="cpu", dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def parts(x: Tensor, mask, swap, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A raw scale and a shift for x."""
    shape = list(x.shape)
    if mask == "channel":
        shape[1] = shape[1] - shape[1] // 2 if swap else shape[1] // 2
    raw_scale, shift = (randn(*shape, seed=seed + k, device=x.device).to(x.dtype) for k in range(2))
    return raw_scale, shift


def moved(x: Tensor, mask, swap) -> Tensor:
    """Where x is transformed, written out position by position."""
    where = torch.ones(x.shape, dtype=torch.bool)
    for index in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        if mask == "channel":
            where[tuple(index)] = (index[1] < x.shape[1] - x.shape[1] // 2) == swap
        if mask == "checkerboard":
            where[tuple(index)] = (index[2] + index[3]) % 2 == (0 if swap else 1)
    return where


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


class MaskedTester(OpTester):
    """Images, of which a part passes through; the parameters are one tensor."""

    differentiable = ("x", "parameters")
    needs_chains = True
    variants = {  # noqa: RUF012
        "channel": {"mask": "channel"},
        "channel swapped, inverse": {"mask": "channel", "swap": True, "inverse": True},
        "checkerboard": {"mask": "checkerboard"},
        "checkerboard swapped, inverse, exponential": {
            "mask": "checkerboard", "swap": True, "inverse": True, "bound": None,
        },
    }  # fmt: skip

    @staticmethod
    def function(x, parameters, **kind):
        return affine_coupling(x, parameters, None, **kind)

    def tensors(self, variant, shape, dtype, device):
        kind = self.variants[variant]
        # A shape of the tester as images with as many elements.
        image = shape if len(shape) == 4 else (*shape[:1], math.prod(shape[1:]), 1, 1)
        x = randn(*image, device=device, dtype=dtype)
        raw_scale, shift = parts(x, kind["mask"], kind.get("swap", False))
        return {"x": x, "parameters": torch.cat([raw_scale, shift], 1)}


class TestMaskedCoupling(MaskedTester):
    overload = torch.ops.gencore.affine_coupling.default

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (2, 3, 2, 3), torch.float64, device)
        kind = self.variants[variant]
        mask = 1 if kind["mask"] == "channel" else 2
        operands = t["x"].requires_grad_(), t["parameters"].requires_grad_(), None
        inverse, swap = kind.get("inverse", False), kind.get("swap", False)
        return *operands, 0 if "bound" in kind else 1, 1.0, inverse, mask, swap, True


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("shape", [(2, 3, 3, 5), (1, 1, 2, 2), (2, 2, 1, 1), (3, 4, 4, 4)], ids=str)
def test_masks_by_their_definition(mask, swap, shape, device):
    x = randn(*shape, device=device)
    raw_scale, shift = parts(x, mask, swap)
    y, log_det = affine_coupling(x, raw_scale, shift, bound=None, mask=mask, swap=swap)
    where = moved(x, mask, swap).to(device)
    assert torch.equal(y[~where], x[~where])
    if mask == "checkerboard":
        raw_scale, shift = raw_scale[where], shift[where]
    expected = x[where] * raw_scale.flatten().exp() + shift.flatten()
    torch.testing.assert_close(y[where], expected)
    torch.testing.assert_close(log_det, raw_scale.reshape(shape[0], -1).sum(1))


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_log_det_is_that_of_the_jacobian(mask, swap, bound, inverse):
    x = randn(1, 3, 2, 3)
    raw_scale, shift = parts(x, mask, swap)

    def flow(x: Tensor) -> tuple[Tensor, Tensor]:
        return affine_coupling(
            x, raw_scale, shift, bound=bound, inverse=inverse, mask=mask, swap=swap
        )

    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x)[0], x).reshape(18, 18)
    torch.testing.assert_close(flow(x)[1].squeeze(), torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_log_det_of_a_gated_step_is_that_of_the_jacobian(inverse):
    z, m, s = (randn(1, 6, seed=seed) for seed in range(3))
    jacobian = torch.autograd.functional.jacobian(
        lambda z: iaf_step(z, m, s, inverse=inverse)[0], z
    ).reshape(6, 6)
    _, log_det = iaf_step(z, m, s, inverse=inverse)
    torch.testing.assert_close(log_det.squeeze(), torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_inverse_undoes_the_map(mask, swap, bound, dtype, device):
    kind = {"bound": bound, "mask": mask, "swap": swap}
    x = randn(3, 5, 7, 6, device=device, dtype=dtype)
    raw_scale, shift = parts(x, mask, swap)
    y, log_det = affine_coupling(x, raw_scale, shift, **kind)
    back, negative = affine_coupling(y, raw_scale, shift, inverse=True, **kind)
    rounding = 64 * torch.finfo(dtype).eps
    torch.testing.assert_close(back, x, rtol=rounding, atol=rounding)
    torch.testing.assert_close(negative, -log_det)


def test_the_inverse_undoes_a_gated_step(device):
    z, m, s = (randn(4, 9, seed=seed, device=device) for seed in range(3))
    y, log_det = iaf_step(z, m, s)
    back, negative = iaf_step(y, m, s, inverse=True)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(negative, -log_det)


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_masked_derivatives(mask, swap, bound, inverse, joint):
    x = randn(2, 3, 2, 3).requires_grad_()
    parameters = torch.cat(parts(x, mask, swap), 1).requires_grad_()

    def flow(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        raw_scale, shift = (parameters, None) if joint else parameters.chunk(2, 1)
        return affine_coupling(
            x, raw_scale, shift, bound=bound, inverse=inverse, mask=mask, swap=swap
        )

    assert torch.autograd.gradcheck(flow, (x, parameters))
    assert torch.autograd.gradgradcheck(flow, (x, parameters))


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


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("form", ["apart", "joint", "additive"])
@pytest.mark.parametrize("name", ["native", "reference"])
def test_backward_from_output_is_the_backward_pass(mask, swap, bound, form, name, device):
    kind = {"bound": bound, "mask": mask, "swap": swap}
    x = randn(3, 5, 4, 6, device=device).requires_grad_()
    raw_scale, shift = parts(x, mask, swap)
    operands = {
        "apart": (raw_scale, shift),
        "joint": (torch.cat([raw_scale, shift], 1), None),
        "additive": (None, shift),
    }[form]
    leaves = [t.requires_grad_() for t in operands if t is not None]
    outputs = affine_coupling(x, *operands, **kind)
    y = outputs[0].detach()
    grads = randn(*x.shape, seed=8, device=device), randn(3, seed=9, device=device)
    used = slice(1 if form == "additive" else 2)
    expected = torch.autograd.grad(outputs[used], [x, *leaves], grads[used])
    with backend(name):
        ours = affine_coupling_backward_from_output(y, *operands, *grads, **kind)
    torch.testing.assert_close(ours[0], x.detach())
    present = [t for t in ours[1:] if t is not None]
    for a, b in zip(present, expected, strict=True):
        assert not a.requires_grad
        torch.testing.assert_close(a, b)
    assert [t is None for t in ours[2:]] == [t is None for t in operands]


def test_views_of_channels_are_read_where_they_are(device):
    """Any copy would hold other memory: the results come from views alone, for every operand."""
    wide = randn(4, 9, 3, 3, device=device, dtype=torch.float32)
    x, raw_scale, shift = wide[:, 1:4], wide[:, 4:7], wide[:, 6:9]
    ours = affine_coupling(x, raw_scale, shift)
    copies = affine_coupling(x.clone(), raw_scale.clone(), shift.clone())
    for a, b in zip(ours, copies, strict=True):
        assert torch.equal(a, b)


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


@pytest.mark.parametrize("mask", ["channel", "checkerboard"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_passes_through_is_not_touched(mask, value, device):
    """Nor does it reach a sum or a gradient, whatever it is."""
    x = randn(2, 4, 3, 3, device=device)
    passing = ~moved(x, mask, False).to(device)
    x[passing] = value
    raw_scale, shift = parts(x, mask, False)
    if mask == "checkerboard":
        raw_scale[passing] = shift[passing] = value
    leaves = [t.requires_grad_() for t in (x, raw_scale, shift)]
    y, log_det = affine_coupling(*leaves, mask=mask)
    torch.testing.assert_close(y[passing], x[passing], equal_nan=True)
    assert log_det.isfinite().all()
    grads = torch.autograd.grad((y[~passing].sum(), log_det.sum()), leaves)
    assert all(g.isfinite().all() for g in grads)
    assert not grads[0][passing].any()


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


@pytest.mark.parametrize("name", ["native", "reference"])
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
def test_bad_input_is_named(wrong, error, message, name):
    good = {key: torch.ones(2, 4) for key in ("x", "raw_scale", "shift")}
    with backend(name), pytest.raises(error, match=f"affine_coupling: .*{message}"):
        affine_coupling(**{**good, **wrong})


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"m": torch.ones(2, 3)}, ValueError, r"m has shape \[2, 3\], z has shape \[2, 4\]"),
        ({"s": torch.ones(2, 4).double()}, TypeError, "s is torch.float64, z is torch.float32"),
        ({"z": torch.tensor(1.0)}, ValueError, "z has no dimensions"),
    ],
    ids=str,
)
def test_bad_input_of_a_gated_step_is_named(wrong, error, message, name):
    good = {key: torch.ones(2, 4) for key in "zms"}
    with backend(name), pytest.raises(error, match=f"iaf_step: {message}"):
        iaf_step(**{**good, **wrong})


def test_bad_gradients_are_named():
    good = [torch.ones(2, 4) for _ in range(4)]
    with pytest.raises(ValueError, match=r"from_output: grad_log_det has shape \[3\]"):
        affine_coupling_backward_from_output(*good, torch.ones(3))
    with pytest.raises(ValueError, match=r"from_output: grad_y has shape \[2, 3\]"):
        affine_coupling_backward_from_output(*good[:3], torch.ones(2, 3), torch.ones(2))
