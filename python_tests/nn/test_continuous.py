"""Continuous transforms: closed forms of linear fields, estimated traces, ways to gradients."""

import gc
import math
import sys
import weakref

import pytest
import torch
from testing.flow_testing import check_transform, randn, randomize
from torch import Tensor, nn

from gencore.nn import ContinuousTransform, VelocityMLP
from gencore.nn.jacobian import jacobian_trace

pytest.importorskip("torchdiffeq")

TIGHT = {"solver": "dopri8", "rtol": 1e-9, "atol": 1e-9}
KEY = torch.tensor([3, 0])


class Linear(nn.Module):
    """f(x) = A x."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, t, x, context):
        return x @ self.matrix.T


class Growing(nn.Module):
    """f(t, x; c) = 3 c t² x."""

    def forward(self, t, x, context):
        return 3 * context * t**2 * x


def matrix() -> Tensor:
    return 0.5 * randn(3, 3, seed=4)


def network(features=3, context_size=2) -> VelocityMLP:
    torch.manual_seed(0)
    field = VelocityMLP(features, [8], context_size=context_size).double()
    randomize(field)
    return field


class TestClosedForms:
    @pytest.mark.parametrize(
        ("options", "tolerance"),
        [
            ({"rtol": 1e-8, "atol": 1e-8}, 1e-7),
            (TIGHT, 1e-8),
            ({"solver": "rk4", "num_steps": 40}, 1e-6),
            ({"solver": "midpoint", "num_steps": 60}, 1e-3),
        ],
    )
    def test_a_linear_field_is_the_matrix_exponential(self, options, tolerance):
        a, x = matrix(), randn(5, 3)
        transform = ContinuousTransform(Linear(a), **options)
        close = {"rtol": tolerance, "atol": tolerance}
        z, log_det = transform(x)
        torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(a).T, **close)
        torch.testing.assert_close(log_det, a.trace().expand(5), **close)
        back, inverse_log_det = transform.inverse(x)
        torch.testing.assert_close(back, x @ torch.linalg.matrix_exp(-a).T, **close)
        torch.testing.assert_close(inverse_log_det, -a.trace().expand(5), **close)

    @pytest.mark.parametrize("inverse", [False, True])
    @pytest.mark.parametrize("adjoint", [False, True])
    def test_the_last_step_ends_at_the_end(self, adjoint, inverse):
        """Of values and gradients: dopri8 loses four digits beyond it and back."""
        a, x = torch.tensor([1.3, -0.9]).double(), randn(2, 2).requires_grad_()
        tight = {"solver": "dopri8", "rtol": 1e-11, "atol": 1e-11}
        transform = ContinuousTransform(Linear(a.diag()), time=1.7, adjoint=adjoint, **tight)
        z, _ = transform.inverse(x) if inverse else transform(x)
        factor = (1.7 * (-a if inverse else a)).exp()
        torch.testing.assert_close(z, factor * x, rtol=1e-10, atol=1e-10)
        (grad,) = torch.autograd.grad(z.sum(), x)
        torch.testing.assert_close(grad, factor.expand(2, 2), rtol=1e-10, atol=1e-10)

    def test_time_and_context_reach_the_field(self):
        x, context = randn(5, 2), randn(5, 1, seed=1)
        z, log_det = ContinuousTransform(Growing(), time=1.5, **TIGHT)(x, context)
        torch.testing.assert_close(z, x * (1.5**3 * context).exp())
        torch.testing.assert_close(log_det, 2 * 1.5**3 * context.squeeze(1))

    @pytest.mark.parametrize("inverse", [False, True])
    def test_the_measures_of_the_path(self, inverse):
        """Of x' = diag(a) x, ∫‖f‖² = Σ a (e^{2aT} − 1) x² / 2, and ∫‖∂f/∂x‖² = T Σ a²."""
        a, x = torch.tensor([0.7, -1.2]).double(), randn(4, 2)
        transform = ContinuousTransform(Linear(a.diag()), time=0.8, **TIGHT)
        path = transform.follow(x, inverse=inverse)
        start = path.end if inverse else x
        energy = (0.5 * a * ((2 * 0.8 * a).exp() - 1) * start.square()).sum(1)
        torch.testing.assert_close(path.kinetic_energy, energy)
        torch.testing.assert_close(path.jacobian_norm, 0.8 * a.square().sum().expand(4))
        torch.testing.assert_close(path.end, (transform.inverse if inverse else transform)(x)[0])

    def test_fixed_steps_evaluate_the_field_as_often_as_they_say(self):
        transform = ContinuousTransform(Linear(matrix()), solver="rk4", num_steps=5)
        assert transform.follow(randn(2, 3)).num_evaluations == 20


