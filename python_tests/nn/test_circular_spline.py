"""Circular spline couplings: Jacobians, and what a map of the circle promises."""

import math

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch import Tensor, nn

from gencore.nn import MLP, CircularSplineCoupling, Compose, Reversible
from gencore.nn.transforms.circular_spline import wrap_angle
from gencore.ops import rational_quadratic_spline

PI = math.pi


def made(features: int, *, swap: bool = False, context_size: int = 0, bins: int = 5, **options):
    """A coupling in float64 that is no identity."""
    swap = swap or features == 1
    moved = features - features // 2 if swap else features // 2
    network = MLP(2 * (features - moved), [8], moved * (3 * bins + 1), context_size=context_size)
    coupling = CircularSplineCoupling(network, num_bins=bins, swap=swap, **options).double()
    redraw(coupling, seed=features)
    return coupling


def angles(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return PI * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


def apart(a: Tensor, b: Tensor) -> float:
    """The largest distance of two angles on the circle."""
    return (torch.remainder(a.double() - b.double() + PI, 2 * PI) - PI).abs().max().item()


class Given(nn.Module):
    """A network that gives the same to all."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, seen: Tensor) -> Tensor:
        return self.raw.expand(len(seen), -1)


@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_inverse_and_log_det_are_those_of_the_jacobian(features, swap, bound):
    coupling = made(features, swap=swap, context_size=2, bound=bound)
    check_transform(coupling, angles(6, features), randn(6, 2), tolerance=1e-8)


def test_a_mask_of_ones_own():
    mask = [True, False, True, False]
    network = MLP(4, [8], 2 * 16)
    coupling, x = CircularSplineCoupling(network, mask=mask, num_bins=5).double(), angles(6, 4)
    redraw(coupling, seed=0)
    check_transform(coupling, x, tolerance=1e-8)
    assert ((coupling(x)[0] == x).all(0) == ~torch.tensor(mask)).all()


def test_zeros_make_it_the_identity():
    x = angles(50, 3).float()
    z, log_det = CircularSplineCoupling(Given(torch.zeros(1, 25)))(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(50), rtol=0, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_with_slopes_of_one_at_the_ends_it_is_the_spline_of_the_line(inverse):
    raw = randn(1, 25)
    raw[:, 23:] = 0.0  # the slope at the ends, and the phase
    x = angles(40, 2)
    layer = CircularSplineCoupling(Given(raw), bound=1.0)
    z, log_det = layer.inverse(x) if inverse else layer(x)
    parameters = raw[:, None, :23].expand(40, 1, 23).split([8, 8, 7], 2)
    expected, expected_log_det = rational_quadratic_spline(
        x[:, 1:], *parameters, tail_bound=PI, inverse=inverse
    )
    torch.testing.assert_close(z[:, 1:], expected)
    torch.testing.assert_close(log_det, expected_log_det)
    assert torch.equal(z[:, 0], x[:, 0])


def test_the_map_and_its_slope_are_continuous_at_the_seams():
    """Where the data are cut, where the spline's ends are, and in an angle that is kept."""
    coupling = made(2)
    kept = torch.tensor([0.7], dtype=torch.float64)
    raw = coupling.network(torch.cat([kept.cos(), kept.sin()])[None])
    phase, end = raw[0, -1].item(), 2 * torch.tanh(raw[0, -2] / 2).item()
    expected = math.log(1e-3 + math.log1p(math.exp(end + math.log(math.exp(1 - 1e-3) - 1))))
    for seam in (PI, PI - phase):
        sides = torch.tensor([[0.7, seam - 1e-10], [0.7, seam + 1e-10]], dtype=torch.float64)
        z, log_det = coupling(sides)
        assert apart(z[0], z[1]) < 1e-8
        assert abs(log_det[0].item() - log_det[1].item()) < 1e-7
        if seam != PI:  # the ends of the spline, a fixed point with one slope from either side
            assert apart(z[:, 1], z.new_tensor(PI)) < 1e-8
            assert log_det.tolist() == pytest.approx([expected] * 2, abs=1e-7)
    sides = torch.tensor([[-PI + 1e-10, 0.4], [PI - 1e-10, 0.4]], dtype=torch.float64)
    z, log_det = coupling(sides)
    assert apart(z[0], z[1]) < 1e-8
    assert abs(log_det[0].item() - log_det[1].item()) < 1e-8


def test_a_turn_of_the_data_is_a_phase():
    raw = randn(1, 16)
    turned = raw.clone()
    turned[:, -1] += 1.3
    x = angles(30, 1)
    layers = [CircularSplineCoupling(Given(r), num_bins=5, swap=True) for r in (raw, turned)]
    z, log_det = layers[0](x + 1.3)
    expected, expected_log_det = layers[1](x)
    assert apart(z, expected) < 1e-12
    torch.testing.assert_close(log_det, expected_log_det)


def test_angles_go_through_modulo_whole_turns():
    coupling, x = made(4), angles(20, 4)
    z, log_det = coupling(x)
    for turns in (-2, 1, 5):
        again, again_log_det = coupling(x + 2 * PI * turns)
        assert apart(again, z) < 1e-12
        assert again.abs().max() <= PI
        torch.testing.assert_close(again_log_det, log_det)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_results_are_angles_of_their_dtype(dtype):
    pi = torch.tensor(PI, dtype=dtype)
    ends = torch.stack([-pi, pi, torch.nextafter(pi, 0 * pi), 0 * pi, 3 * pi])
    wrapped = wrap_angle(ends)
    assert wrapped.dtype == dtype
    assert ((wrapped >= -pi) & (wrapped < pi)).all()
    assert torch.equal(wrapped[[0, 2, 3]], ends[[0, 2, 3]])
    assert apart(wrapped, ends) < 2 * torch.finfo(dtype).eps * PI
    grid = torch.cat([torch.linspace(-PI, PI, 2001).to(dtype), ends])
    x = torch.stack([grid.roll(700), grid], 1)
    coupling = made(2).to(dtype)
    z, log_det = coupling(x)
    assert z.dtype == dtype
    assert log_det.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert ((z >= -pi) & (z < pi)).all()
    back = coupling.inverse(z)[0]
    assert ((back >= -pi) & (back < pi)).all()
    if dtype != torch.bfloat16:
        assert apart(back, x) < 500 * torch.finfo(dtype).eps


def test_first_and_second_derivatives():
    def mapped(x, raw):
        return CircularSplineCoupling(Given(raw), num_bins=3)(x)

    x, raw = angles(3, 2).requires_grad_(), randn(1, 10, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(mapped, (x, raw))
    assert torch.autograd.gradgradcheck(mapped, (x, raw))


def test_a_reversible_stack_has_the_same_gradients():
    layers = [made(3, context_size=2), made(3, swap=True, context_size=2)]
    found = []
    for stack in (Compose(*layers), Reversible(*layers)):
        x, context = angles(5, 3).requires_grad_(), randn(5, 2).requires_grad_()
        z, log_det = stack(x, context)
        loss = z.cos().sum() + (log_det * torch.arange(5)).sum()
        found.append(torch.autograd.grad(loss, [x, context, *stack.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-8)


def test_bad_input_is_named():
    network = nn.Linear(2, 25)
    with pytest.raises(ValueError, match=r"^CircularSplineCoupling: num_bins is 1; expected 2"):
        CircularSplineCoupling(network, num_bins=1)
    with pytest.raises(ValueError, match=r"^CircularSplineCoupling: bound"):
        CircularSplineCoupling(network, bound=-1.0)
    with pytest.raises(ValueError, match=r"^CircularSplineCoupling: mask is 'checkerboard'"):
        CircularSplineCoupling(network, mask="checkerboard")
    with pytest.raises(ValueError, match=r"of which nothing moves"):
        CircularSplineCoupling(network)(torch.zeros(3, 1))
    for shape in ((3,), (3, 2, 2)):
        with pytest.raises(ValueError, match=r"expected angles \[N, D\]"):
            CircularSplineCoupling(network)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"the network gives \[3, 25\]; expected \[3, 13\]"):
        CircularSplineCoupling(network, num_bins=4)(torch.zeros(3, 2))
