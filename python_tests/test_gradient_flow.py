"""The flows of an energy against closed forms, autograd's Jacobians and each other."""

import math

import pytest
import torch
from torch import nn

from gencore.nn import MLPEnergy
from gencore.samplers import EulerFlow, FlowError, GradientFlow, NonConvergenceWarning
from gencore.samplers.energy import energy_and_grad
from gencore.samplers.hessian import hessian, hessian_trace, rademacher

pytest.importorskip("torchdiffeq")

PRECISE = {"rtol": 1e-9, "atol": 1e-9}


def quadratic(precision):
    return lambda x: 0.5 * precision * x.flatten(1).square().sum(1)


def ripples(x):
    """E = Σ(x²/2 + cos 3x): two wells on each axis, and a bounded Hessian 1 − 9 cos 3x."""
    return (0.5 * x.square() + (3 * x).cos()).flatten(1).sum(1)


def key(seed):
    return torch.tensor([seed, 0])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MLPEnergy(3, (16, 16)).double()


def points(num=7, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, dtype=torch.float64, generator=generator)


def normal(x):
    return torch.distributions.Normal(0, 1).log_prob(x).flatten(1).sum(1)


def square_grid(half_width, size):
    """Midpoints [size², 2] of a square and the area of a cell."""
    side = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * half_width - half_width
    return torch.cartesian_prod(side, side), (2 * half_width / size) ** 2


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

    def test_a_flow_that_leaves_the_numbers_is_reported(self):
        with pytest.raises(FlowError, match="dopri5 cannot follow"):
            GradientFlow(lambda x: -x.pow(4).sum(1), 50.0).sample(torch.ones(2, 2))

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


