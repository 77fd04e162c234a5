"""Monotonic networks: quadrature, inverse, derivatives, and the transforms made of them."""

import math
from itertools import pairwise

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch import Tensor, nn

from gencore.models import Flow
from gencore.nn import MonotonicAutoregressive, MonotonicElementwise, MonotonicNetwork
from gencore.nn.networks.monotonic_network import clenshaw_curtis


def network(seed: int = 0, scale: float = 0.6, **options) -> MonotonicNetwork:
    made = MonotonicNetwork(3, (12, 12), **options).double()
    redraw(made, scale, seed)
    return made


class Exponential(nn.Module):
    """What the positive network has to be for g(t) = e^t."""

    def __init__(self, min_slope: float) -> None:
        super().__init__()
        self.min_slope = min_slope

    def forward(self, inputs: Tensor) -> Tensor:
        softplus = inputs[:, :1].exp() - self.min_slope
        return softplus.expm1().log() - math.log(math.expm1(1 - self.min_slope))


class TestQuadrature:
    @pytest.mark.parametrize("num_nodes", [2, 3, 4, 9, 16, 33])
    def test_polynomials_are_exact(self, num_nodes):
        nodes, weights = clenshaw_curtis(num_nodes)
        assert (nodes[0], nodes[-1]) == (1.0, 0.0)
        assert min(weights) > 0
        for degree in range(num_nodes):
            integral = sum(w * x**degree for x, w in zip(nodes, weights, strict=True))
            assert integral == pytest.approx(1 / (degree + 1), rel=1e-14)

    def test_a_known_integral(self):
        """∫₀ˣ e^t dt = e^x − 1 within the bound, a line of slope e^B beyond."""
        one = MonotonicNetwork(0, tail_bound=1.5)
        one.network = Exponential(one.min_slope)
        x = torch.linspace(-3, 3, 61).double()
        y, log_slope = one(x, torch.full((61, 1), 0.7).double())
        inner = x.clamp(-1.5, 1.5)
        torch.testing.assert_close(y, 0.7 + inner.expm1() + (x - inner) * inner.exp())
        torch.testing.assert_close(log_slope, inner)

    def test_the_error_falls_fast_with_the_nodes(self):
        x, h = torch.linspace(-5, 5, 101).double(), randn(1, 4).expand(101, 4)
        exact = network(num_nodes=201)(x, h)[0]
        errors = [(network(num_nodes=n)(x, h)[0] - exact).abs().max() for n in (5, 9, 17, 33)]
        assert all(b < a / 5 for a, b in pairwise(errors))
        assert errors[-1] < 1e-6

    def test_the_slope_is_the_derivative(self):
        for seed in range(3):
            x, h = torch.linspace(-4.9, 4.9, 50).double().requires_grad_(), randn(50, 4, seed=seed)
            y, log_slope = network(seed, num_nodes=65)(x, h)
            (derivative,) = torch.autograd.grad(y.sum(), x)
            torch.testing.assert_close(log_slope.exp(), derivative, rtol=1e-7, atol=1e-9)