def test_the_field_of_a_network_sees_all_its_inputs():
    field, x, context = network(), randn(4, 3), randn(4, 2, seed=1)
    t = torch.tensor(0.3).double().requires_grad_()
    velocity = field(t, x.requires_grad_(), context.requires_grad_())
    for grad in torch.autograd.grad(velocity.sum(), (t, x, context)):
        assert bool((grad != 0).all())


class TestMaps:
    @pytest.mark.parametrize("features", [1, 3])
    def test_inverse_and_log_det_are_those_of_the_jacobian(self, features):
        transform = ContinuousTransform(network(features), **TIGHT)
        check_transform(transform, randn(4, features), randn(4, 2, seed=1), tolerance=1e-7)

    def test_fields_of_images(self):
        class Convolution(nn.Conv2d):
            def forward(self, t, x, context):
                return torch.tanh(super().forward(x)) + t

        torch.manual_seed(0)
        field = Convolution(2, 2, 3, padding=1).double()
        transform = ContinuousTransform(field, **TIGHT)
        check_transform(transform, randn(3, 2, 2, 2), tolerance=1e-7)

    def test_the_round_trip_is_within_the_tolerance(self):
        x, context = randn(50, 3), randn(50, 2, seed=1)
        errors = []
        for tolerance in (1e-3, 1e-6, 1e-9):
            transform = ContinuousTransform(network(), rtol=tolerance, atol=tolerance)
            back = transform.inverse(transform(x, context)[0], context)[0]
            errors.append((back - x).abs().max().item())
            assert errors[-1] < 30 * tolerance
        assert errors[0] > errors[1] > errors[2]

    def test_transport_is_the_map_without_its_log_det(self):
        transform, x, context = ContinuousTransform(network(), **TIGHT), randn(4, 3), randn(4, 2)
        for inverse, direction in ((False, transform), (True, transform.inverse)):
            end = transform.transport(x, context, inverse=inverse)
            torch.testing.assert_close(end, direction(x, context)[0])
            (grad,) = torch.autograd.grad(end.sum(), transform.field.network.layers[0].weight)
            assert bool(grad.any())

    def test_no_rows(self):
        z, log_det = ContinuousTransform(network())(torch.zeros(0, 3).double())
        assert z.shape == (0, 3)
        assert log_det.shape == (0,)

    def test_autocast_leaves_the_precision_alone(self):
        transform = ContinuousTransform(network().float())
        x, context = randn(4, 3, dtype=torch.float32), randn(4, 2, dtype=torch.float32)
        expected = transform(x, context)
        with torch.autocast("cpu", torch.bfloat16):
            found = transform(x, context)
        assert found[1].dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class TestEstimates:
    """Of a linear field the estimate is vᵀAv, of variance 2‖S‖² for normal v, S = (A + Aᵀ)/2; of
    signs without the diagonal. Noise redrawn on the way would have less."""

    @pytest.mark.parametrize("trace", ["rademacher", "gaussian"])
    def test_mean_and_variance(self, trace):
        a, num = matrix(), 20_000
        transform = ContinuousTransform(Linear(a), trace=trace, solver="rk4", num_steps=2)
        path = transform.follow(randn(1, 3).expand(num, 3), key=KEY)
        s = 0.5 * (a + a.T)
        variance = 2 * (s.square().sum() - s.diagonal().square().sum() * (trace == "rademacher"))
        error = 4 * (variance / num) ** 0.5
        assert abs(path.log_det.mean() - a.trace()) < error
        assert path.log_det.var().item() == pytest.approx(variance.item(), rel=0.1)
        norm = path.jacobian_norm
        assert abs(norm.mean() - a.square().sum()) < 4 * norm.std() / num**0.5

    @pytest.mark.parametrize("trace", ["rademacher", "gaussian"])
    def test_unbiased_along_curved_paths(self, trace):
        x, context, num = randn(1, 3), randn(1, 2, seed=1), 4000
        options = {"solver": "rk4", "num_steps": 4}
        with torch.no_grad():
            expected = ContinuousTransform(network(), **options)(x, context)[1]
            rows = x.expand(num, 3), context.expand(num, 2)
            found = ContinuousTransform(network(), trace=trace, **options).follow(*rows, key=KEY)
        log_det = found.log_det
        assert log_det.std() > 0.01
        assert abs(log_det.mean() - expected) < 4 * log_det.std() / num**0.5

    def test_the_key_decides_and_rows_know_their_place(self):
        transform = ContinuousTransform(network(), trace="gaussian", solver="rk4", num_steps=4)
        x, context = randn(6, 3), randn(6, 2, seed=1)
        whole = transform.follow(x, context, key=KEY).log_det
        part = transform.follow(x[2:], context[2:], key=KEY, first=2).log_det
        torch.testing.assert_close(part, whole[2:])
        assert not torch.allclose(transform.follow(x, context, key=KEY + 1).log_det, whole)
        drawn = [
            transform.follow(x, context, generator=torch.Generator().manual_seed(5)).log_det
            for _ in range(2)
        ]
        assert torch.equal(*drawn)


