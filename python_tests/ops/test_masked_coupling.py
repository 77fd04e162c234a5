"""Couplings of images, a part of which passes through: masks by their definition, derivatives."""

import math

import pytest
import torch
from testing.flow_testing import jacobian_log_det, randn
from testing.op_tester import OpTester
from torch import Tensor

from gencore.ops import affine_coupling, affine_coupling_backward_from_output, backend

MASKED = [
    pytest.param(mask, swap, id=f"{mask}{' swapped' if swap else ''}")
    for mask in (None, "channel", "checkerboard")
    for swap in (False, True)
    if mask or not swap
]


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
    traced = ("channel", "checkerboard swapped, inverse, exponential")

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

    torch.testing.assert_close(flow(x)[1], jacobian_log_det(lambda x: flow(x)[0], x))


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


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize(("bound", "joint"), [(2.0, False), (None, True)])
@pytest.mark.parametrize("inverse", [False, True])
def test_masked_derivatives(mask, swap, bound, inverse, joint):
    x = randn(1, 3, 2, 2).requires_grad_()
    parameters = torch.cat(parts(x, mask, swap), 1).requires_grad_()

    def flow(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        raw_scale, shift = (parameters, None) if joint else parameters.chunk(2, 1)
        return affine_coupling(
            x, raw_scale, shift, bound=bound, inverse=inverse, mask=mask, swap=swap
        )

    assert torch.autograd.gradcheck(flow, (x, parameters))
    assert torch.autograd.gradgradcheck(flow, (x, parameters))


@pytest.mark.parametrize(("mask", "swap"), MASKED)
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("form", ["apart", "joint", "additive"])
def test_backward_from_output_is_the_backward_pass(mask, swap, bound, form, device):
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
    for name in ("native", "reference"):
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
