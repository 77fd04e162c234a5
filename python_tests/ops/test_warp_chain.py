"""warp_chain: shifts add up, zero fields, derivatives, errors."""

import pytest
import torch
from testing.host_executor import DTYPES

from gencore.ops import warp_chain


def images(*shape, dtype=torch.float64, device="cpu", seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_displacements_add_up(dtype, device):
    x = images(2, 3, 6, 9, dtype=dtype, device=device)
    flows = torch.zeros(2, 3, 2, 6, 9, dtype=dtype, device=device)
    flows[:, 0, 0], flows[:, 1, 1], flows[:, 2, 0] = 2.0, -1.0, 1.0
    frames = warp_chain(x, flows)
    columns, rows = torch.arange(9), torch.arange(6)
    for t, (right, down) in enumerate(((2, 0), (2, -1), (3, -1))):
        # The border's pixels go on, so that clamped steps are one clamped step.
        expected = x[:, :, (rows + down).clamp(0, 5)][..., (columns + right).clamp(0, 8)]
        assert torch.equal(frames[:, t], expected)
    dark = warp_chain(x, flows, padding="zeros")
    assert torch.equal(dark[:, 2, :, 1:, :-3], x[:, :, :-1, 3:])
    assert not dark[:, 2, :, 0].any()
    assert not dark[:, 2, ..., -3:].any()


def test_fields_of_zero_and_no_fields(device):
    x = images(2, 3, 6, 9, device=device)
    flows = torch.zeros(2, 4, 2, 6, 9, dtype=x.dtype, device=device)
    assert torch.equal(warp_chain(x, flows), x[:, None].expand(2, 4, 3, 6, 9))
    assert warp_chain(x, flows[:, :0]).shape == (2, 0, 3, 6, 9)


def test_derivatives(device):
    x = images(2, 2, 3, 4, device=device).requires_grad_()
    whole = images(2, 2, 2, 3, 4, device=device).round()
    # Off the grid by a tenth, where finite differences see one of the kink's sides.
    part = 0.1 + 0.8 * images(2, 2, 2, 3, 4, device=device, seed=3).sigmoid()
    flows = (whole + part).requires_grad_()
    assert torch.autograd.gradcheck(warp_chain, (x, flows))
    assert torch.autograd.gradgradcheck(warp_chain, (x, flows))


def test_the_last_frame_reaches_the_image_and_all_fields(device):
    x = images(1, 1, 6, 7, device=device).requires_grad_()
    flows = (0.3 * images(1, 3, 2, 6, 7, device=device)).requires_grad_()
    grads = torch.autograd.grad(warp_chain(x, flows)[:, -1].square().sum(), (x, flows))
    assert grads[0].any()
    assert all(grads[1][:, t].any() for t in range(3))


X, FLOWS = torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": X[0]}, ValueError, r"image has shape \[3, 4, 5\]"),
        ({"flows": FLOWS[:, 0]}, ValueError, r"flows has shape \[2, 2, 4, 5\], expected \[2, T, 2"),
        ({"flows": FLOWS[:1]}, ValueError, r"flows has shape \[1, 6, 2, 4, 5\], expected \[2, T, "),
        ({"flows": FLOWS.double()}, TypeError, "flows is torch.float64, expected torch.float32"),
        ({"padding": "reflect"}, ValueError, "padding is 'reflect'"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=f"^warp_chain: {message}"):
        warp_chain(**{"image": X, "flows": FLOWS, **arguments})
