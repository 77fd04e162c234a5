"""The flows of an energy against closed forms, autograd's Jacobians and each other."""

import math
import sys
import warnings

import pytest
import torch
from testing.flow_energies import Scale, key, normal, points, quadratic, ripples, square_grid

from gencore.nn import MLPEnergy
from gencore.ops.random import rademacher
from gencore.samplers import EulerFlow, FlowError, GradientFlow
from gencore.samplers.energy import energy_and_grad
from gencore.samplers.hessian import hessian, hessian_trace

pytest.importorskip("torchdiffeq")

PRECISE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MLPEnergy(3, (16, 16)).double()


class TestHessian:
    @pytest.mark.parametrize(("num", "dim"), [(3, 2), (2, 9), (3000, 3), (1, 1), (0, 4)])
    def test_matrix_and_trace_are_those_of_autograd(self, num, dim):
        """For few rows, which are differentiated together, and for many."""
        torch.manual_seed(1)
        energy = MLPEnergy(dim, (8,)).double()
        x = points(num, dim).requires_grad_()
        _, grad = energy_and_grad(energy, x, create_graph=True)
        matrix, trace = hessian(grad, x), hessian_trace(grad, x)
        assert matrix.shape == (num, dim, dim)
        for row in range(0, num, 1000):
            expected = torch.autograd.functional.hessian(
                lambda y: energy(y[None]).squeeze(0), x[row].detach()
            )
            torch.testing.assert_close(matrix[row], expected)
            torch.testing.assert_close(trace[row], expected.trace())

    def test_rows_of_any_shape(self):
        x = points(4, 6).reshape(4, 1, 2, 3).requires_grad_()
        _, grad = energy_and_grad(ripples, x, create_graph=True)
        expected = (1 - 9 * (3 * x).cos()).sum((1, 2, 3))
        torch.testing.assert_close(hessian_trace(grad, x), expected)

    def test_linear_energies_have_none(self):
        x = points().requires_grad_()
        _, grad = energy_and_grad(lambda y: y.sum(1), x, create_graph=True)
        assert not hessian_trace(grad, x).any()
        assert not hessian_trace(grad, x, noise=torch.ones_like(x)).any()

    def test_hutchinson_is_unbiased(self, network):
        num = 40_000
        x = points(1).expand(num, -1).clone().requires_grad_()
        _, grad = energy_and_grad(network, x, create_graph=True)
        estimates = hessian_trace(grad, x, noise=rademacher(x, key(3)))
        exact = hessian_trace(grad, x)[0]
        error = estimates.std() / math.sqrt(num)
        assert error > 0
        assert (estimates.mean() - exact).abs() < 4 * error

    def test_signs_are_fair_and_of_one_stream(self):
        x = torch.zeros(20_000, 2)
        signs = rademacher(x, key(1))
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        assert signs.mean().abs() < 4 / math.sqrt(signs.numel())
        assert torch.equal(signs[5:], rademacher(x[5:], key(1), first_element=10))


