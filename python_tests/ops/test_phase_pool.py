"""phase_pool: the shared operator tests, pools by loops, closed forms, CUDA kernels, errors."""

import ctypes
import itertools
import math

import pytest
import torch
from testing.host_executor import DTYPES, Device, accumulation, compiler, shifted
from testing.op_tester import TOLERANCE, OpTester, expanded
from testing.pools import (
    GEOMETRY,
    POOLS,
    counts,
    geometry,
    kernel_stride_padding,
    maps,
    members,
    numbers,
    triple,
)

from gencore.ops import backend, phase_pool


def by_loops(z, pools, beta):
    """(3.7) and (3.8), one pool after the other."""
    number = counts(z.shape[1:], pools)
    dims = sum(k > 1 for k in triple(pools["kernel_size"]))
    magnitude, phase = z.new_zeros(len(z), *number), z.new_zeros(len(z), dims, *number)
    for n, pool in itertools.product(range(len(z)), itertools.product(*map(range, number))):
        held = list(members(pool, z.shape[1:], pools))
        values = torch.stack([z[(n, *place)] for place, _ in held])
        weights = (beta * values).softmax(0)
        magnitude[(n, *pool)] = weights @ values
        coordinates = torch.tensor([c for _, c in held], dtype=z.dtype)
        phase[(n, slice(None), *pool)] = weights @ coordinates
    return magnitude, phase.transpose(1, 2)


class TestPhasePool(OpTester):
    function = staticmethod(phase_pool)
    overload = torch.ops.gencore.phase_pool.default
    differentiable = ("z", "beta")
    variants = {  # noqa: RUF012
        "columns": {**POOLS["columns"], "beta": 1.5},
        "planes": {**POOLS["planes"], "beta": 0.7},
        "volumes": POOLS["volumes"],  # one β as a tensor
        "groups": {**POOLS["features_columns"]},  # one β a group
    }
    needs_chains = True
    traced = ("planes", "groups")

    def tensors(self, variant, shape, dtype, device):
        sizes = [*shape[:1], *(1,) * (4 - len(shape)), *shape[1:]]
        # The smallest map from there on that the pools fit.
        kernel, stride, _ = kernel_stride_padding(self.variants[variant])
        sizes[1:] = map(max, sizes[1:], kernel)
        sizes[1] += -sizes[1] % stride[0]
        z = 2 * maps(*sizes, device=device)
        tensors = {"z": z.to(dtype)}
        wide = accumulation(dtype)
        if variant == "volumes":
            tensors["beta"] = torch.tensor(1.3, dtype=wide, device=device)
        if variant == "groups":
            groups = counts(sizes[1:], self.variants[variant])[0]
            tensors["beta"] = torch.linspace(0.2, 2.0, groups, dtype=wide, device=device)
        return tensors

    def overload_arguments(self, variant, device):
        tensors = self.tensors(variant, (2, 2, 4, 5), torch.float64, device)
        z, beta = tensors["z"].requires_grad_(), tensors.get("beta")
        number = self.variants[variant].get("beta", 0.0)
        beta = beta if beta is None else beta.requires_grad_()
        return z, beta, number, *numbers(self.variants[variant])

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((0,), torch.float32), *itertools.product(((7, 33), (2, 20001)), (*DTYPES,)[1:3])],
        ids=str,
    )
    def test_gradients_match_the_reference(self, variant, shape, dtype, device):
        """In float64, for β's gradient is a sum over all elements."""
        given = self.tensors(variant, shape, dtype, device)
        grads = []
        for name, convert in (("native", torch.clone), ("reference", torch.Tensor.double)):
            tensors = {key: convert(t).requires_grad_() for key, t in given.items()}
            with backend(name):
                results = self.call(variant, tensors)
            weights = [torch.linspace(-1, 1, r.numel()).view(r.shape) for r in results]
            weights = [w.to(dtype).to(r) for w, r in zip(weights, results, strict=True)]
            grads.append(torch.autograd.grad(results, list(tensors.values()), weights))
        (ours, *by_beta), (theirs, *expected) = grads
        tolerance = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}}.get(dtype, TOLERANCE[dtype])
        torch.testing.assert_close(ours, theirs.to(dtype), **tolerance)
        for sum_of_many, exact in zip(by_beta, expected, strict=True):
            atol = 1e-6 * math.sqrt(max(ours.numel(), 1))
            torch.testing.assert_close(sum_of_many.double(), exact, rtol=1e-5, atol=atol)

    @pytest.mark.slow
    def test_backward_opcheck(self, variant, device):
        z, beta, *rest = self.overload_arguments(variant, device)
        results = [t.detach() for t in type(self).overload(z, beta, *rest)]
        grads = [torch.randn_like(t).requires_grad_() for t in results[:2]]
        overload = torch.ops.gencore.phase_pool_backward.default
        needs = (True, beta is not None)
        torch.library.opcheck(overload, (*grads, z, beta, *results, *needs, *rest))

    def test_gradients_are_the_same_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (3, 6, 40, 50), torch.float32, device)
        leaves = [t.requires_grad_() for t in tensors.values()]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                magnitude, phase = self.call(variant, tensors)
                loss = magnitude.square().sum() + phase.square().sum()
                results.append(torch.autograd.grad(loss, leaves))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))

    # The tester expands matrices, and maps have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 2, 3, 5), torch.float32, device)
        view = expanded(tensors.pop("z"))
        for a, b in zip(
            self.call(variant, {"z": view, **tensors}),
            self.call(variant, {"z": view.clone(), **tensors}),
            strict=True,
        ):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("beta", [0.0, 1.7])
