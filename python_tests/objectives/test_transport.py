"""Optimal transport: closed forms, enumeration, other solvers, and what a divergence has to be."""

import itertools
import math
import warnings

import pytest
import torch
from testing.largest_tensor import LargestTensor
from torch import Tensor

from gencore.metrics import energy_distance
from gencore.objectives import (
    ConvergenceWarning,
    exact_transport_cost,
    sinkhorn_divergence,
    sinkhorn_potentials,
    sliced_wasserstein,
    wasserstein_1d,
)
from gencore.objectives.transport.potentials import _Relaxation, _State, entropic_transport
from gencore.ops import backend

pytest.importorskip("ot")
linear_sum_assignment = pytest.importorskip("scipy.optimize").linear_sum_assignment
linprog = pytest.importorskip("scipy.optimize").linprog


def clouds(n: int, m: int, dim: int, seed: int = 0, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(num, dim, generator=generator, dtype=dtype) for num in (n, m))
    return x, y.square()


def weights(num: int, seed: int = 0) -> Tensor:
    """The sum is 1, and one of them is 0."""
    drawn = torch.rand(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn[1] = 0
    return drawn / drawn.sum()


def fixed_clouds() -> tuple[Tensor, Tensor]:
    """64 points each, from no generator of random numbers."""
    i = torch.arange(64, dtype=torch.float64)
    x = torch.stack([torch.sin(i), torch.cos(1.7 * i)], 1)
    return x, torch.stack([0.5 + 0.8 * torch.sin(2.3 * i), 0.6 * torch.cos(i)], 1)


def normal_grid(mean: list[float], covariance: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Points and weights of N(mean, covariance): a sum over a fine grid is an integral."""
    law = torch.distributions.MultivariateNormal(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64)
    )
    axis = torch.linspace(-5, 5, 33, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * len(mean)).view(-1, len(mean))
    points = law.mean + grid @ law.scale_tril.T
    density = (-grid.square().sum(1) / 2).exp()
    return points, density / density.sum()


def entropic_cost_of_normals(shift: Tensor, a: Tensor, b: Tensor, epsilon: float) -> float:
    """Janati, Muzellec, Peyré and Cuturi, "Entropic Optimal Transport between Unbalanced Gaussian
    Measures has a Closed Form", 2020, theorem 1, with ε = 2σ²."""
    half = epsilon / 2
    root = matrix_root(a)
    d = matrix_root(4 * root @ b @ root + half**2 * torch.eye(len(a), dtype=a.dtype))
    inner = torch.eye(len(a), dtype=a.dtype) * half + d
    bures = a.trace() + b.trace() - d.trace() + len(a) * half * (1 - math.log(2 * half))
    return (shift.square().sum() + bures + half * inner.logdet()).item()


def matrix_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


class TestLine:
    @pytest.mark.parametrize("p", [1, 1.5, 2, 3])
    def test_uniform_laws(self, p):
        """Of [0, 1] and [c, c + w] the quantiles are u and c + w·u; of a shift alone W_p is c."""
        u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
        assert wasserstein_1d(u, u + 0.7, p=p).item() == pytest.approx(0.7**p)
        expected = (2.5 ** (p + 1) - 0.5 ** (p + 1)) / (2 * (p + 1))  # ∫ (½ + 2u)^p du
        assert wasserstein_1d(u, 0.5 + 3 * u, p=p).item() == pytest.approx(expected, rel=1e-5)

    def test_normal_laws(self):
        """W_2² = (m1 − m2)² + (s1 − s2)²."""
        u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
        z = math.sqrt(2) * torch.erfinv(2 * u - 1)
        cost = wasserstein_1d(1 + 2 * z, -0.5 + 0.5 * z)
        assert cost.item() == pytest.approx(1.5**2 + 1.5**2, rel=1e-4)

    @pytest.mark.parametrize("p", [1, 2])
    def test_weights_and_numbers_of_points_are_those_of_repeated_points(self, p):
        x, y = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 0.1])
        times = torch.tensor([2, 1, 5])
        repeated = x.repeat_interleave(times)
        expected = wasserstein_1d(repeated, y.repeat_interleave(4), p=p)  # eight of each
        assert wasserstein_1d(x, y, p=p, x_weights=times / 8).item() == pytest.approx(expected)
        assert wasserstein_1d(repeated, y, p=p).item() == pytest.approx(expected)
        assert wasserstein_1d(y, repeated, p=p).item() == pytest.approx(expected)

    def test_a_linear_program_agrees(self):
        x, y = clouds(7, 5, 1)
        a, b = weights(7), weights(5, seed=1)
        rows = torch.kron(torch.eye(7), torch.ones(1, 5))
        columns = torch.kron(torch.ones(1, 7), torch.eye(5))
        solved = linprog(
            (x - y.T).abs().pow(3).flatten().numpy(),
            A_eq=torch.cat([rows, columns]).numpy(),
            b_eq=torch.cat([a, b]).numpy(),
        )
        line = wasserstein_1d(x[:, 0], y[:, 0], p=3, x_weights=a, y_weights=b)
        assert line.item() == pytest.approx(solved.fun, rel=1e-8)
        exact = exact_transport_cost(x, y, p=3, x_weights=a, y_weights=b)
        assert exact.item() == pytest.approx(solved.fun, rel=1e-8)

    def test_batches(self):
        x, y = torch.randn(2, 3, 5), torch.randn(2, 3, 4)
        each = [
            [wasserstein_1d(a, b) for a, b in zip(*c, strict=True)] for c in zip(x, y, strict=True)
        ]
        torch.testing.assert_close(wasserstein_1d(x, y), torch.tensor(each))

    def test_gradients(self):
        x, y = (c[:, 0].requires_grad_() for c in clouds(5, 4, 1))
        logits = torch.randn(5, dtype=torch.float64, requires_grad=True)

        def cost(x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
            return wasserstein_1d(x, y, p=2, x_weights=logits.softmax(0))

        assert torch.autograd.gradcheck(cost, (x, y, logits))
        assert torch.autograd.gradgradcheck(cost, (x, y, logits))

    def test_bad_input(self):
        one = torch.ones(3)
        with pytest.raises(
            ValueError, match=r"^wasserstein_1d: x and y have shapes \[3\] and \[0\]"
        ):
            wasserstein_1d(one, torch.ones(0))
        with pytest.raises(TypeError, match=r"float32 and torch.float64"):
            wasserstein_1d(one, one.double())
        for p in (0.5, math.inf, math.nan):
            with pytest.raises(ValueError, match=rf"^wasserstein_1d: p is {p}; expected a finite"):
                wasserstein_1d(one, one, p=p)
        with pytest.raises(ValueError, match="x_weights sum to 3"):
            wasserstein_1d(one, one, x_weights=one)
        with pytest.raises(ValueError, match=r"y_weights has shape \[2\]; expected \[3\]"):
            wasserstein_1d(one, one, y_weights=torch.tensor([0.5, 0.5]))


class TestSliced:
    def test_a_shift_costs_its_square_over_the_dimension(self):
        """E⟨m, θ⟩² = ‖m‖²/D, with variance 2‖m‖⁴ (D − 1)/(D² (D + 2))."""
        x, _ = clouds(20, 1, 5)
        shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0], dtype=torch.float64)
        size, num = shift.square().sum().item(), 2000
        cost = sliced_wasserstein(x, x + shift, num_projections=num, key=torch.tensor([0, 0]))
        error = size * math.sqrt(2 * 4 / (25 * 7) / num)
        assert abs(cost.item() - size / 5) < 4 * error

    def test_on_a_line_it_is_transport_on_the_line(self):
        x, y = clouds(9, 7, 1)
        a = weights(9)
        cost = sliced_wasserstein(x, y, num_projections=3, p=1, x_weights=a)
        line = wasserstein_1d(x[:, 0], y[:, 0], p=1, x_weights=a)
        assert cost.item() == pytest.approx(line.item())

    def test_it_is_below_transport_and_one_key_gives_one_value(self):
        x, y = clouds(30, 20, 3)
        key = torch.tensor([5, 0])
        cost = sliced_wasserstein(x, y, key=key)
        assert 0 < cost < exact_transport_cost(x, y) / 3 * 1.5
        assert cost == sliced_wasserstein(x, y, key=key)
        assert cost != sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(0))

    def test_bad_input(self):
        x = torch.ones(3, 2)
        with pytest.raises(ValueError, match=r"^sliced_wasserstein: p is 0\.5"):
            sliced_wasserstein(x, x, p=0.5)
        with pytest.raises(ValueError, match=r"^sliced_wasserstein: num_projections is 0"):
            sliced_wasserstein(x, x, num_projections=0)

    def test_gradients(self):
        x, y = (c.requires_grad_() for c in clouds(4, 5, 2))
        key = torch.tensor([0, 0])
        assert torch.autograd.gradcheck(
            lambda x, y: sliced_wasserstein(x, y, num_projections=4, key=key), (x, y)
        )


