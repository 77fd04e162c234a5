"""The soft minimum of costs: shared operator tests, closed forms, limits, CUDA kernels, errors."""

import ctypes
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, compiler
from testing.largest_tensor import LargestTensor
from testing.op_tester import TOLERANCE, OpTester

from gencore.ops import backend, soft_minimum
from gencore.ops.soft_minimum import _plan_sums, _reference_plan_sums

_ops = torch.ops.gencore
BACKENDS = ("native", "reference")
EPSILON = 0.7


def clouds(batch, rows, columns, dims, dtype=torch.float64, device="cpu"):
    """x, y and logarithms of weights, of which one in seven is minus infinity."""
    generator = torch.Generator().manual_seed(1)
    x, y = (
        torch.randn(batch, num, dims, generator=generator).to(device, dtype)
        for num in (rows, columns)
    )
    logs = torch.randn(batch, columns, generator=generator).to(device, dtype)
    if columns > 1:
        logs[:, 1::7] = -math.inf
    return x, y, logs


def with_points(x, y, log_weights, *, epsilon=EPSILON, p=2):
    # With zeros like the points: the tester expects one of their dtype first.
    return 0 * x, soft_minimum(x, y, log_weights, epsilon=epsilon, p=p)


class TestSoftMinimum(OpTester):
    function = staticmethod(with_points)
    overload = _ops.soft_minimum.default
    differentiable = ("x", "y", "log_weights")
    variants = {"squares": {"p": 2}, "distances": {"p": 1}, "single": {"p": 2}}  # noqa: RUF012

    def tensors(self, variant, shape, dtype, device):
        """Of a shape: batches, rows and, in place of the other dimensions, the points'."""
        batch, rows, *rest = (*shape, 1, 1)[: max(len(shape), 2)]
        x, y, logs = clouds(batch, min(rows, 401), 45, min(math.prod(rest), 70), dtype, device)
        if dtype != torch.float64:
            logs = logs.float()
        if variant == "single":  # a cloud, and no batch
            x, y, logs = (
                t[0] if batch else t.new_zeros(n, *t.shape[2:])
                for t, n in ((x, 0), (y, 45), (logs, 45))
            )
        return {"x": x, "y": y, "log_weights": logs}

    def overload_arguments(self, variant, device):
        tensors = [t.requires_grad_() for t in clouds(2, 3, 4, 2, device=device)]
        return *tensors, EPSILON, self.variants[variant]["p"]

    @pytest.mark.parametrize("factors", [True, False])
    def test_plan_opcheck(self, variant, factors, device):
        x, y, logs = clouds(2, 3, 4, 2, device=device)
        u, c = x.sum(2), logs.exp()
        *tensors, c = (t.requires_grad_() for t in (x, y, u, logs, c))
        c = c if factors else None
        overload = _ops.plan_sums.default
        torch.library.opcheck(overload, (*tensors, c, EPSILON, self.variants[variant]["p"]))

    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (3, 401, 5), torch.float32, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                results.append(torch.autograd.grad(self.call(variant, tensors)[1].sum(), leaves))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 33, 65, 3), (1, 40, 530, 70)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_plan_sums_are_those_of_the_reference(dtype, shape, p, device):
    x, y, logs = clouds(*shape, dtype, device)
    logs = logs - 3
    for factors in (None, torch.linspace(-1, 2, logs.numel()).view_as(logs).to(logs)):
        arguments = (x, y, x.sum(2) / 10 - 1, logs, factors, 2.5, p)
        for ours, theirs in zip(
            _plan_sums(*arguments), _reference_plan_sums(*arguments), strict=True
        ):
            torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("name", BACKENDS)