class TestGradients:
    @pytest.mark.parametrize("trace", ["exact", "rademacher"])
    def test_the_adjoint_the_steps_and_finite_differences_agree(self, trace):
        x, context = randn(3, 2).requires_grad_(), randn(3, 2, seed=1).requires_grad_()
        weights = randn(3, seed=2)
        found = {}
        for adjoint in (False, True):
            transform = ContinuousTransform(network(2), trace=trace, adjoint=adjoint, **TIGHT)
            leaves = [x, context, *transform.parameters()]

            def loss(transform=transform):
                path = transform.follow(x, context, key=KEY)
                sums = path.log_det + 0.3 * path.kinetic_energy + 0.1 * path.jacobian_norm
                return (weights * (sums + path.end.square().sum(1))).sum()

            found[adjoint] = torch.autograd.grad(loss(), leaves, allow_unused=True)
            found[adjoint] = [torch.zeros(()) if g is None else g for g in found[adjoint]]
        torch.testing.assert_close(found[True], found[False], rtol=1e-6, atol=1e-8)
        for leaf, grad in zip(leaves, found[False], strict=True):
            if not grad.any():  # the last bias of a field, but for the kinetic energy
                continue
            direction = randn(*leaf.shape, seed=5)
            with torch.no_grad():
                values = []
                for step in (1e-5, -2e-5):
                    leaf += step * direction
                    values.append(loss())
                leaf += 1e-5 * direction
            slope = (values[0] - values[1]) / 2e-5
            torch.testing.assert_close((grad * direction).sum(), slope, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("direction", ["forward", "inverse"])
    def test_steps_are_differentiable_twice(self, direction):
        transform = ContinuousTransform(network(2, 0), solver="rk4", num_steps=2)
        x = randn(2, 2).requires_grad_()
        assert torch.autograd.gradgradcheck(getattr(transform, direction), x)

    def test_the_adjoint_keeps_no_steps(self):
        kept = {}
        for adjoint in (False, True):
            for steps in (2, 8):
                transform = ContinuousTransform(
                    network(), solver="rk4", num_steps=steps, adjoint=adjoint
                )
                alive = weakref.WeakSet()

                class Saved:
                    def __init__(self, tensor, alive=alive):
                        self.tensor = tensor
                        alive.add(self)

                with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
                    outputs = transform(randn(4, 3), randn(4, 2))
                gc.collect()
                kept[adjoint, steps] = len(alive)
                del outputs
        assert kept[True, 2] == kept[True, 8] < kept[False, 2] < kept[False, 8] / 2

    def test_traces_and_norms_of_a_jacobian(self):
        x = randn(5, 4).requires_grad_()
        y = torch.sin(x @ randn(4, 4, seed=1)) * x.prod(1, keepdim=True)
        jacobians = torch.stack(
            [
                torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0]
                for i in range(4)
            ], 1,
        )  # fmt: skip
        found = jacobian_trace(y, x)
        torch.testing.assert_close(found.trace, jacobians.diagonal(dim1=1, dim2=2).sum(1))
        torch.testing.assert_close(found.squared_norm, jacobians.square().sum((1, 2)))


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"time": 0.0}, "time is 0.0; expected a positive"),
            ({"rtol": -1.0}, "rtol is -1.0"),
            ({"atol": math.nan}, "atol is nan"),
            ({"trace": "hutchinson"}, "trace is 'hutchinson'; expected one of exact, rademacher"),
            ({"solver": "rk5"}, "solver is 'rk5'; expected one of dopri5"),
            ({"solver": "rk4"}, "num_steps is None with the solver 'rk4'; expected a number"),
            ({"num_steps": 4}, "num_steps is 4 with the solver 'dopri5'"),
            ({"solver": "rk4", "num_steps": 0}, "num_steps is 0"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=f"ContinuousTransform: {message}"):
            ContinuousTransform(network(), **options)

    def test_fields(self):
        with pytest.raises(TypeError, match="field is a function; expected a module"):
            ContinuousTransform(lambda t, x, c: x)
        narrow = VelocityMLP(3, [4])
        narrow.network = nn.Linear(3, 2)
        narrow.forward = lambda t, x, c: narrow.network(x)
        with pytest.raises(
            ValueError, match=r"the field made \[4, 2\] of points of shape \[4, 3\]"
        ):
            ContinuousTransform(narrow)(torch.zeros(4, 3))
        with pytest.raises(ValueError, match=r"VelocityMLP: got points of shape \[4, 2\]"):
            ContinuousTransform(VelocityMLP(3))(torch.zeros(4, 2))
        with pytest.raises(ValueError, match=r"VelocityMLP: expected a context \[4, 2\], got none"):
            ContinuousTransform(network())(torch.zeros(4, 3).double())

    def test_data(self):
        with pytest.raises(
            TypeError, match=r"data are torch\.bfloat16; expected float32 or float64"
        ):
            ContinuousTransform(VelocityMLP(3))(torch.zeros(4, 3, dtype=torch.bfloat16))
        with pytest.raises(ValueError, match=r"data have shape \[3\]"):
            ContinuousTransform(VelocityMLP(3))(torch.zeros(3))

    def test_a_field_that_explodes_is_reported(self):
        class Square(nn.Module):
            def forward(self, t, x, context):
                return x**2  # which reaches infinity at the time 1/x

        with pytest.raises(
            RuntimeError, match="ContinuousTransform: dopri5 cannot follow the field"
        ):
            ContinuousTransform(Square(), time=2.0)(torch.ones(1, 1))

    def test_without_torchdiffeq(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchdiffeq", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'gencore\[flows\]'"):
            ContinuousTransform(VelocityMLP(3))(torch.zeros(4, 3))
