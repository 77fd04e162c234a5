"""Euler's steps along an energy's gradient flow: a residual flow against its closed forms."""

import math

import pytest
import torch
from testing.flow_energies import Scale, key, normal, points, quadratic, ripples, square_grid

from gencore.nn import MLPEnergy
from gencore.samplers import EulerFlow, FlowError, GradientFlow, NonConvergenceWarning
from gencore.samplers.hessian import hessian_trace


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MLPEnergy(3, (16, 16)).double()


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
        pytest.importorskip("torchdiffeq")
        ode = GradientFlow(ripples, time, rtol=1e-9, atol=1e-9)
        x, log_prob = ode.sample_with_log_prob(x0)
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

    @pytest.mark.parametrize("log_det", ["exact", pytest.param("series", marks=pytest.mark.slow)])
    def test_gradients_of_the_density(self, network, log_det):
        """Through the inverse, in x and in a parameter."""

        def log_prob(x, weight):
            def energy(y):
                parameters = {next(network.named_parameters())[0]: weight}
                return torch.func.functional_call(network, parameters, (y,))

            flow = EulerFlow(energy, 0.3, 3, log_det=log_det, tolerance=1e-14, num_terms=12)
            return flow.log_prob(x, differentiable=True, key=key(1))

        weight = next(network.parameters()).detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(log_prob, (points(2).requires_grad_(), weight))

    @pytest.mark.slow
    @pytest.mark.parametrize("log_det", ["exact", "series"])
    def test_second_and_third_derivatives_of_the_density(self, network, log_det):
        flow = EulerFlow(network, 0.5, 2, log_det=log_det, tolerance=1e-14, num_terms=14)

        def log_prob(x):
            return flow.log_prob(x, differentiable=True, key=key(1))

        def laplacian(x):
            (grad,) = torch.autograd.grad(log_prob(x).sum(), x, create_graph=True)
            return hessian_trace(grad, x, create_graph=True)

        x = points(2).requires_grad_()
        assert torch.autograd.gradgradcheck(log_prob, x)
        (grad,) = torch.autograd.grad(laplacian(x).sum(), x)
        step = torch.zeros_like(x).index_fill(1, torch.tensor([1]), 1e-5)
        rise = laplacian((x + step).detach().requires_grad_())
        rise = rise - laplacian((x - step).detach().requires_grad_())
        torch.testing.assert_close(grad[:, 1], rise.detach() / 2e-5, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("contraction", [0.87, 0.95, 0.99, 0.999])
    def test_an_inverse_near_the_bound_of_contractions(self, contraction):
        """Directions that plain iterations bring home fast and slowly, from either side."""
        curvatures = torch.linspace(-contraction, contraction, 5, dtype=torch.float64)

        def energy(x):
            return (curvatures * x.cosh().log()).sum(1)

        flow = EulerFlow(energy, 1.0, 1, tolerance=1e-8, max_iterations=50)
        x0 = points(20, 5)
        x, log_prob = flow.sample_with_log_prob(x0)
        result = flow.inverse(x)
        assert result.has_converged.all()
        assert ((result.position - x0).norm(dim=1) < 1e-7 * (1 + x0.norm(dim=1))).all()
        torch.testing.assert_close(flow.log_prob(x), log_prob, rtol=0, atol=1e-5)

    def test_steps_that_are_no_contractions_are_reported(self):
        """E = Σ(x²/2 + cos 3x), of curvature up to 10: beyond a = 0.1 starts share their ends."""
        x = EulerFlow(ripples, 0.2, 1).sample(points(200, 1))
        with pytest.warns(NonConvergenceWarning, match="curvature of the energy is up to 2,"):
            log_prob, has_converged = EulerFlow(ripples, 0.2, 1).log_prob_and_convergence(x)
        assert 0 < (~has_converged).sum() < len(x)
        assert log_prob.shape == has_converged.shape == (200,)
        with pytest.raises(FlowError, match="a step is no contraction"):
            EulerFlow(ripples, 0.2, 1, on_failure="raise").log_prob(torch.zeros(1, 1))
        flow = EulerFlow(ripples, 0.099, 1, on_failure="raise")
        assert flow.log_prob_and_convergence(x)[1].all()

    def test_rows_that_are_not_finite_have_no_start(self, network):
        x = points(3)
        x[1, 0] = math.nan
        flow = EulerFlow(network, 0.3, 2)
        with pytest.warns(NonConvergenceWarning, match="1 of 3 rows"):
            log_prob, has_converged = flow.log_prob_and_convergence(x)
        assert has_converged.tolist() == [True, False, True]
        torch.testing.assert_close(log_prob[[0, 2]], flow.log_prob(x[[0, 2]]))

    def test_gradients_of_the_samples(self, network):
        flow = EulerFlow(network, 0.3, 3)
        x = points(2).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda y: flow.sample_with_log_prob(y, differentiable=True), x
        )
        assert torch.equal(flow.sample(x), flow.sample_with_log_prob(x)[0])
        assert not flow.log_prob(x).requires_grad

    def test_in_inference_mode(self, network):
        flow, x = EulerFlow(network, 0.3, 3), points(4)
        with torch.inference_mode():
            inside = flow.log_prob(x.clone()), flow.sample(x.clone())
        torch.testing.assert_close(inside[0].clone(), flow.log_prob(x))
        torch.testing.assert_close(inside[1].clone(), flow.sample(x))

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


@pytest.mark.slow
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