class TestValues:
    def test_one_point(self, name, device):
        """m = C − ε v."""
        x, y = torch.tensor([[3.0, 4.0]], device=device), torch.zeros(1, 2, device=device)
        logs = torch.tensor([2.0], device=device)
        with backend(name):
            for p, cost in ((1, 5.0), (2, 25.0)):
                found = soft_minimum(x, y, logs, epsilon=0.5, p=p)
                assert found.item() == pytest.approx(cost - 0.5 * 2)

    def test_limits_of_epsilon(self, name, device):
        """The smallest cost as ε → 0; as ε → ∞ with weights of sum 1, the mean cost."""
        x, y, _ = clouds(1, 20, 30, 3, device=device)
        x, y = x[0], y[0]
        costs = torch.cdist(x, y).square()
        logs = torch.full((30,), -math.log(30), dtype=torch.float64, device=device)
        with backend(name):
            small = soft_minimum(x, y, logs, epsilon=1e-9)
            large = soft_minimum(x, y, logs, epsilon=1e7)
        torch.testing.assert_close(small, costs.amin(1), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(large, costs.mean(1), rtol=1e-5, atol=1e-5)

    def test_a_cloud_of_normal_points_is_a_normal_density(self, name, device):
        """∫ N(y; 0, 1) exp(−(x − y)²/ε) dy is a normal density of variance 1 + ε/2 at x."""
        y = torch.linspace(-9, 9, 2001, dtype=torch.float64, device=device)
        logs = -y.square() / 2 - math.log(math.sqrt(2 * math.pi)) + math.log(y[1] - y[0])
        x = torch.tensor([0.0, 1.5, -4.0], dtype=torch.float64, device=device)
        epsilon, variance = 0.3, 1.15
        expected = epsilon * (x.square() / (2 * variance) + math.log(variance / 0.15) / 2)
        with backend(name):
            found = soft_minimum(x[:, None], y[:, None], logs, epsilon=epsilon)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)

    def test_no_weights_at_all(self, name, device):
        x, y, logs = clouds(2, 5, 9, 3, torch.float32, device)
        with backend(name):
            found = soft_minimum(x, y, torch.full_like(logs, -math.inf), epsilon=1.0)
            nothing = soft_minimum(x, y[:, :0], logs[:, :0], epsilon=1.0)
        assert torch.equal(found, torch.full_like(found, math.inf))
        assert torch.equal(nothing, found)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_what_is_not_finite_reaches_its_rows_alone(self, name, dtype, device):
        x, y, logs = clouds(1, 40, 70, 3, dtype, device)
        x[0, 3, 1], x[0, 7, 0] = math.nan, math.inf
        with backend(name):
            found = soft_minimum(x, y, logs, epsilon=1.0)[0]
        assert found.isnan().nonzero().flatten().tolist() == [3]
        assert found.isinf().nonzero().flatten().tolist() == [7]
        y[0, 50, 2] = math.nan
        with backend(name):
            assert soft_minimum(x, y, logs, epsilon=1.0).isnan().all()

    def test_huge_exponents(self, name, device):
        """Terms that are far below the smallest number, and a weight that outweighs all."""
        x = torch.tensor([[0.0], [1e3]], device=device)
        logs = torch.tensor([-2000.0, -1000.0, 500.0], device=device)
        y = torch.tensor([[0.0], [40.0], [1e4]], device=device)
        with backend(name):
            found = soft_minimum(x, y, logs, epsilon=1.0)
        expected = torch.tensor([2000.0, 960.0**2 + 1000], device=device)
        torch.testing.assert_close(found, expected)

    def test_far_from_the_origin_near_points_are_told_apart(self, name, device):
        x = torch.tensor([[1e4, -1e4]], device=device)
        y = x + torch.tensor([[2.0**-7, 0.0], [0.0, 2.0**-8]], device=device)
        logs = torch.tensor([0.0, -math.inf], device=device)
        with backend(name):
            found = [soft_minimum(x, y, logs.roll(k), epsilon=1e-6).item() for k in (0, 1)]
        assert found == pytest.approx([2.0**-14, 2.0**-16])

    def test_the_slope_of_no_distance_is_zero(self, name, device):
        x = torch.zeros(2, 3, dtype=torch.float64, device=device, requires_grad=True)
        y = torch.zeros(4, 3, dtype=torch.float64, device=device, requires_grad=True)
        with backend(name):
            found = soft_minimum(x, y, x.new_zeros(4), epsilon=0.1, p=1)
        for grad in torch.autograd.grad(found.sum(), (x, y)):
            assert not grad.any()

    def test_a_point_without_weight_has_no_gradient(self, name, device):
        x, y, logs = (t.requires_grad_() for t in clouds(1, 30, 15, 2, torch.float32, device))
        with backend(name):
            grads = torch.autograd.grad(soft_minimum(x, y, logs, epsilon=1.0).sum(), (y, logs))
        for grad in grads:
            assert grad.isfinite().all()
            assert not grad[0, 1::7].any()
            assert grad[0, ::7].abs().min() > 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_accuracy_of_an_exponential(scale, device):
    """Against float64's: of one pair the difference is a rounding of the exponent."""
    exponents = torch.linspace(-86, 0, 4001, device=device)
    x = exponents.new_zeros(1, 1)
    y = (-exponents).sqrt()[:, None]
    both = [
        soft_minimum(x.to(t), (y * scale**0.5).to(t), y.new_zeros(4001).to(t), epsilon=scale)
        for t in (torch.float32, torch.float64)
    ]
    assert abs(both[0].item() - both[1].item()) < 2e-6 * scale