class TestGradientFlow:
    @pytest.mark.parametrize("trace", ["exact", "hutchinson"])
    @pytest.mark.parametrize("shape", [(5, 3), (4, 1, 2, 2)])
    def test_closed_form_of_a_quadratic(self, trace, shape, device):
        """x_T = exp(−λT) x₀ and a density that is larger by exp(dλT)."""
        precision, time = 3.0, 0.4
        flow = GradientFlow(quadratic(precision), time, trace=trace, **PRECISE)
        x0 = points(math.prod(shape), 1).reshape(shape).to(device)
        x, log_prob = flow.sample_with_log_prob(x0)
        torch.testing.assert_close(x, math.exp(-precision * time) * x0)
        torch.testing.assert_close(flow.sample(x0), x)
        torch.testing.assert_close(flow.inverse(x), x0)
        expected = normal(x0) + x0[0].numel() * precision * time
        torch.testing.assert_close(log_prob, expected)
        torch.testing.assert_close(flow.log_prob(x), expected)

    @pytest.mark.parametrize("adjoint", [False, True])
    def test_the_last_step_ends_at_the_end(self, adjoint):
        """A step beyond it, and back by interpolation, would cost dopri8 four digits."""
        energy, time = Scale(1.3), 1.7
        flow = GradientFlow(energy, time, solver="dopri8", adjoint=adjoint, rtol=1e-11, atol=1e-11)
        x0, factor = points(2), math.exp(1.3 * time)
        close = {"rtol": 1e-10, "atol": 1e-10}
        x, log_prob = flow.sample_with_log_prob(x0)
        torch.testing.assert_close(x, x0 / factor, **close)
        torch.testing.assert_close(log_prob, normal(x0) + 3 * 1.3 * time, **close)
        torch.testing.assert_close(flow.inverse(x0 / factor), x0, **close)
        x.requires_grad_()
        log_prob = flow.log_prob(x, differentiable=True)
        torch.testing.assert_close(log_prob, normal(factor * x) + 3 * 1.3 * time, **close)
        log_prob.sum().backward()
        torch.testing.assert_close(x.grad, -(factor**2) * x, **close)
        theta_grad = (3 * time - time * (factor * x).square().sum(1)).sum()
        torch.testing.assert_close(energy.theta.grad, theta_grad, **close)

    def test_a_solver_of_fixed_steps_takes_one(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            x = GradientFlow(quadratic(0.5), 0.4, solver="euler").sample(points())
        torch.testing.assert_close(x, (1 - 0.5 * 0.4) * points())

    def test_round_trip_at_the_default_tolerances(self):
        torch.manual_seed(0)
        flow = GradientFlow(MLPEnergy(2, (64, 64)), 0.2)
        x0 = torch.randn(200, 2)
        x, log_prob = flow.sample_with_log_prob(x0)
        assert (flow.inverse(x) - x0).abs().max() < 1e-4
        assert (flow.log_prob(x) - log_prob).abs().max() < 1e-4
        # Backward, wells of curvature 10 stretch errors by e²: so much smaller have they to be.
        wells, x0 = GradientFlow(ripples, 0.2, rtol=1e-7, atol=1e-7), x0.double()
        assert (wells.inverse(wells.sample(x0)) - x0).abs().max() < 1e-4

    def test_the_energy_falls_along_the_flow(self, network):
        x0 = points(20)
        for energy in (network, ripples):
            path = [x0] + [GradientFlow(energy, t).sample(x0) for t in (0.05, 0.1, 0.2, 0.4, 0.8)]
            energies = torch.stack([energy(x).detach() for x in path])
            assert (energies[1:] < energies[:-1]).all()

    def test_density_integrates_to_one(self):
        x, cell = square_grid(4.0, 160)
        log_prob = GradientFlow(ripples, 0.1).log_prob(x)
        assert abs(log_prob.exp().sum().item() * cell - 1) < 1e-4

    def test_density_is_the_change_of_variables(self, network):
        """log p(x_T) = log p(x₀) − log|det ∂x_T/∂x₀|, with autograd's Jacobian."""
        flow = GradientFlow(network, 1.5, **PRECISE)
        x0 = points(3)
        _, log_prob = flow.sample_with_log_prob(x0)
        for row in range(3):
            jacobian = torch.autograd.functional.jacobian(
                lambda y: flow.sample(y[None], differentiable=True)[0], x0[row]
            )
            expected = normal(x0[row : row + 1]) - jacobian.slogdet().logabsdet
            torch.testing.assert_close(log_prob[row : row + 1], expected)

    def test_hutchinson_keeps_its_signs_and_its_key(self, network):
        flow = GradientFlow(network, 0.5, trace="hutchinson")
        x0 = points(64)
        x, log_prob = flow.sample_with_log_prob(x0, key=key(1))
        torch.testing.assert_close(flow.log_prob(x, key=key(1)), log_prob, atol=1e-4, rtol=0)
        assert not torch.equal(flow.log_prob(x, key=key(2)), flow.log_prob(x, key=key(1)))
        generators = [torch.Generator().manual_seed(4) for _ in range(2)]
        first, second = (flow.log_prob(x, generator=generator) for generator in generators)
        assert torch.equal(first, second)

    def test_hutchinson_log_density_is_unbiased(self, network):
        num = 4000
        x = points(1).expand(num, -1)
        estimates = GradientFlow(network, 2.0, trace="hutchinson").log_prob(x, key=key(5))
        exact = GradientFlow(network, 2.0).log_prob(x[:1])
        error = estimates.std() / math.sqrt(num)
        assert error > 1e-4
        assert (estimates.mean() - exact).abs() < 4 * error

    @pytest.mark.parametrize("adjoint", [False, True])
    def test_gradients_of_the_density(self, network, adjoint):
        """In x and in a parameter, against finite differences of the solve without a graph."""
        flow = GradientFlow(network, 0.5, adjoint=adjoint, **PRECISE)
        x = points(4).requires_grad_()
        weight = next(network.parameters())
        flow.log_prob(x, differentiable=True).sum().backward()
        step = 1e-5
        for tensor, at in ((x, (1, 2)), (weight, (3, 1))):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    tensor[at] += sign * step
                values.append(flow.log_prob(x).sum().item())
                with torch.no_grad():
                    tensor[at] -= sign * step
            expected = (values[0] - values[1]) / (2 * step)
            assert abs(tensor.grad[at].item() - expected) < 1e-5 * max(1, abs(expected))

    def test_without_a_graph_nothing_is_kept(self, network):
        flow = GradientFlow(network, 0.5)
        x = points(3).requires_grad_()
        for result in (flow.sample(x), flow.log_prob(x), *flow.sample_with_log_prob(x)):
            assert not result.requires_grad
        with torch.inference_mode():
            inside = flow.log_prob(points(3))
        torch.testing.assert_close(inside.clone(), flow.log_prob(x).clone())
        assert all(p.grad is None and p.requires_grad for p in network.parameters())

    def test_no_rows(self, network):
        x, log_prob = GradientFlow(network, 0.5).sample_with_log_prob(points(0))
        assert x.shape == (0, 3)
        assert log_prob.shape == (0,)

    def test_a_missing_package_is_named(self, network, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchdiffeq", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'gencore\[samplers\]'"):
            GradientFlow(network, 1.0).sample(points())

    def test_a_flow_that_leaves_the_numbers_is_reported(self):
        with pytest.raises(FlowError, match="dopri5 cannot follow"):
            GradientFlow(lambda x: -x.pow(4).sum(1), 50.0).sample(torch.ones(2, 2))

    @pytest.mark.parametrize("trace", ["exact", "hutchinson"])
    def test_rows_from_infinity_have_the_density_0(self, trace):
        """E = Σx⁴/4: backward, x' = x³ reaches infinity at the time 1/(2x²)."""

        def energy(x):
            return 0.25 * x.pow(4).sum(1)

        # The halves of the batch are one that is not a number and one that has to be halved. Before
        # a solver gives up it takes a hundred steps: at the default tolerances, and few solves.
        x = torch.tensor([[math.nan], [-0.7], [0.5], [2.0]], dtype=torch.float64)
        x.requires_grad_()
        log_prob = GradientFlow(energy, 0.5, trace=trace).log_prob(x, differentiable=True)
        assert log_prob[0].isnan()
        assert log_prob[3] == -math.inf
        # x₀ = x/√(1 − 2Tx²) and dx₀/dx = (1 − 2Tx²)^(−3/2)
        good = x.detach()[1:3].requires_grad_()
        rest = 1 - good.square()
        expected = normal(good / rest.sqrt()) - 1.5 * rest.log().sum(1)
        torch.testing.assert_close(log_prob[1:3], expected, rtol=1e-4, atol=1e-4)
        log_prob[1:3].sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(x.grad[1:3], good.grad, rtol=1e-3, atol=1e-3)
        assert not x.grad[[0, 3]].any()

    def test_an_energy_that_is_not_finite_is_reported(self):
        with pytest.raises(FlowError, match="dopri5 cannot follow"):
            GradientFlow(lambda x: x.sqrt().sum(1), 1.0).log_prob(-torch.ones(2, 2))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"time": 0.0}, r"time is 0\.0; expected a positive number"),
            ({"time": 1.0, "rtol": -1}, "rtol is -1"),
            ({"time": 1.0, "trace": "guess"}, "'guess'; expected one of"),
            ({"time": 1.0, "adjoint": True}, r"an nn\.Module, .* got a function"),
        ],
    )
    def test_wrong_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            GradientFlow(quadratic(1.0), **options)

    @pytest.mark.parametrize(
        "flow", [GradientFlow(quadratic(1.0), 1.0), EulerFlow(quadratic(1.0), 0.1, 2)]
    )
    def test_wrong_positions_are_named(self, flow):
        name = type(flow).__name__
        with pytest.raises(ValueError, match=rf"{name}: positions have shape \[3\]"):
            flow.sample(torch.zeros(3))
        with pytest.raises(TypeError, match=f"{name}: positions are torch.int64"):
            flow.log_prob(torch.zeros(3, 2, dtype=torch.int64))
        with pytest.raises(TypeError, match=f"{name}: expected a tensor"):
            flow.sample([0.0])


def test_maximum_likelihood_of_the_flow_matches_a_gaussian():
    """θ with exp(−2θT) = σ² maximises the flow's likelihood of N(0, σ²)."""
    std, time = 0.6, 0.5
    energy = Scale(0.1)
    flow = GradientFlow(energy, time)
    data = std * math.sqrt(1.5) * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    optimizer = torch.optim.SGD(energy.parameters(), lr=0.5)
    for _ in range(60):
        loss = -flow.log_prob(data, differentiable=True).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(energy.theta.item() + math.log(std) / time) < 1e-3