class TestFunction:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_increases_and_takes_every_value(self, seed):
        x = torch.linspace(-20, 20, 4001).double()
        y, _ = network(seed)(x, randn(1, 4, seed=seed).expand(4001, 4))
        assert bool((y[1:] > y[:-1]).all())
        h = randn(1, 4, seed=seed).expand(2, 4)
        far = torch.tensor([-1e4, 1e4]).double()
        torch.testing.assert_close(network(seed)(network(seed).inverse(far, h)[0], h)[0], far)

    def test_it_starts_as_a_shift(self):
        torch.manual_seed(0)
        x, h = randn(20), randn(20, 4, seed=1)
        y, log_slope = MonotonicNetwork(3).double()(x, h)
        torch.testing.assert_close(y, x + h[:, 0])
        torch.testing.assert_close(log_slope, torch.zeros(20).double())

    @pytest.mark.parametrize("seed", range(5))
    def test_the_inverse_is_exact_to_rounding(self, seed):
        made, h = network(seed), randn(400, 4, seed=seed)
        x = torch.linspace(-12, 12, 400).double()
        y, log_slope = made(x, h)
        back, inverse_log_slope = made.inverse(y, h)
        torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(inverse_log_slope, log_slope, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(made(made.inverse(x, h)[0], h)[0], x, rtol=1e-10, atol=1e-10)

    def test_steep_and_flat_functions_invert_in_float32(self):
        made = MonotonicNetwork(0, (8,), min_slope=1e-3)
        redraw(made, 3.0, seed=1)
        x, h = torch.linspace(-8, 8, 1001), torch.zeros(1001, 1)
        y, log_slope = made(x, h)
        again = made(made.inverse(y, h)[0], h)[0]
        assert log_slope.max() - log_slope.min() > 5
        assert ((again - y).abs() <= 1e-5 * (1 + y.abs()) * (1 + log_slope.exp())).all()

    @pytest.mark.parametrize("direction", ["forward", "inverse"])
    def test_both_directions_are_differentiable_twice(self, direction):
        made = MonotonicNetwork(2, (4,), num_nodes=17).double()
        redraw(made, 0.5, seed=2)
        names, values = zip(*made.named_parameters(), strict=True)
        module = made if direction == "forward" else _Inverse(made)
        prefix = "" if direction == "forward" else "made."

        def function(x, h, *parameters):
            by_name = {prefix + n: p for n, p in zip(names, parameters, strict=True)}
            return torch.func.functional_call(module, by_name, (x, h))

        x = torch.tensor([-7.0, -1.2, 0.4, 6.0]).double().requires_grad_()
        leaves = (x, randn(4, 3).requires_grad_(), *(v.detach().requires_grad_() for v in values))
        # The slope is that of the integral itself, to the quadrature's error.
        assert torch.autograd.gradcheck(function, leaves, atol=1e-6, rtol=1e-5)
        assert torch.autograd.gradgradcheck(function, leaves, atol=1e-5, rtol=1e-4)

    def test_the_inverse_has_the_reciprocal_slope(self):
        made, h = network(), randn(30, 4)
        y = (3 * randn(30, seed=1)).requires_grad_()
        x, log_slope = made.inverse(y, h)
        (slope,) = torch.autograd.grad(x.sum(), y)
        torch.testing.assert_close(slope, (-log_slope).exp(), rtol=1e-9, atol=1e-9)


class _Inverse(nn.Module):
    def __init__(self, made: MonotonicNetwork) -> None:
        super().__init__()
        self.made = made

    def forward(self, y, h):
        return self.made.inverse(y, h)


class TestTransforms:
    @pytest.mark.parametrize("context_size", [0, 2])
    @pytest.mark.parametrize("kind", [MonotonicElementwise, MonotonicAutoregressive])
    def test_inverse_and_log_det_are_those_of_the_jacobian(self, kind, context_size):
        torch.manual_seed(0)
        widths = {} if kind is MonotonicElementwise else {"hidden_widths": (8,)}
        integrand = "hidden_widths" if kind is MonotonicElementwise else "integrand_widths"
        transform = kind(
            3, embedding_size=2, num_nodes=49, context_size=context_size,
            **{**widths, integrand: (6,)},
        ).double()  # fmt: skip
        redraw(transform, 0.5, seed=0)
        context = randn(4, context_size, seed=1) if context_size else None
        x = 2 * randn(4, 3)
        check_transform(transform, x, context, tolerance=1e-7)
        if context is not None:
            assert not torch.allclose(transform(x, -context)[0], transform(x, context)[0])

    @pytest.mark.parametrize("order", [None, [2, 0, 1]])
    def test_coordinates_depend_on_those_before_them_alone(self, order):
        torch.manual_seed(0)
        transform = MonotonicAutoregressive(3, (8,), order=order).double()
        redraw(transform, 0.5, seed=0)
        x = randn(1, 3)
        for direction in (transform, transform.inverse):
            jacobian = torch.autograd.functional.jacobian(lambda t, f=direction: f(t)[0][0], x)
            rows = jacobian[:, 0][order or [0, 1, 2]][:, order or [0, 1, 2]]
            assert torch.equal(rows.triu(1), torch.zeros(3, 3).double())
            assert bool((rows.diagonal() > 0).all())
            assert bool((rows.tril(-1) != 0).sum() == 3)

    @pytest.mark.parametrize("kind", [MonotonicElementwise, MonotonicAutoregressive])
    def test_half_types_have_float32_log_dets(self, kind):
        transform, x = kind(3).bfloat16(), torch.randn(4, 3, dtype=torch.bfloat16)
        for values, log_det in (transform(x), transform.inverse(x)):
            assert values.dtype == torch.bfloat16
            assert log_det.dtype == torch.float32

    def test_a_mixture_is_fitted_by_the_optimal_map(self):
        """Of F, the mixture's distribution function, the map to normal latents is Φ⁻¹∘F."""
        generator = torch.Generator().manual_seed(0)
        means, std = torch.tensor([-1.5, 0.0, 1.5]), 0.4

        def draw(num: int) -> Tensor:
            part = torch.randint(3, (num,), generator=generator)
            return (means[part] + std * torch.randn(num, generator=generator))[:, None]

        def log_density(x: Tensor) -> Tensor:
            parts = torch.distributions.Normal(means.to(x), std).log_prob(x)
            return parts.logsumexp(1) - math.log(3)

        torch.manual_seed(0)
        flow = Flow(MonotonicElementwise(1, embedding_size=4), [1])
        optimizer = torch.optim.Adam(flow.parameters(), 2e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
        for _ in range(300):
            loss = -flow.log_prob(draw(256)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        grid = torch.linspace(-4, 4, 2001).double()[:, None]
        with torch.no_grad():
            log_p, log_q = log_density(grid), flow.double().log_prob(grid)
            z = flow.transform(grid)[0]
        divergence = (log_p.exp() * (log_p - log_q)).sum() * 8 / 2000
        assert 0 < divergence < 0.004
        cumulative = torch.special.ndtr((grid - means) / std).mean(1)
        inside = (cumulative > 0.02) & (cumulative < 0.98)
        optimal = torch.special.ndtri(cumulative)
        assert (z.squeeze(1) - optimal)[inside].abs().max() < 0.06


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: MonotonicNetwork(-1), "MonotonicNetwork: embedding_size is -1"),
            (lambda: MonotonicNetwork(1, num_nodes=1), "num_nodes is 1; expected at least 2"),
            (lambda: MonotonicNetwork(1, tail_bound=0.0), "tail_bound is 0.0"),
            (lambda: MonotonicNetwork(1, input_scale=-1.0), "input_scale is -1.0"),
            (lambda: MonotonicNetwork(1, tail_bound=math.inf), "tail_bound must be finite"),
            (lambda: MonotonicNetwork(1, min_slope=1.0), "min_slope is 1.0"),
            (lambda: MonotonicNetwork(1, activation="sine"), "activation is 'sine'"),
            (lambda: MonotonicElementwise(0), "MonotonicElementwise: features is 0"),
            (
                lambda: MonotonicNetwork(1)(torch.zeros(5), torch.zeros(5, 1)),
                r"h has shape \[5, 1\] beside x of shape \[5\]; expected \[5, 2\]",
            ),
            (
                lambda: MonotonicAutoregressive(2)(torch.zeros(4, 3)),
                r"MonotonicAutoregressive: data have shape \[4, 3\]; expected \[N, 2\]",
            ),
            (
                lambda: MonotonicElementwise(2)(torch.zeros(4, 3)),
                r"MonotonicElementwise: got data of shape \[4, 3\]; expected \[N, 2\]",
            ),
            (
                lambda: MonotonicAutoregressive(2, context_size=1).inverse(torch.zeros(4, 2)),
                r"MonotonicAutoregressive: expected a context \[4, 1\], got none",
            ),
        ],
    )
    def test_is_named(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()