def test_no_array_of_pairs_is_held(device):
    x, y, logs = (t[0].requires_grad_() for t in clouds(1, 300, 200, 3, torch.float32, device))
    with LargestTensor() as largest:
        torch.autograd.grad(soft_minimum(x, y, logs, epsilon=1.0).sum(), (x, y, logs))
    assert largest.numel <= 300 * 3


X, LOGS = torch.zeros(4, 3), torch.zeros(4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X.int()}, TypeError, "x is torch.int32"),
        ({"y": X.double()}, TypeError, "y is torch.float64, x is torch.float32"),
        ({"y": X[0]}, ValueError, r"shapes \[4, 3\] and \[3\]; expected \[N, D\] and \[M, D\]"),
        ({"y": X[:, :2]}, ValueError, r"shapes \[4, 3\] and \[4, 2\]"),
        ({"x": X[None, None], "y": X[None, None]}, ValueError, "shapes"),
        ({"x": X.expand(2, 4, 3), "y": X[None]}, ValueError, "shapes"),
        ({"log_weights": LOGS[:3]}, ValueError, r"has shape \[3\]; expected \[4\]"),
        ({"log_weights": LOGS.double()}, TypeError, "log_weights is torch.float64"),
        ({"log_weights": None}, TypeError, "log_weights must be a tensor"),
        ({"y": X.to("meta")}, ValueError, "y is on meta"),
        ({"epsilon": 0.0}, ValueError, "epsilon is 0"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be"),
        ({"epsilon": math.inf}, ValueError, "epsilon must be"),
        ({"p": 3}, ValueError, "p is 3; expected one of 1, 2"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"x": X, "y": X, "log_weights": LOGS, "epsilon": 1.0, **arguments}
    with pytest.raises(error, match=f"^soft_minimum: .*{message}"):
        soft_minimum(**given)


# The CUDA kernels, executed on the host.


def _structure(*pointers):
    fields = [("dtype", ctypes.c_int), ("power", ctypes.c_int), ("epsilon", ctypes.c_double)]
    fields += [(name, ctypes.c_int64) for name in ("batches", "rows", "columns", "dims")]
    fields += [(name, ctypes.c_void_p) for name in ("x", "y", "column_logs", *pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "soft_minimum": _structure("minimum"),
    "plan_sums": _structure("row_logs", "factors", "masses", "slopes"),
}


def run(gpu: Device, name: str, power: int, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    x = read["x"]
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    arguments = STRUCTURES[name](
        dtype=DTYPES[x.dtype], power=power, epsilon=EPSILON, batches=len(x), rows=x.shape[1],
        columns=read["y"].shape[1], dims=x.shape[2], **places,
    )  # fmt: skip
    error = gpu.call(
        name, ctypes.byref(arguments), read=list(read.values()), written=list(written.values())
    )
    assert error is None, error


@pytest.mark.host_executor
@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX")
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 131, 35, 3), (1, 5, 20, 37)], ids=str)
class TestCudaKernels:
    @staticmethod
    def operands(shape, dtype):
        x, y, logs = clouds(*shape, dtype)
        y[:, :1] = x[:, :1]  # a distance of 0
        return {"x": x, "y": y, "column_logs": logs}

    def test_soft_minimum(self, shape, dtype, p, gpu):
        read = self.operands(shape, dtype)
        expected = _ops.soft_minimum(*read.values(), EPSILON, p)
        found = torch.full_like(expected, math.nan)
        run(gpu, "soft_minimum", p, read, {"minimum": found})
        torch.testing.assert_close(found, expected, **TOLERANCE[dtype])

    @pytest.mark.parametrize("with_factors", [True, False])
    def test_plan_sums(self, with_factors, shape, dtype, p, gpu):
        read = self.operands(shape, dtype)
        x, y, logs = read.values()
        read["row_logs"] = x.sum(2) / 10 - 1
        factors = torch.linspace(-1, 2, logs.numel()).view_as(logs).to(logs)
        if with_factors:
            read["factors"] = factors
        expected = _ops.plan_sums(
            x, y, read["row_logs"], logs, factors if with_factors else None, EPSILON, p
        )
        found = [torch.full_like(t, math.nan) for t in expected]
        run(gpu, "plan_sums", p, read, dict(zip(("masses", "slopes"), found, strict=True)))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])