class TestExact:
    @pytest.mark.parametrize("p", [1, 2])
    def test_every_assignment_of_eight_points(self, p):
        x, y = clouds(8, 8, 2)
        orders = torch.tensor(list(itertools.permutations(range(8))))
        costs = torch.cdist(x, y).pow(p)
        best = costs[torch.arange(8), orders].mean(1).min()
        assert exact_transport_cost(x, y, p=p).item() == pytest.approx(best.item())

    @pytest.mark.parametrize("dim", [2, 10])
    def test_the_assignment_of_sixty_four_points(self, dim):
        x, y = clouds(64, 64, dim)
        costs = torch.cdist(x, y).square()
        best = costs[linear_sum_assignment(costs.numpy())].mean()
        assert exact_transport_cost(x, y).item() == pytest.approx(best.item())
        # float32 rounds the costs alone
        cost = exact_transport_cost(x.float(), y.float())
        assert cost.dtype == torch.float32
        assert cost.item() == pytest.approx(best.item(), rel=1e-5)

    def test_gradients(self):
        """Points in general position have one plan, which small moves do not change."""
        x, y = (c.requires_grad_() for c in clouds(5, 4, 2))
        logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
        for p in (1, 2):
            assert torch.autograd.gradcheck(
                lambda x, y, logits, p=p: exact_transport_cost(
                    x, y, p=p, x_weights=logits.softmax(0)
                ),
                (x, y, logits),
            )

    def test_parallel_lines(self):
        """Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017, example 1: W = |θ|, and its slope
        leads θ to 0, where the Jensen–Shannon divergence is ln 2 everywhere."""
        height = torch.rand(40, 1, generator=torch.Generator().manual_seed(0)).double()
        data = torch.cat([torch.zeros_like(height), height], 1)
        for value in (-0.5, 0.25, 2.0):
            theta = torch.tensor(value, dtype=torch.float64, requires_grad=True)
            line = torch.cat([theta.expand(40, 1), height.flip(0)], 1)
            cost = exact_transport_cost(line, data, p=1)
            assert cost.item() == pytest.approx(abs(value))
            assert torch.autograd.grad(cost, theta)[0].item() == pytest.approx(
                math.copysign(1, value)
            )
            blurred = sinkhorn_divergence(line, data, epsilon=0.01, p=1)
            assert blurred.item() == pytest.approx(
                abs(value),
                abs=0.01 * math.log(40),  # ε times the most that a plan can gain
            )

    def test_without_pot(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ot", None)
        with pytest.raises(
            ModuleNotFoundError, match=r"needs the package ot: .*gencore\[transport\]"
        ):
            exact_transport_cost(torch.ones(2, 2), torch.ones(2, 2))


class TestSinkhornAgainstOthers:
    # POT 0.9.7.post1: ot.sinkhorn(a, b, C, eps, method="sinkhorn_log", stopThr=1e-13), the cost of
    # whose plan is ⟨P, C⟩ + eps ⟨P, log P/ab⟩. geomloss 0.3.1: SamplesLoss(p=p, blur=…,
    # scaling=0.999, backend="tensorized"), which ends before it has converged.
    @pytest.mark.parametrize(
        ("p", "epsilon", "transport", "divergence", "geomloss"),
        [
            (1, 0.1, 0.775235300, 0.425942588, 0.4258877),
            (1, 0.05, 0.698010911, 0.502390618, 0.5023084),
            (2, 0.1, 0.613733313, 0.359484234, 0.1797420 * 2),
            (2, 0.05, 0.513202845, 0.364427303, 0.1822128 * 2),
        ],
    )
    def test_values_of_pot_and_geomloss(self, p, epsilon, transport, divergence, geomloss):
        x, y = fixed_clouds()
        cost = sinkhorn_divergence(x, y, epsilon=epsilon, p=p, debias=False, tolerance=1e-8)
        assert cost.item() == pytest.approx(transport, abs=2e-9)
        found = sinkhorn_divergence(x, y, epsilon=epsilon, p=p, tolerance=1e-8)
        assert found.item() == pytest.approx(divergence, abs=2e-9)
        assert found.item() == pytest.approx(geomloss, abs=1e-4)

    @pytest.mark.parametrize("dim", [1, 2])
    @pytest.mark.parametrize("epsilon", [0.3, 3.0])
    def test_the_closed_form_of_normal_laws(self, dim, epsilon):
        mean, a, b = [0.5, -1.0][:dim], [[1.0, 0.3], [0.3, 0.5]], [[0.6, -0.2], [-0.2, 1.5]]
        a, b = ([row[:dim] for row in matrix[:dim]] for matrix in (a, b))
        (x, x_weights), (y, y_weights) = normal_grid([0.0] * dim, a), normal_grid(mean, b)
        cost = sinkhorn_divergence(
            x, y, epsilon=epsilon, x_weights=x_weights, y_weights=y_weights, debias=False,
            tolerance=1e-6,
        )  # fmt: skip
        moments = (torch.tensor(value, dtype=torch.float64) for value in (mean, a, b))
        expected = entropic_cost_of_normals(*moments, epsilon)
        assert cost.item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("p", [1, 2])
    def test_it_goes_to_the_exact_assignment(self, p):
        x, y = clouds(8, 8, 2)
        exact = exact_transport_cost(x, y, p=p).item()
        errors = [
            abs(
                sinkhorn_divergence(
                    x, y, epsilon=epsilon, p=p, tolerance=1e-4, max_iterations=20_000
                ).item()
                - exact
            )
            for epsilon in (0.1, 0.02, 0.004)
        ]
        assert errors[0] > errors[1] > errors[2]
        assert errors[2] < 5e-3 * exact

    def test_it_goes_to_half_of_the_energy_distance(self):
        """As ε grows, to the biased one for p = 1; for p = 2 to the distance of the means."""
        x, y = clouds(9, 7, 3)
        far = sinkhorn_divergence(x, y, epsilon=1e5, p=1, tolerance=1e-12)
        means = [torch.cdist(a, b).mean() for a, b in ((x, y), (x, x), (y, y))]
        assert far.item() == pytest.approx(
            (means[0] - means[1] / 2 - means[2] / 2).item(), rel=1e-4
        )
        far = sinkhorn_divergence(x, y, epsilon=1e5, p=2, tolerance=1e-12)
        shift = (x.mean(0) - y.mean(0)).square().sum()
        assert far.item() == pytest.approx(shift.item(), rel=1e-4)

    def test_a_shift_costs_its_square_at_any_epsilon(self):
        x, _ = clouds(30, 1, 3)
        shift = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
        for epsilon in (0.03, 0.3, 3.0):
            cost = sinkhorn_divergence(x, x + shift, epsilon=epsilon, tolerance=1e-9)
            assert cost.item() == pytest.approx(0.14, rel=1e-8)


class TestSinkhornDivergence:
    @pytest.mark.parametrize("p", [1, 2])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_equal_clouds_cost_nothing_and_stay(self, p, dtype):
        x, _ = clouds(60, 1, 2, dtype=dtype)
        for other in (x, x[torch.randperm(60, generator=torch.Generator().manual_seed(0))]):
            ends = x.clone().requires_grad_(), other.clone().requires_grad_()
            cost = sinkhorn_divergence(*ends, epsilon=0.01, p=p)
            rounding = 10 * torch.finfo(dtype).eps
            assert abs(cost.item()) < rounding
            for grad in torch.autograd.grad(cost, ends):
                assert grad.abs().max() < rounding

    @pytest.mark.parametrize("p", [1, 2])
    def test_it_is_never_negative(self, p):
        """Not even where the steps end early, and for clouds that nearly are one."""
        least = 0.0
        for seed, (tolerance, scale) in enumerate(itertools.product((0.3, 1e-3), (1e-4, 0.01, 1))):
            for dim in (1, 2, 5):
                x, z = clouds(20, 20, dim, seed)
                y = x + scale * (z - 0.5)
                for other, b in ((y, None), (y[:13], None), (x, weights(20, seed))):
                    cost = sinkhorn_divergence(
                        x, other, epsilon=0.02, p=p, y_weights=b, tolerance=tolerance
                    )
                    least = min(least, cost.item())
        # Ten steps at a small ε end far from the solution; the start alone sees to it.
        for seed, dim in itertools.product(range(4), (1, 2, 5)):
            x, z = clouds(20, 20, dim, seed)
            cost = sinkhorn_divergence(
                x, x + 1e-3 * (z - 0.5), epsilon=1e-3, p=p, tolerance=None, max_iterations=10
            )
            least = min(least, cost.item())
        assert least > -1e-12

    def test_gradients_where_points_coincide(self):
        x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
        y = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        for p in (1, 2):
            (grad,) = torch.autograd.grad(sinkhorn_divergence(x, y, epsilon=0.1, p=p), x)
            assert grad.isfinite().all()
            torch.testing.assert_close(grad[0], grad[1])

    @pytest.mark.parametrize("p", [1, 2])
    @pytest.mark.parametrize("debias", [True, False])
    def test_gradients_are_those_of_the_converged_value(self, p, debias):
        x, y = (c.requires_grad_() for c in clouds(6, 5, 2))
        logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)

        def cost(x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
            return sinkhorn_divergence(
                x, y, epsilon=0.1, p=p, x_weights=logits[0].softmax(0),
                y_weights=logits[1, :5].softmax(0), debias=debias, tolerance=1e-11,
            )  # fmt: skip

        assert torch.autograd.gradcheck(cost, (x, y, logits), rtol=1e-5)

    def test_a_second_derivative_raises(self):
        x, y = clouds(4, 4, 2)
        x.requires_grad_()
        (grad,) = torch.autograd.grad(sinkhorn_divergence(x, y, epsilon=0.1), x, create_graph=True)
        with pytest.raises(NotImplementedError, match=r"^sinkhorn_divergence: it has no second"):
            (x.sum() + grad.sum()).backward()

    @pytest.mark.parametrize("p", [1, 2])
    def test_no_matrix_of_pairs_is_held(self, p):
        x, y = (c.requires_grad_() for c in clouds(300, 200, 3))
        with LargestTensor() as largest:
            cost = sinkhorn_divergence(x, y, epsilon=0.1, p=p)
            grads = torch.autograd.grad(cost, (x, y))
        assert largest.numel <= 2 * 300 * 3
        with backend("reference"), LargestTensor() as largest:
            dense = sinkhorn_divergence(x, y, epsilon=0.1, p=p)
            dense_grads = torch.autograd.grad(dense, (x, y))
        assert largest.numel >= 300 * 200
        torch.testing.assert_close((cost, *grads), (dense, *dense_grads), rtol=1e-9, atol=1e-12)

    def test_batches_are_each_of_their_own(self):
        pairs = [clouds(12, 9, 2, seed) for seed in range(3)]
        x, y = (torch.stack(part).requires_grad_() for part in zip(*pairs, strict=True))
        together = sinkhorn_divergence(x, y, epsilon=0.05, tolerance=1e-10)
        alone = torch.stack([
            sinkhorn_divergence(*pair, epsilon=0.05, tolerance=1e-10)
            for pair in zip(x, y, strict=True)
        ])  # fmt: skip
        torch.testing.assert_close(together, alone, rtol=1e-8, atol=0)
        factors = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        grads = [torch.autograd.grad((factors * cost).sum(), x)[0] for cost in (together, alone)]
        torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)

    def test_weights_are_those_of_repeated_points_and_zero_is_absence(self):
        x, y = clouds(4, 5, 2)
        times = torch.tensor([3, 1, 0, 4])
        options = {"epsilon": 0.1, "tolerance": 1e-10}
        repeated = sinkhorn_divergence(x.repeat_interleave(times, 0), y, **options)
        ends = x.clone().requires_grad_(), (times / 8).requires_grad_()
        weighted = sinkhorn_divergence(ends[0], y, x_weights=ends[1], **options)
        assert weighted.item() == pytest.approx(repeated.item(), rel=1e-8)
        by_points, by_weights = torch.autograd.grad(weighted, ends)
        assert by_points[2].abs().max() == 0
        assert by_weights.isfinite().all()

    @pytest.mark.parametrize("p", [1, 2])
    def test_half_precision_is_that_of_the_points_alone(self, p):
        x, y = (c.bfloat16().requires_grad_() for c in clouds(20, 30, 2, dtype=torch.float32))
        results = []
        for ends, enabled in (((x, y), True), ((x.float(), y.float()), False)):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                cost = sinkhorn_divergence(*ends, epsilon=0.1, p=p)
                results.append((cost, *torch.autograd.grad(cost, (x, y))))
        torch.testing.assert_close(*results)
        assert results[0][0].dtype == torch.float32

    def test_far_from_the_origin(self):
        x, y = clouds(50, 50, 2, dtype=torch.float32)
        far = sinkhorn_divergence(x + 1000, y + 1000, epsilon=0.1)
        assert far.item() == pytest.approx(sinkhorn_divergence(x, y, epsilon=0.1).item(), rel=2e-3)

    def test_a_generator_learns_the_law_of_data(self):
        """The primal of the Wasserstein GAN: y = A z + b of a plane onto data of an affine law."""
        generator = torch.Generator().manual_seed(0)
        matrix, shift = torch.tensor([[1.0, 0.5], [0.0, 0.4]]), torch.tensor([2.0, -1.0])
        a, b = torch.eye(2).requires_grad_(), torch.zeros(2).requires_grad_()
        optimizer = torch.optim.Adam([a, b])
        for step in range(60):
            optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 60)
            z, data = torch.randn(2, 64, 2, generator=generator)
            optimizer.zero_grad()
            loss = sinkhorn_divergence(z @ a.T + b, data @ matrix.T + shift, epsilon=0.3)
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(b.detach(), shift, rtol=0, atol=0.25)
        torch.testing.assert_close((a @ a.T).detach(), matrix @ matrix.T, rtol=0, atol=0.25)