def test_pools_by_loops(name, beta, device):
    z = maps(2, 6, 7, 8)
    expected = by_loops(z, POOLS[name], beta)
    result = phase_pool(z.to(device), beta=beta, **POOLS[name])
    torch.testing.assert_close([r.cpu() for r in result], list(expected), rtol=1e-13, atol=1e-13)


def test_every_column_is_pooled_in_wide_maps(device):
    """Wider than a vector register, with a rest."""
    z, pools = maps(1, 2, 3, 71, dtype=torch.float32), {"kernel_size": (2, 3, 5), "stride": 1}
    expected = by_loops(z.double(), pools, 2.0)
    result = phase_pool(z.to(device), beta=2.0, **pools)
    for ours, theirs in zip(result, expected, strict=True):
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=2e-6, atol=2e-6)


def test_beta_of_zero_is_the_mean(device):
    z = maps(2, 4, 6, 8, device=device)
    magnitude, phase = phase_pool(z, 2, beta=0.0)
    mean = torch.nn.functional.avg_pool3d(z.unsqueeze(1), 2).squeeze(1)
    torch.testing.assert_close(magnitude, mean, rtol=1e-14, atol=1e-14)
    assert phase.abs().max() < 1e-15


def test_a_large_beta_is_the_maximum_and_its_place(device):
    z = maps(3, 8, 8, 8, dtype=torch.float32, device=device)
    magnitude, phase = phase_pool(z, 4, beta=1000.0)
    largest, at = torch.nn.functional.max_pool3d(z.unsqueeze(1), 4, return_indices=True)
    assert (magnitude - largest.squeeze(1)).abs().max() < 3e-4
    # Only pools whose second largest element is far below have a phase at one place.
    ordered = z.unfold(1, 4, 4).unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).sort(-1).values
    clear = ordered[..., -1] - ordered[..., -2] > 0.02
    assert clear.float().mean() > 0.8
    at = at.squeeze(1)
    coordinates = torch.stack([at // 64 % 4, at // 8 % 4, at % 4], 2).float() * 2 / 3 - 1
    error = (phase - coordinates).abs().amax(2)[clear]
    assert error.max() < 1e-6


@pytest.mark.parametrize("name", ["columns", "planes", "volumes"])
def test_sums_of_derivatives(name, device):
    """Σ dm/dz = 1 and Σ dp/dz = 0: a shift of all elements shifts m alone."""
    z = maps(1, 6, 5, 8, device=device).requires_grad_()
    magnitude, phase = phase_pool(z, beta=1.7, **POOLS[name])
    for at in itertools.product(*map(range, magnitude.shape[1:])):
        (grad,) = torch.autograd.grad(magnitude[(0, *at)], z, retain_graph=True)
        assert grad.sum().item() == pytest.approx(1, abs=1e-13)
    (grad,) = torch.autograd.grad(phase[0, 0, :, 1, 1].sum(), z)
    assert grad.abs().max() > 1e-3
    assert abs(grad.sum().item()) < 1e-13


def test_derivatives_by_beta_are_variance_and_covariance(device):
    z = maps(1, 1, 1, 5, device=device)
    beta = torch.tensor(1.3, dtype=z.dtype, device=device, requires_grad=True)
    magnitude, phase = phase_pool(z, (1, 1, 5), beta=beta)
    values, weights = z.flatten(), (1.3 * z.flatten()).softmax(0)
    coordinates = torch.linspace(-1, 1, 5, dtype=z.dtype, device=device)
    mean, place = weights @ values, weights @ coordinates
    (by_magnitude,) = torch.autograd.grad(magnitude.sum(), beta, retain_graph=True)
    (by_phase,) = torch.autograd.grad(phase.sum(), beta)
    torch.testing.assert_close(by_magnitude, weights @ (values - mean) ** 2)
    torch.testing.assert_close(by_phase, weights @ ((values - mean) * (coordinates - place)))


def test_shifts_scales_and_flips(device):
    z, pools = maps(2, 4, 6, 6, device=device), {"kernel_size": (4, 3, 2)}
    close = {"rtol": 1e-12, "atol": 1e-12}
    magnitude, phase = phase_pool(z, beta=1.5, **pools)
    shifted_magnitude, same = phase_pool(z + 7, beta=1.5, **pools)
    torch.testing.assert_close((shifted_magnitude, same), (magnitude + 7, phase), **close)
    scaled, same = phase_pool(3 * z, beta=0.5, **pools)
    torch.testing.assert_close((scaled, same), (3 * magnitude, phase), **close)
    for axis in range(3):
        # The pools of an axis come in the opposite order too.
        flipped, turned = phase_pool(z.flip(axis + 1), beta=1.5, **pools)
        order = (1, 3, 4)[axis]
        expected = phase.flip(order).clone()
        expected[:, :, axis] *= -1
        torch.testing.assert_close(flipped.flip(axis + 1), magnitude, **close)
        torch.testing.assert_close(turned, expected, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_nothing_overflows(dtype, device):
    z = maps(1, 2, 4, 40, dtype=dtype, device=device) * 1000
    z[..., :20] -= 20000  # whole pools far below others
    z.requires_grad_()
    magnitude, phase = phase_pool(z, (2, 2, 4), (1, 1, 2), beta=1000.0)
    largest = torch.nn.functional.max_pool3d(
        torch.cat([z, z[:, :1]], 1).float().unsqueeze(1), (2, 2, 4), (1, 1, 2)
    ).squeeze(1)
    # Two equal half floats share the weight, and their maximum is the same.
    torch.testing.assert_close(magnitude.float(), largest, rtol=1e-6, atol=0)
    assert phase.abs().max() <= 1
    (grad,) = torch.autograd.grad(magnitude.sum(), z)
    # Each pool's derivatives sum to one.
    torch.testing.assert_close(
        grad.float().sum().cpu(), torch.tensor(float(magnitude.numel())), rtol=1e-3, atol=0
    )


def test_a_bump_that_moves_has_a_linear_phase(device):
    """z = A − κ (c − t)² has p = t as far as its ends and its sampling allow."""
    t = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64, device=device)
    nodes = torch.linspace(-1, 1, 9, dtype=torch.float64, device=device)
    z = (3 - 4 * (nodes - t[:, None]) ** 2)[:, None, None]
    _, phase = phase_pool(z, (1, 1, 9), beta=4.0)  # βκ = 16
    p = phase.flatten()
    assert (p - t).abs().max() < 1e-4
    slope = (t @ p) / (t @ t)
    assert slope.item() == pytest.approx(1, abs=1e-3)


def test_nan_stays_in_its_pools(device):
    z = maps(1, 2, 4, 24, dtype=torch.float32, device=device)
    z[0, 0, 1, 5] = math.nan
    z.requires_grad_()
    magnitude, phase = phase_pool(z, (2, 2, 4), (2, 2, 2))
    expected = torch.zeros_like(magnitude, dtype=torch.bool)
    expected[0, 0, 0, 1:3] = True  # columns 2 to 5, 4 to 7
    assert torch.equal(magnitude.isnan(), expected)
    assert torch.equal(phase.isnan(), expected.unsqueeze(2).expand(phase.shape))
    (grad,) = torch.autograd.grad(magnitude.sum() + phase.sum(), z)
    expected = torch.zeros_like(z, dtype=torch.bool)
    expected[0, :, :2, 2:8] = True
    assert torch.equal(grad.isnan(), expected)


def test_elements_that_no_pool_holds_have_no_gradient(device):
    z = maps(1, 4, 5, 9, device=device).requires_grad_()
    magnitude, _ = phase_pool(z, (1, 2, 2), (2, 3, 4))
    (grad,) = torch.autograd.grad(magnitude.sum(), z)
    held = torch.zeros_like(z, dtype=torch.bool)
    held[:, ::2, [[0], [1], [3], [4]], [0, 1, 4, 5]] = True
    assert torch.equal(grad != 0, held)


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_nothing_comes_from_elements_that_no_pool_holds(value, device):
    z = maps(1, 4, 5, 9, device=device)
    held = torch.zeros_like(z, dtype=torch.bool)
    held[:, ::2, [[0], [1], [3], [4]], [0, 1, 4, 5]] = True

    def gradients(z):
        z, beta = z.clone().requires_grad_(), torch.full((), 3.0).to(z).requires_grad_()
        magnitude, phase = phase_pool(z, (1, 2, 2), (2, 3, 4), beta)
        return torch.autograd.grad(magnitude.sum() + phase.sum(), (z, beta))

    for found, expected in zip(gradients(z.where(held, value)), gradients(z), strict=True):
        assert torch.equal(found, expected)


Z = torch.zeros(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"z": Z[0]}, ValueError, r"phase_pool: z has shape \[4, 6, 8\], expected \[N, F, H, W\]"),
        ({"z": Z.long()}, TypeError, "phase_pool: z is torch.int64"),
        ({"kernel_size": (2, 2)}, ValueError, "kernel_size has 2 numbers, expected 3"),
        ({"kernel_size": 1}, ValueError, r"kernel_size is \(1, 1, 1\), expected .* above 1"),
        ({"kernel_size": 2.5}, TypeError, "phase_pool: kernel_size must be integers, got 2.5"),
        ({"kernel_size": "222"}, TypeError, "phase_pool: kernel_size must be integers"),
        ({"kernel_size": (5, 1, 1), "stride": 1}, ValueError, r"map of \(4, 6, 8\) .* is smaller"),
        ({"kernel_size": (1, 9, 1), "padding": (1, 0)}, ValueError, "is smaller than a pool"),
        ({"z": Z[:, :, :0]}, ValueError, "is smaller than a pool"),
        ({"stride": (3, 1, 1)}, ValueError, "4 features in a circle are no multiple of the stride"),
        ({"stride": 0}, ValueError, r"phase_pool: stride is \(0, 0, 0\), expected from 1"),
        ({"stride": (1, 1, 2**63 - 1)}, ValueError, "phase_pool: stride is .* below 2\\*\\*30"),
        ({"padding": (2, 0)}, ValueError, r"padding is \(2, 0\), expected from 0 to below .*\(2"),
        ({"padding": (0, -1)}, ValueError, r"padding is \(0, -1\)"),
        ({"beta": -1.0}, ValueError, "phase_pool: beta must be finite and not negative, got -1"),
        ({"beta": math.inf}, ValueError, "phase_pool: beta must be finite and not negative"),
        ({"beta": "hot"}, TypeError, "phase_pool: beta must be a number or a tensor, got str"),
        ({"beta": torch.tensor(-2.0)}, ValueError, "beta must be finite and not negative, got -2"),
        ({"beta": torch.ones(3)}, ValueError, r"beta has shape \[3\], expected \[\] or \[2\]"),
        (
            {"beta": torch.ones(2).double()},
            TypeError,
            "beta is torch.float64, expected torch.f",
        ),
        ({"beta": torch.ones(2, device="meta")}, ValueError, "beta is on meta, z on cpu"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"z": Z, "kernel_size": 2, **arguments}
    with pytest.raises(error, match=message):
        phase_pool(**given)


# The CUDA kernels, executed on the host.


class _Coefficient(ctypes.Structure):
    _fields_ = [
        ("values", ctypes.c_void_p),
        ("number", ctypes.c_double),
        ("chain_stride", ctypes.c_int64),
        ("element_stride", ctypes.c_int64),
    ]


def _structure(*pointers):
    fields = [*GEOMETRY, ("z", ctypes.c_void_p), ("beta", _Coefficient)]
    fields += [(name, ctypes.c_void_p) for name in pointers]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


_BACKWARD = _structure(
    "magnitude", "phase", "entropy", "grad_magnitude", "grad_phase", "z_grad", "beta_grad"
)
STRUCTURES = {
    "phase_pool": _structure("magnitude", "phase", "entropy"),
    "phase_pool_backward": _BACKWARD,
    "phase_pool_beta_backward": _BACKWARD,
}
on_the_host = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]