class TestEulerFlow:
    def test_closed_form_of_a_quadratic(self, device):
        """x_K = (1 − aλ)ᴷ x₀, log p(x_K) = log p(x₀) − Kd log(1 − aλ)."""
        precision, step_size, num_steps = 2.0, 0.1, 5
        flow = EulerFlow(quadratic(precision), step_size, num_steps, tolerance=1e-13)
        x0 = points(6).to(device)
        x, log_prob = flow.sample_with_log_prob(x0)
        a = 1 - precision * step_size
        torch.testing.assert_close(x, a**num_steps * x0)
        torch.testing.assert_close(flow.sample(x0), x)
        torch.testing.assert_close(log_prob, normal(x0) - num_steps * 3 * math.log(a))
        torch.testing.assert_close(flow.log_prob(x), log_prob)
        torch.testing.assert_close(flow.inverse(x).position, x0)

    @pytest.mark.parametrize("log_det", ["exact", "series"])
    def test_log_det_is_that_of_the_jacobian(self, network, log_det):
        """The series with the signs' average: 4 standard errors; exactly, to rounding."""
        num = 1 if log_det == "exact" else 4000
        flow = EulerFlow(network, 0.5, 4, log_det=log_det, num_terms=20)
        x0 = points(1)
        jacobian = torch.autograd.functional.jacobian(
            lambda y: flow.sample(y[None], differentiable=True)[0], x0[0]
        )
        expected = normal(x0) - jacobian.slogdet().logabsdet
        log_prob = flow.sample_with_log_prob(x0.expand(num, -1), key=key(2))[1]
        if log_det == "exact":
            torch.testing.assert_close(log_prob, expected)
        else:
            error = log_prob.std() / math.sqrt(num)
            assert error > 1e-4
            assert (log_prob.mean() - expected).abs() < 4 * error

    def test_series_misses_only_the_terms_left_out(self):
        """For a quadratic its terms are exact: the error is d·Σ_{k>n} (aλ)ᵏ/k."""
        x0 = points(2)
        exact = EulerFlow(quadratic(1.0), 0.5, 1).sample_with_log_prob(x0)[1]
        for terms in (1, 3, 10):
            flow = EulerFlow(quadratic(1.0), 0.5, 1, log_det="series", num_terms=terms)
            missing = 3 * sum(0.5**k / k for k in range(terms + 1, 60))
            torch.testing.assert_close(
                exact - flow.sample_with_log_prob(x0)[1], exact * 0 + missing
            )

    def test_it_approaches_the_ode_linearly(self):
        """Samples and densities differ by O(a) at equal T = K·a: halving a halves the error."""
        x0, time = points(30), 0.2
        x, log_prob = GradientFlow(ripples, time, **PRECISE).sample_with_log_prob(x0)
        errors = []
        for num_steps in (80, 160, 320):
            flow = EulerFlow(ripples, time / num_steps, num_steps)
            euler_x, euler_log_prob = flow.sample_with_log_prob(x0)
            errors.append(torch.stack([(euler_x - x).norm(), (euler_log_prob - log_prob).norm()]))
        for coarse, fine in ((0, 1), (1, 2)):
            assert ((errors[coarse] / errors[fine] - 2).abs() < 0.1).all()

    def test_round_trip(self, network):
        x0 = points(50)
        flow = EulerFlow(network, 0.3, 6, tolerance=1e-13)
        x, log_prob = flow.sample_with_log_prob(x0)
        result = flow.inverse(x)
        assert result.has_converged.all()
        assert (result.position - x0).abs().max() < 1e-4
        torch.testing.assert_close(flow.log_prob(x), log_prob)

    def test_rows_do_not_depend_on_each_other(self, network):
        flow, x = EulerFlow(network, 0.3, 3), points(20)
        torch.testing.assert_close(flow.log_prob(x)[4:9], flow.log_prob(x[4:9]), rtol=0, atol=1e-14)

    def test_density_integrates_to_one(self):
        torch.manual_seed(2)
        energy = MLPEnergy(2, (32,)).double()
        x, cell = square_grid(6.0, 120)
        log_prob = EulerFlow(energy, 0.5, 3).log_prob(x)
        assert abs(log_prob.exp().sum().item() * cell - 1) < 1e-4

    @pytest.mark.parametrize("log_det", ["exact", "series"])
    def test_gradients_of_the_density(self, network, log_det):
        """Through the inverse, in x and in a parameter."""

        def log_prob(x, weight):
            def energy(y):
                parameters = {next(network.named_parameters())[0]: weight}
                return torch.func.functional_call(network, parameters, (y,))

            flow = EulerFlow(energy, 0.3, 3, log_det=log_det, tolerance=1e-14, num_terms=30)
            return flow.log_prob(x, differentiable=True, key=key(1))

        weight = next(network.parameters()).detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(log_prob, (points(2).requires_grad_(), weight))

    def test_gradients_of_the_samples(self, network):
        flow = EulerFlow(network, 0.3, 3)
        x = points(2).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda y: flow.sample_with_log_prob(y, differentiable=True), x
        )
        assert torch.equal(flow.sample(x), flow.sample_with_log_prob(x)[0])
        assert not flow.log_prob(x).requires_grad

    def test_no_contraction_is_reported_with_a_count(self):
        """E = |x|⁴/4 has no inverse step where 3ax² > 1: here in one row of three."""
        x = torch.tensor([[0.1], [0.2], [50.0]])

        def energy(y):
            return 0.25 * y.pow(4).sum(1)

        with pytest.warns(NonConvergenceWarning, match="1 of 3 rows did not converge"):
            result = EulerFlow(energy, 0.1, 1).inverse(x)
        assert result.has_converged.tolist() == [True, True, False]
        with pytest.raises(FlowError, match="1 of 3 rows"):
            EulerFlow(energy, 0.1, 1, on_failure="raise").log_prob(x)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"step_size": 0.0}, "step_size is 0"),
            ({"num_steps": 0}, "num_steps is 0"),
            ({"log_det": "guess"}, "'guess'; expected one of"),
            ({"on_failure": "ignore"}, "'ignore'; expected one of"),
        ],
    )
    def test_wrong_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            EulerFlow(quadratic(1.0), **{"step_size": 0.1, "num_steps": 2, **options})


class Scale(nn.Module):
    """E = ½θx²."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.theta * x.square().sum(1)


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_the_flow_and_not_the_energy_learns_the_data(std):
    """Maximum likelihood (2.13) with E = ½θx² and Euler's sampler ends at θ = (2/η)(1 − σ^(1/K)).

    The flow then has the variance of the data, and exp(−E) has not; for σ > 1 it has no density.
    """
    time_step, num_steps = 0.1, 40
    energy = Scale(0.0)
    flow = EulerFlow(energy, time_step / 2, num_steps)
    # Three points with the moments of N(0, 1), so that no expectation is a Monte Carlo one.
    starts = math.sqrt(1.5) * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    data = std * starts
    optimizer = torch.optim.SGD(energy.parameters(), lr=0.1)
    for _ in range(600):
        loss = energy(data).mean() - energy(flow.sample(starts)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    theta = energy.theta.item()
    assert abs(theta - 2 / time_step * (1 - std ** (1 / num_steps))) < 1e-6
    assert abs(flow.sample(starts).square().mean().item() - std**2) < 1e-6
    assert theta < 0.9 / std**2
    assert (theta < 0) == (std > 1)


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