@pytest.mark.parametrize("p", [1, 2])
class TestSinkhornAtTheEdges:
    def test_single_points(self, p):
        """Of one point and one, the plan is their pair, whatever ε is."""
        x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        for y, cost in ((x.detach(), 0.0), (torch.tensor([[4.0, 6.0]]), 5.0**p)):
            for epsilon in (0.01, 1.0, 1e6):
                for debias in (True, False):
                    found = sinkhorn_divergence(x, y, epsilon=epsilon, p=p, debias=debias)
                    assert found.item() == pytest.approx(cost, rel=1e-6, abs=1e-6)
                    (grad,) = torch.autograd.grad(found, x)
                    expected = p * 5.0 ** (p - 2) * (x - y) if cost else torch.zeros_like(x)
                    torch.testing.assert_close(grad, expected.detach())

    def test_one_point_and_many(self, p):
        """The plan without ε is the product; the cost of many with themselves is left."""
        x, y = clouds(1, 30, 3)
        plain = sinkhorn_divergence(x, y, epsilon=0.1, p=p, debias=False)
        assert plain.item() == pytest.approx(torch.cdist(x, y).pow(p).mean().item())

    def test_repeated_points_are_one_of_their_weight(self, p):
        x, y = clouds(5, 4, 2)
        twice = sinkhorn_divergence(x.repeat(2, 1), y, epsilon=0.05, p=p, tolerance=1e-10)
        once = sinkhorn_divergence(x, y, epsilon=0.05, p=p, tolerance=1e-10)
        assert twice.item() == pytest.approx(once.item(), rel=1e-8)
        same = torch.ones(7, 2)
        assert abs(sinkhorn_divergence(same, same[:3], epsilon=0.1, p=p).item()) < 1e-6

    def test_layout_and_half_precision(self, p):
        x, y = (c.half() for c in clouds(20, 30, 3, dtype=torch.float32))
        expected = sinkhorn_divergence(x.float(), y.float(), epsilon=0.1, p=p)
        strided = torch.stack([x, x], 2)[..., 0], y.T.contiguous().T
        torch.testing.assert_close(sinkhorn_divergence(*strided, epsilon=0.1, p=p), expected)

    def test_far_from_the_origin_a_shift_changes_nothing(self, p):
        """By whole numbers, which float32 adds to these points without rounding."""
        x, y = ((64 * c).round() / 64 for c in clouds(30, 20, 2, dtype=torch.float32))
        results = []
        for shift in (0.0, 2.0**16):
            ends = (x + shift).requires_grad_(), (y + shift).requires_grad_()
            cost = sinkhorn_divergence(*ends, epsilon=0.05, p=p)
            results.append((cost, *torch.autograd.grad(cost, ends)))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)

    def test_a_point_without_mass_that_is_far_away(self, p):
        """Neither the value nor the number of steps depends on it."""
        x, y = clouds(12, 9, 2, dtype=torch.float32)
        a, b = weights(12).float(), weights(9, seed=1).float()
        results = []
        for place in (0.5, 100.0):
            far_x, far_y = x.clone(), y.clone()
            far_x[1], far_y[1] = place, place + 1
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                cost = sinkhorn_divergence(
                    far_x, far_y, epsilon=0.02, p=p, x_weights=a, y_weights=b
                )
            results.append(cost)
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)

    def test_a_potential_where_there_is_no_mass_is_no_error(self, p):
        """However far it is from the best one: its exponential may be infinite."""
        x, y = clouds(3, 2, 2, dtype=torch.float32)
        problem = entropic_transport(
            "test", x, y, torch.tensor([0.5, 0.5, 0.0]), None, epsilon=0.01, p=p, annealing=0.5,
            tolerance=None, max_iterations=1,
        )  # fmt: skip
        g = torch.zeros(1, 2)
        f = problem.x_potential(g)
        best_g = problem.y_potential(f)
        error = _State(f + torch.tensor([0.0, 0.0, 1e6]), best_g, f, best_g).marginal_error(problem)
        assert error.item() == 0

    def test_costs_that_the_dtype_cannot_hold(self, p):
        x, y = clouds(3, 4, 2, dtype=torch.float32)
        for factor, epsilon in ((1e25, 1.0), (1.0, 1e-39)):
            with pytest.raises(
                ValueError, match=r"^sinkhorn_divergence: epsilon is .* costs are up to"
            ):
                sinkhorn_divergence(factor * x, factor * y, epsilon=epsilon, p=p)
        with warnings.catch_warnings():  # of what float32 rounds away, it has no more to say
            warnings.simplefilter("ignore", ConvergenceWarning)
            small = sinkhorn_divergence(x, y, epsilon=1e-12, p=p, max_iterations=20)
        assert small.isfinite()

    def test_weights_made_in_float32_reach_a_tolerance_of_float64(self, p):
        x, y = clouds(30, 20, 2)
        a, b = (weights(num).float().double() for num in (30, 20))
        assert a.sum() != b.sum()
        found = sinkhorn_potentials(
            x, y, epsilon=0.1, p=p, x_weights=a, y_weights=b, tolerance=1e-12
        )
        assert found.marginal_error <= 1e-12


