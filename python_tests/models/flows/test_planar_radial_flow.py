"""Planar and radial transforms and flows: Jacobians, hard inverses, derivatives, densities."""

import pytest
import torch
from testing.flow_testing import check_transform, grid_integral, redraw

from gencore.models import PlanarFlow, RadialFlow
from gencore.nn import Planar, Radial

LAYERS = (Planar, Radial)
FLOWS = (PlanarFlow, RadialFlow)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_inverse_and_log_det_are_those_of_the_jacobian(layer, features, scale):
    for seed in range(5):
        torch.manual_seed(seed)
        transform = layer(features, context_size=2).double()
        redraw(transform, scale)
        x, context = torch.randn(2, 7, 8, dtype=torch.float64).unbind(0)
        # Where a map is flat to 1e-4 its inverse magnifies roundings as much.
        check_transform(transform, x[:, :features], context[:, :2], tolerance=1e-7)


@pytest.mark.parametrize("layer", LAYERS)
def test_random_parameters_give_maps_that_never_fold(layer):
    """All eigenvalues of the Jacobian are positive everywhere (Rezende and Mohamed 2015, appendix
    A: wᵀu ≥ −1 and β ≥ −α), though the raw parameters obey no constraint."""
    x = 2 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    negative = 0
    for seed in range(100):
        transform = layer(3).double()
        redraw(transform, 2.0, seed)
        values = transform.parameters_of.values
        if layer is Planar:
            negative += bool(values[:3] @ values[3:6] < -1)
        sums = torch.autograd.functional.jacobian(lambda t, f=transform: f(t)[0].sum(0), x)
        assert (torch.linalg.eigvals(sums.transpose(0, 1)).real > 0).all()
    assert layer is Radial or negative > 20


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_both_directions_are_differentiable_twice(layer, direction):
    torch.manual_seed(0)
    transform = layer(3).double()
    redraw(transform)
    names, values = zip(*transform.named_parameters(), strict=True)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    class Direction(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.transform = transform

        def forward(self, x):
            return self.transform(x) if direction == "forward" else self.transform.inverse(x)

    def function(x, *parameters):
        by_name = {f"transform.{n}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(Direction(), by_name, (x,))

    leaves = (x, *(value.detach().requires_grad_() for value in values))
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("explicit", ["density", "sampling"])
def test_flows_invert_and_integrate_to_one_either_way(flow, explicit):
    torch.manual_seed(1)
    model = flow(2, num_layers=4, explicit=explicit, context_size=2).double()
    redraw(model, 0.7)
    x, context = torch.randn(2, 5, 2, dtype=torch.float64).unbind(0)
    check_transform(model.transform, x, context, tolerance=1e-7)
    assert grid_integral(model, 12.0, 400, context[:1]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("flow", FLOWS)
def test_samples_have_the_density(flow):
    """The mean of 1 / p over samples within a square is its area."""
    torch.manual_seed(0)
    model = flow(2, num_layers=3)
    redraw(model, 0.5)
    with torch.no_grad():
        x = model().sample((200_000,))
        inside = (x.abs() < 0.5).all(1)
        weights = torch.where(inside, torch.exp(-model.log_prob(x)), 0.0)
    error = weights.std() / len(x) ** 0.5
    assert abs(weights.mean() - 1.0) < 4 * error


def test_planar_folds_as_sharp_as_float32_allows_invert():
    """Slopes from 1e-9 to 150: Newton's method cycles within its bracket at the largest."""
    planar = Planar(1)
    for u in (-20.0, -5.0, 0.0, 50.0):
        with torch.no_grad():
            planar.parameters_of.values.copy_(torch.tensor([u, 3.0, 0.5]))
            x = torch.linspace(-3, 3, 10_001).unsqueeze(1)
            z, log_det = planar(x)
            back, _ = planar.inverse(z)
            again, _ = planar(back)
        assert back.isfinite().all()
        assert log_det.isfinite().all()
        # x is a difference of numbers as large as z, and its rounding is mapped forward again
        scale = z.abs() * (1 + log_det.exp().unsqueeze(1))
        assert ((again - z).abs() <= 4e-7 * (1 + scale)).all()


def test_a_radial_point_at_its_centre_inverts():
    radial = Radial(3)
    centre = radial.parameters_of.values[:3].detach().unsqueeze(0)
    z, log_det = radial(centre)
    assert torch.equal(z, centre)
    assert torch.equal(radial.inverse(z)[0], centre)
    assert log_det.isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
def test_half_types_have_float32_log_dets(layer):
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    for values, log_det in (layer(3)(x), layer(3).inverse(x)):
        assert values.dtype == torch.bfloat16
        assert log_det.dtype == torch.float32


@pytest.mark.parametrize("layer", LAYERS)
def test_bad_input_is_named(layer):
    name = layer.__name__
    with pytest.raises(ValueError, match=rf"{name}: features is 0"):
        layer(0)
    with pytest.raises(ValueError, match=rf"{name}: got data of shape \[4, 3\]"):
        layer(2)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=rf"{name}: expected a context \[4, 2\]"):
        layer(3, context_size=2)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="explicit is 'forward'"):
        PlanarFlow(2, explicit="forward")
