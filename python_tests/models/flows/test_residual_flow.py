"""Residual flows by Euler steps: Jacobians, the contraction, densities and gradients."""

import pytest
import torch
from testing.flow_testing import check_transform, grid_integral, randomize

from gencore.models import LipschitzEnergy, ResidualFlow
from gencore.ops import gaussian_nll


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def flow(features: int = 2, **more) -> ResidualFlow:
    torch.manual_seed(0)
    settings = {"num_blocks": 2, "hidden_widths": [16, 16], "tolerance": 1e-12} | more
    return ResidualFlow(features, **settings).double().eval()


@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 4])
def test_inverse_and_log_det_are_those_of_the_jacobian(features, rows):
    x = torch.randn(rows, features, dtype=torch.float64)
    check_transform(flow(features).transform, x, tolerance=1e-8)


def test_the_energy_s_curvature_stays_below_its_bound():
    torch.manual_seed(0)
    energy = LipschitzEnergy(3, [32, 32], curvature=0.7).double()
    with torch.no_grad():
        for layer in energy.layers:
            layer.parametrizations.weight.original.normal_(0, 5)
            if layer.bias is not None:
                layer.bias.normal_()
        for _ in range(200):  # the power iteration converges
            energy(torch.zeros(1, 3, dtype=torch.float64))
    energy.eval()
    x = torch.randn(300, 3, dtype=torch.float64)
    hessians = torch.vmap(torch.func.hessian(lambda row: energy(row[None])[0]))(x)
    largest = torch.linalg.matrix_norm(hessians, 2).max()
    assert 0.001 < largest <= 0.7 * (1 + 1e-6)


def test_the_density_integrates_to_one():
    model = flow(contraction=0.9, tolerance=1e-9)
    assert grid_integral(model, 8, 120) == pytest.approx(1.0, abs=1e-3)


def test_a_sample_s_density_is_that_of_its_start():
    model = flow()
    z = torch.randn(6, 2, dtype=torch.float64)
    x, log_det = model.transform.inverse(z)
    expected = -gaussian_nll(z, torch.zeros(6, dtype=torch.float64)) - log_det
    torch.testing.assert_close(model.log_prob(x.detach()), expected, rtol=1e-9, atol=1e-9)


def test_the_series_estimates_the_exact_log_det():
    exact, series = flow(contraction=0.5), flow(contraction=0.5, log_det="series", num_terms=12)
    series.load_state_dict(exact.state_dict())
    x = torch.randn(1, 2, dtype=torch.float64)
    with torch.no_grad():
        expected = exact.log_prob(x)
        estimates = series.log_prob(x.expand(2000, -1))
    error = 4 * estimates.std() / len(estimates) ** 0.5
    assert (estimates.mean() - expected).abs() < error + 1e-4


def test_gradients_of_the_density_are_those_of_finite_differences():
    model = flow()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.log_prob(x).sum(), x)
    bias = model.transform.transforms[0].energy.layers[0].bias
    (grad,) = torch.autograd.grad(model.log_prob(x).sum(), bias)
    with torch.no_grad():
        values = []
        for step in (1e-5, -2e-5):
            bias[3] += step
            values.append(model.log_prob(x).sum())
    torch.testing.assert_close(grad[3], (values[0] - values[1]) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("log_det", ["exact", "series"])
def test_second_derivatives_of_the_density_are_those_of_finite_differences(log_det):
    model = flow(num_blocks=1, log_det=log_det, num_terms=60)
    randomize(model, 1.0)
    x = torch.tensor([[0.3, -0.5]], dtype=torch.float64)

    def log_prob(x):
        torch.manual_seed(1)  # the signs of the series
        return model.log_prob(x).sum()

    def grad(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(log_prob(x), x)[0][0]

    hessian = torch.autograd.functional.hessian(log_prob, x).reshape(2, 2)
    steps = 1e-5 * torch.eye(2, dtype=torch.float64)
    expected = torch.stack([(grad(x + step) - grad(x - step)) / 2e-5 for step in steps])
    torch.testing.assert_close(hessian, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hessian, hessian.T)


def test_every_parameter_has_a_gradient():
    model = ResidualFlow(2, num_blocks=2, hidden_widths=[8])
    model.log_prob(torch.randn(4, 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_states_with_the_last_layers_bias_are_taken():
    """It is a constant of the energy, and earlier versions had it."""
    model, other = flow(), flow()
    randomize(other)
    state = other.state_dict()
    for block in range(2):
        state[f"transform.transforms.{block}.energy.layers.2.bias"] = torch.randn(1)
    model.load_state_dict(state)
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), other.log_prob(x))


def test_weights_that_change_in_evaluation_leave_steps_contractions():
    """As an average of weights or tuning with frozen statistics changes them."""
    model = flow(contraction=0.9)
    energy = model.transform.transforms[0].energy
    x = torch.randn(50, 2, dtype=torch.float64)
    for seed in range(3):
        randomize(model, 3.0, seed)
        hessians = torch.vmap(torch.func.hessian(lambda row: energy(row[None])[0]))(x)
        assert torch.linalg.matrix_norm(hessians, 2).max() <= 0.9 / 0.5 * (1 + 1e-9)
        check_transform(model.transform, x[:4], tolerance=1e-8)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = ResidualFlow(2, num_blocks=2, hidden_widths=[32], contraction=0.9)
    x = torch.randn(128, 2) * torch.tensor([1.5, 0.6]) + 0.5
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    losses = []
    for _ in range(40):
        loss = -model.log_prob(x).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] - 0.2


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="contraction is 1"):
        ResidualFlow(2, contraction=1.0)
    with pytest.raises(ValueError, match="expected a hidden layer"):
        LipschitzEnergy(2, [], curvature=1.0)
