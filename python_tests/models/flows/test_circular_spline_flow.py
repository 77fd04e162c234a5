"""Flows on the circle and the torus: densities, samples, and a fit."""

import copy
import math

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, VonMises

from gencore.models import CircularSplineFlow

PI = math.pi


def made(features: int, num_layers: int = 3, **options) -> CircularSplineFlow:
    """A flow in float64 that is not the uniform law."""
    torch.manual_seed(features)
    flow = CircularSplineFlow(
        features, num_layers=num_layers, hidden_widths=[8], **options
    ).double()
    redraw(flow, 0.3, seed=1)
    return flow


def torus(features: int, points: int) -> Tensor:
    """A grid of equal steps over all angles."""
    axis = -PI + 2 * PI * torch.arange(points, dtype=torch.float64) / points
    return torch.cartesian_prod(*[axis] * features).view(-1, features)


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("features", [1, 2, 4])
def test_inverse_and_log_det_are_those_of_the_jacobian(features, context_size, reversible):
    flow = made(features, context_size=context_size, reversible=reversible)
    x = 2 * PI * torch.rand(5, features, dtype=torch.float64) - PI
    context = randn(5, context_size) if context_size else None
    check_transform(flow.transform, x, context, tolerance=1e-8)
    if context is not None:
        assert len(flow.log_prob(x[:1].expand(5, -1), context).unique()) == 5


def test_it_starts_as_the_uniform_law():
    flow = CircularSplineFlow(3)
    x = flow.sample(1000)
    torch.testing.assert_close(flow.log_prob(x), torch.full((1000,), -3 * math.log(2 * PI)))
    # of the cosine and the sine of a uniform angle the variance is 1/2
    for moment in (x.cos(), x.sin()):
        assert moment.mean(0).abs().max() < 4 * math.sqrt(0.5 / 1000)


@pytest.mark.parametrize(("features", "points"), [(1, 20_000), (2, 300)])
def test_the_density_integrates_to_one_and_has_no_seam(features, points):
    flow = made(features)
    with torch.no_grad():
        density = flow.log_prob(torus(features, points)).exp()
        assert density.max() > 2 * density.min()
        volume = (2 * PI) ** features
        assert (density.mean() * volume).item() == pytest.approx(1.0, abs=1e-4)
        x = torus(features, 7)
        for seam in (PI, -PI):
            sides = []
            for shift in (-1e-9, 1e-9):
                moved = x.clone()
                moved[:, -1] = seam + shift
                sides.append(flow.log_prob(moved))
            torch.testing.assert_close(sides[0], sides[1], rtol=0, atol=1e-6)
        whole_turns = flow.log_prob(x + 2 * PI)
        torch.testing.assert_close(whole_turns, flow.log_prob(x))


def test_samples_have_the_density():
    """Means of cosines and sines over samples, and by quadrature."""
    flow = made(2)
    with torch.no_grad():
        x, log_prob = flow.sample_and_log_prob(40_000, key=torch.tensor([1, 2]))
        torch.testing.assert_close(log_prob, flow.log_prob(x), rtol=1e-8, atol=1e-8)
        assert torch.equal(x, flow.sample(40_000, key=torch.tensor([1, 2])))
        assert x.abs().max() <= PI
        grid = torus(2, 200)
        weights = flow.log_prob(grid).exp() * (2 * PI / 200) ** 2
        for function in (torch.cos, torch.sin, lambda t: torch.cos(t.sum(1, keepdim=True))):
            values, exact = function(x), (weights[:, None] * function(grid)).sum(0)
            error = 4 * values.std(0) / math.sqrt(len(x)) + 1e-3
            assert ((values.mean(0) - exact).abs() < error).all()
    part = flow.sample(10, key=torch.tensor([1, 2]), first=30)
    torch.testing.assert_close(part, x[30:40], rtol=1e-8, atol=1e-8)


def test_it_learns_a_mixture_of_von_mises_on_the_torus():
    torch.manual_seed(0)
    locations = torch.tensor([[PI, 0.5], [0.0, -2.0], [1.5, PI - 0.1]])  # two at the seams
    concentrations = torch.tensor([[4.0, 8.0], [6.0, 3.0], [10.0, 10.0]])
    law = MixtureSameFamily(
        Categorical(torch.tensor([0.4, 0.3, 0.3])),
        Independent(VonMises(locations, concentrations), 1),
    )
    data, fresh = law.sample((30_000,)), law.sample((10_000,))
    flow = CircularSplineFlow(2, hidden_widths=[32])
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / 150)
        loss = -flow.log_prob(data[torch.randint(len(data), (512,))]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        ratios = law.log_prob(fresh) - flow.log_prob(fresh)
    error = 4 * ratios.std().item() / math.sqrt(len(fresh))
    # 1.46 nats for the uniform law, with which it starts
    assert -error < ratios.mean().item() < 0.05 + error


def test_it_compiles_and_is_copied():
    flow, x = made(2, num_layers=1), torch.rand(4, 2, dtype=torch.float64)
    expected = flow.log_prob(x)
    torch.testing.assert_close(copy.deepcopy(flow).log_prob(x), expected)
    compiled = torch.compile(flow.log_prob, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected)
    by_row = torch.func.vmap(lambda row: flow.log_prob(row[None])[0])(x)
    torch.testing.assert_close(by_row, expected)


def test_it_is_a_distribution_of_its_context():
    flow = made(2, context_size=3)
    density = flow(randn(4, 3))
    x = density.sample((5,))
    assert x.shape == (5, 4, 2)
    assert density.log_prob(x).shape == (5, 4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"^CircularSplineFlow: features is 0"):
        CircularSplineFlow(0)
    with pytest.raises(ValueError, match="num_bins is 1"):
        CircularSplineFlow(2, num_bins=1)
    flow = CircularSplineFlow(2)
    with pytest.raises(ValueError, match=r"^CircularSplineFlow: temperature is 0\.5; expected 1"):
        flow(temperature=0.5).sample()
    with pytest.raises(ValueError, match=r"^CircularSplineFlow: temperature is 2"):
        flow.log_prob(torch.zeros(1, 2), temperature=2)
