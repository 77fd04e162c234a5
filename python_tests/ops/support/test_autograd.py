"""Operators in autograd's graphs: recorded by the short way as by torch's own, and forward mode."""

import pytest
import torch
from torch.autograd import forward_ad

from gencore.ops import actnorm, affine_coupling


def operands(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_()
        for size in sizes
    ]


def test_public_function_and_operator_by_name_have_the_same_gradients():
    x, log_scale, bias = leaves = operands((5, 3), (3,), (3,))
    ways = (actnorm(x, log_scale, bias), torch.ops.gencore.actnorm(x, log_scale, bias, False))
    first, second = (
        torch.autograd.grad(y.square().sum() + log_det.exp().sum(), leaves) for y, log_det in ways
    )
    for ours, torchs in zip(first, second, strict=True):
        assert torch.equal(ours, torchs)


def test_nothing_is_recorded_where_nothing_is_wanted():
    x, raw = operands((5, 3), (5, 3))
    with torch.no_grad():
        y, log_det = affine_coupling(x, raw, raw)
    assert y.grad_fn is None
    assert log_det.grad_fn is None


def test_an_operand_changed_before_the_backward_pass_is_noticed():
    x, log_scale, bias = operands((5, 3), (3,), (3,))
    h = 1.0 * x
    y, _ = actnorm(h, log_scale, bias)
    h.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_saved_operands_pass_through_hooks():
    packed = []
    x, log_scale, bias = operands((5, 3), (3,), (3,))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: packed.append(t.shape) or t, lambda t: t
    ):
        actnorm(x, log_scale, bias)
    assert packed == [(5, 3), (3,), (3,)]


def test_forward_mode_over_a_graph_of_kernels_says_what_to_do():
    x, log_scale, bias = operands((5, 3), (3,), (3,))
    y, _ = actnorm(x, log_scale, bias)
    with forward_ad.dual_level():
        grad = forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y))
        with pytest.raises(NotImplementedError, match=r"actnorm_backward.*inside.*dual_level"):
            torch.autograd.grad(y, x, grad)