def run(gpu: Device, name: str, z, beta, pools, read: dict, written: dict) -> None:
    """Call a kernel; ``read`` and ``written`` are tensors by the names of their fields."""
    places = {field: t.data_ptr() for field, t in {**read, **written}.items()}
    arguments = STRUCTURES[name](
        **geometry(z.dtype, len(z), z.shape[1:], pools),
        z=z.data_ptr(), beta=_Coefficient(beta.data_ptr(), 0.0, beta.dim(), 0), **places,
    )  # fmt: skip
    tensors = [z, beta, *read.values()]
    error = gpu.call(name, ctypes.byref(arguments), read=tensors, written=list(written.values()))
    assert error is None, error


@pytest.mark.parametrize("name", ["planes", "volumes", "features_columns"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestCudaKernels:
    pytestmark = on_the_host

    def test_forward_and_backward(self, name, dtype, gpu):
        pools, wide = POOLS[name], accumulation(dtype)
        z = shifted(2 * maps(2, 6, 7, 8, dtype=dtype), 1)
        groups = counts(z.shape[1:], pools)[0]
        betas = {"volumes": torch.tensor(1.3, dtype=wide)}
        beta = betas.get(name, torch.linspace(0, 2, groups, dtype=wide))
        empty = [
            torch.full_like(t, math.nan)
            for t in torch.ops.gencore.phase_pool(z, beta, 0.0, *numbers(pools))
        ]
        results = dict(zip(("magnitude", "phase", "entropy"), empty, strict=True))
        run(gpu, "phase_pool", z, beta, pools, {}, results)
        leaves = [z.clone().requires_grad_(), beta.clone().requires_grad_()]
        expected = phase_pool(leaves[0], beta=leaves[1], **pools)
        for ours, theirs in zip(results.values(), expected, strict=False):
            torch.testing.assert_close(ours.to(dtype), theirs, **TOLERANCE[dtype])

        grads = {
            "grad_magnitude": maps(*expected[0].shape, dtype=dtype, seed=3).to(wide),
            "grad_phase": maps(*expected[1].shape, dtype=dtype, seed=4).to(wide),
        }
        given = [g.to(dtype) for g in grads.values()]
        theirs = torch.autograd.grad(expected, leaves, given)
        z_grad = torch.full(z.shape, math.nan, dtype=wide)
        read = {**results, **grads}
        run(gpu, "phase_pool_backward", z, beta, pools, read, {"z_grad": z_grad})
        torch.testing.assert_close(z_grad.to(dtype), theirs[0], **TOLERANCE[dtype])
        beta_grad = torch.full(results["magnitude"].shape[:3], math.nan, dtype=wide)
        written = {"beta_grad": beta_grad}
        run(gpu, "phase_pool_beta_backward", z, beta, pools, read, written)
        summed = beta_grad.sum((0, 2)) if beta.dim() else beta_grad.sum()
        tolerance = 1e-11 if dtype == torch.float64 else 2e-5
        torch.testing.assert_close(summed, theirs[1], rtol=tolerance, atol=tolerance)