class TestSinkhornPotentials:
    @pytest.mark.parametrize("p", [1, 2])
    def test_the_marginals_of_the_plan(self, p):
        x, y = clouds(30, 20, 3)
        a, b = weights(30), weights(20, seed=1)
        for tolerance in (1e-2, 1e-9):
            f, g, error, _ = sinkhorn_potentials(
                x, y, epsilon=0.05, p=p, x_weights=a, y_weights=b, tolerance=tolerance
            )
            assert error <= tolerance
            costs = torch.cdist(x, y).pow(p)
            plan = a[:, None] * b * ((f[:, None] + g - costs) / 0.05).exp()
            found = (plan.sum(1) - a).abs().sum() + (plan.sum(0) - b).abs().sum()
            assert found < 2 * tolerance

    def test_no_step_lowers_the_objective(self):
        """Whether it goes beyond the best potential or, where that would be too far, to it."""
        epsilon, weight = 0.1, torch.ones(1, 1, dtype=torch.float64)
        best = torch.zeros_like(weight)
        x = torch.zeros(2, 1, dtype=torch.float64)
        for gap, goes_beyond in ((-0.01, True), (0.01, True), (3.0, True), (-3.0, False)):
            relaxation = _Relaxation(
                entropic_transport(
                    "test", x, x, None, None, epsilon=epsilon, p=2, annealing=0.5, tolerance=None,
                    max_iterations=1,
                )
            )  # fmt: skip
            relaxation.factor = relaxation.factor * 1.9
            old = best + epsilon * gap
            new = relaxation.step(old, best, weight)
            before, after = (f - epsilon * (f / epsilon).exp() for f in (old, new))
            assert after >= before
            assert (new != best) == goes_beyond

    def test_overrelaxed_steps_are_fewer(self):
        """Plain steps, in the same places: the error is below 1e-6 after more than five times as
        many."""
        x, y = clouds(200, 200, 2)
        epsilon = 0.01 * torch.cdist(x, y).square().mean().item()
        found = sinkhorn_potentials(x, y, epsilon=epsilon, tolerance=1e-6)
        scaled = torch.cdist(x, y).square() / epsilon
        f, g = found.f / epsilon, torch.zeros(200, dtype=torch.float64)
        for _ in range(5 * found.num_iterations):
            f = math.log(200) - (g - scaled).logsumexp(1)
            g = math.log(200) - (f[:, None] - scaled).logsumexp(0)
        rows = (f[:, None] + g - scaled).exp().sum(1) / 200**2
        assert (rows - 1 / 200).abs().sum() > 1e-6 >= found.marginal_error

    def test_what_has_not_converged_warns(self):
        x, y = clouds(50, 50, 2)
        with pytest.warns(
            ConvergenceWarning, match="^sinkhorn_potentials: the marginals .* after 3"
        ):
            found = sinkhorn_potentials(x, y, epsilon=1e-3, max_iterations=3)
        assert found.marginal_error > 1e-3
        assert found.num_iterations == 3
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fixed = sinkhorn_potentials(x, y, epsilon=1e-3, max_iterations=3, tolerance=None)
        torch.testing.assert_close(fixed.f, found.f)
        with pytest.warns(ConvergenceWarning, match="^sinkhorn_divergence"):
            low = sinkhorn_divergence(x, y, epsilon=1e-3, max_iterations=3, debias=False)
        assert low < sinkhorn_divergence(x, y, epsilon=1e-3, debias=False)

    def test_bad_input(self):
        x = torch.ones(3, 2)
        with pytest.raises(ValueError, match=r"^sinkhorn_potentials: x and y have shapes \[3, 2\]"):
            sinkhorn_potentials(x, torch.ones(3, 3), epsilon=1.0)
        with pytest.raises(ValueError, match="shapes"):
            sinkhorn_potentials(x, x[:0], epsilon=1.0)
        with pytest.raises(ValueError, match="y holds NaN"):
            sinkhorn_potentials(x, x * math.nan, epsilon=1.0)
        with pytest.raises(ValueError, match=r"sum to \[1.5\]|sum to 1.5"):
            sinkhorn_potentials(x, x, epsilon=1.0, y_weights=torch.full((3,), 0.5))
        with pytest.raises(ValueError, match=r"smallest is -0\.5"):
            sinkhorn_potentials(x, x, epsilon=1.0, x_weights=torch.tensor([1.0, 0.5, -0.5]))
        for options, message in (
            ({"epsilon": 0.0}, "epsilon is 0"),
            ({"p": 3}, "p is 3; expected one of 1, 2"),
            ({"annealing": 1.0}, "annealing is 1.0"),
            ({"tolerance": -1.0}, "tolerance must be"),
            ({"max_iterations": 0}, "max_iterations is 0"),
        ):
            with pytest.raises(ValueError, match=f"^sinkhorn_divergence: {message}"):
                sinkhorn_divergence(x, x, **{"epsilon": 1.0, **options})


@pytest.mark.parametrize("dim", [2, 16])
def test_errors_fall_with_the_number_of_points(dim):
    """Between samples of one law, 80 and 640: as L^(−1/2) for the energy distance in any dimension,
    and as L^(−1/D) for W_1, where D is large."""
    generator = torch.Generator().manual_seed(0)

    def mean(num: int, repeats: int, distance) -> float:
        draws = torch.randn(repeats, 2, num, dim, generator=generator, dtype=torch.float64)
        return sum(abs(distance(*pair)) for pair in draws) / repeats

    def slope(repeats: int, distance) -> float:
        return math.log(mean(640, repeats, distance) / mean(80, repeats, distance)) / math.log(8)

    # Of a square root of the biased squared distance; of |unbiased squared distance| twice as much.
    assert slope(20, lambda x, y: energy_distance(x, y)) / 2 == pytest.approx(-0.5, abs=0.12)
    rate = slope(4, lambda x, y: exact_transport_cost(x, y, p=1).item())
    if dim == 16:
        assert rate == pytest.approx(-1 / 16, abs=0.05)
    else:
        assert -0.55 < rate < -0.35
