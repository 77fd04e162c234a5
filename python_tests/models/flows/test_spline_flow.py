"""Spline couplings and their flow: Jacobians, contexts, densities and a fit of a Gaussian."""

import math

import pytest
import torch
from testing.flow_testing import check_transform, grid_integral, redraw

from gencore.data import load_density
from gencore.models import AutoregressiveSplineFlow, SplineFlow
from gencore.nn import MLP, SplineCoupling
from gencore.ops import backend


def spline_coupling(
    features: int, num_bins: int = 8, *, context_size: int = 0, swap: bool = False
) -> SplineCoupling:
    moved = features - features // 2 if swap else features // 2
    network = MLP(features - moved, [8], moved * (3 * num_bins - 1), context_size=context_size)
    return SplineCoupling(network, swap=swap, num_bins=num_bins)


@pytest.mark.parametrize("features", [2, 3, 7])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("rows", [1, 6])
def test_inverse_and_log_det_are_those_of_the_jacobian(features, swap, rows):
    torch.manual_seed(features)
    coupling = spline_coupling(features, 5, context_size=2, swap=swap).double()
    redraw(coupling)
    x = 2 * torch.randn(rows, features, dtype=torch.float64)
    check_transform(coupling, x, torch.randn(rows, 2, dtype=torch.float64))
    with backend("reference"):
        check_transform(coupling, x, torch.randn(rows, 2, dtype=torch.float64))


def test_the_flow_inverts_with_a_context():
    torch.manual_seed(0)
    flow = SplineFlow(5, num_layers=5, hidden_widths=[8], bound=1.0, context_size=3).double()
    redraw(flow)
    context = torch.randn(4, 3, dtype=torch.float64)
    check_transform(flow.transform, torch.randn(4, 5, dtype=torch.float64), context)


def test_a_coupling_starts_as_the_identity_and_is_one_outside_its_interval():
    torch.manual_seed(0)
    coupling, x = spline_coupling(3), torch.randn(20, 3)
    z, log_det = coupling(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(20), atol=1e-6, rtol=0)
    redraw(coupling)
    far = x.sign() * (3.01 + x.abs())
    z, log_det = coupling(far)
    assert torch.equal(z, far)
    assert not log_det.any()


def test_the_part_that_conditions_passes_through_and_the_context_matters():
    torch.manual_seed(0)
    x, context = torch.randn(6, 5), torch.randn(6, 2)
    for swap, kept in ((False, slice(0, 3)), (True, slice(3, 5))):
        coupling = spline_coupling(5, context_size=2, swap=swap)
        redraw(coupling)
        z = coupling(x, context)[0]
        assert torch.equal(z[:, kept], x[:, kept])
        assert not torch.allclose(coupling(x, -context)[0], z)


def test_32_couplings_of_float32_stay_finite_and_invert():
    torch.manual_seed(0)
    flow = SplineFlow(
        4, num_layers=32, hidden_widths=[16], tail_bound=3.0, bound=0.5, mixing="permutation"
    )
    redraw(flow, 0.5)
    x = 10 * torch.randn(200, 4)
    with torch.no_grad():
        z, log_det = flow.transform(x)
        back, _ = flow.transform.inverse(z)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    assert (back - x).abs().max() < 1e-2


def test_the_density_integrates_to_one():
    torch.manual_seed(0)
    flow = SplineFlow(
        2,
        num_layers=3,
        hidden_widths=[8],
        tail_bound=3.0,
        bound=1.0,
        context_size=1,
        mixing="permutation",
    ).double()
    redraw(flow, 0.5)
    context = torch.tensor([[0.7]], dtype=torch.float64)
    assert grid_integral(flow, 6, 600, context) == pytest.approx(1.0, abs=1e-3)


def test_a_fit_reaches_the_entropy_of_a_gaussian():
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.7], [0.7, 0.8]])
    scale = torch.linalg.cholesky(covariance)
    flow = SplineFlow(2, num_layers=4, hidden_widths=[32], tail_bound=4.0)
    optimiser = torch.optim.Adam(flow.parameters(), 5e-3)
    for step in range(400):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / 400)
        loss = -flow.log_prob(torch.randn(512, 2) @ scale.T).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.randn(100_000, 2) @ scale.T
    with torch.no_grad():
        nll = -flow.log_prob(x)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
    error = 4 * nll.std() / math.sqrt(len(x))
    assert entropy - error < nll.mean() < entropy + 0.02 + error


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="num_bins is 1; expected 2 or more"):
        SplineCoupling(MLP(1, [8], 2), num_bins=1)
    with pytest.raises(ValueError, match=r"SplineCoupling: data have shape \[4\]; expected \[N, C"):
        spline_coupling(2)(torch.zeros(4))
    with pytest.raises(ValueError, match=r"the network gives \[4, 23\]; expected \[4, 46\]"):
        SplineCoupling(MLP(2, [8], 23))(torch.zeros(4, 4))


@pytest.mark.parametrize("kind", [SplineFlow, AutoregressiveSplineFlow])
def test_a_trained_flow_comes_back_from_its_latents_in_float32(kind):
    """With the default bound, which lets slopes of single bins go to 1e-3."""
    torch.manual_seed(0)
    density = load_density("twenty_five_gaussians")
    flow = kind(2, hidden_widths=(32, 32))
    optimiser = torch.optim.Adam(flow.parameters(), 2e-3)
    for _ in range(200):
        loss = -flow.log_prob(density.sample(256) / 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, z = density.sample(2000) / 2, torch.randn(2000, 2)
    with torch.no_grad():
        assert (flow.transform.inverse(flow.transform(x)[0])[0] - x).abs().max() < 3e-5
        assert (flow.transform(flow.transform.inverse(z)[0])[0] - z).abs().max() < 3e-5
