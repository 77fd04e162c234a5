"""The maximum mean discrepancy as a loss: against sums over all pairs, with any kernel."""

import math

import pytest
import torch
from testing.largest_tensor import LargestTensor
from torch import Tensor

from gencore.metrics import (
    DistanceKernel,
    GaussianKernel,
    InverseMultiquadraticKernel,
    PolynomialKernel,
    energy_distance,
    kernel_distance,
)
from gencore.objectives import maximum_mean_discrepancy

KERNELS = {
    "gaussian": (GaussianKernel(0.7), lambda x, y: math.exp(-((x - y).norm() ** 2) / 0.98)),
    "gaussians": (
        GaussianKernel((1.0, 2.0)),
        lambda x, y: math.exp(-((x - y).norm() ** 2) / 2) + math.exp(-((x - y).norm() ** 2) / 8),
    ),
    "inverse": (
        InverseMultiquadraticKernel((0.5, 2.0)),
        lambda x, y: 0.5 / (0.5 + (x - y).norm() ** 2) + 2 / (2 + (x - y).norm() ** 2),
    ),
    "polynomial": (PolynomialKernel(degree=2), lambda x, y: (x @ y / 3 + 1) ** 2),
    "distance": (DistanceKernel(), lambda x, y: -(x - y).norm()),
}


def batches(n: int = 4, m: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(num, 3, generator=generator, dtype=torch.float64) for num in (n, m))
    return x.requires_grad_(), (y + 0.5).requires_grad_()


def triangular_gap(x: Tensor, y: Tensor) -> Tensor:
    """K_d of the metric d: how much longer the way from x to y by the origin is (Bruna)."""
    return x.norm(dim=1)[:, None] + y.norm(dim=1) - torch.cdist(x, y)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("unbiased", [True, False])
def test_it_is_the_sum_over_all_pairs(name, unbiased):
    kernel, pair = KERNELS[name]
    x, y = (batch.detach() for batch in batches())

    def mean(a: Tensor, b: Tensor, apart: bool) -> float:
        values = [
            float(pair(p, q))
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if i != j or not apart
        ]
        return sum(values) / len(values)

    expected = mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)
    found = maximum_mean_discrepancy(x, y, kernel, unbiased=unbiased)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    if unbiased:
        assert kernel_distance(x, y, kernel) == pytest.approx(expected, rel=1e-10)


def test_the_energy_distance_is_a_discrepancy():
    """Of −‖x − y‖, and of the positive definite kernel of the triangle's gap."""
    x, y = batches(20, 30)
    expected = energy_distance(x.detach(), y.detach(), batch_size=7)
    for kernel in (DistanceKernel(), triangular_gap):
        assert maximum_mean_discrepancy(x, y, kernel).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients(name):
    kernel, _ = KERNELS[name]
    for chunk_size in (2, 1024):

        def loss(x: Tensor, y: Tensor, chunk_size: int = chunk_size) -> Tensor:
            return maximum_mean_discrepancy(x, y, kernel, chunk_size=chunk_size)

        assert torch.autograd.gradcheck(loss, batches())
        if name != "distance" and chunk_size == 2:
            assert torch.autograd.gradgradcheck(loss, batches())


@pytest.mark.parametrize("name", ["gaussian", "gaussians"])
def test_gaussian_kernels_are_summed_without_a_matrix(name):
    kernel, _ = KERNELS[name]
    x, y = batches(300, 200)
    results = []
    for form in (kernel, kernel.__call__):  # any function's matrix is made
        with LargestTensor() as largest:
            loss = maximum_mean_discrepancy(x, y, form)
            results.append((loss, *torch.autograd.grad(loss, (x, y))))
        assert (largest.numel <= 32**2) == (form is kernel)
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["inverse", "distance"])
def test_streams_are_the_dense_sums_and_hold_no_matrix_of_pairs(name):
    kernel, _ = KERNELS[name]
    x, y = batches(300, 200)
    results = []
    for chunk_size in (7, 300):
        with LargestTensor() as largest:
            loss = maximum_mean_discrepancy(x, y, kernel, chunk_size=chunk_size)
            results.append((loss, *torch.autograd.grad(loss, (x, y))))
        assert (largest.numel <= 32 * 300) == (chunk_size == 7)
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_equal_batches(name):
    """The biased estimate is 0 there and positive elsewhere; no gradient is NaN where x meets y."""
    kernel, _ = KERNELS[name]
    x, y = batches()
    equal = x.detach().clone().requires_grad_()
    loss = maximum_mean_discrepancy(x, equal, kernel, unbiased=False)
    assert abs(loss.item()) < 1e-12
    for grad in torch.autograd.grad(loss, (x, equal)):
        assert grad.abs().max() < 1e-12
    assert maximum_mean_discrepancy(x, y, kernel, unbiased=False) > 0


def test_it_has_no_bias_between_samples_of_one_law():
    """In float32, over 500 pairs of 10 points each."""
    generator = torch.Generator().manual_seed(0)
    for kernel in (DistanceKernel(), GaussianKernel(1.0), InverseMultiquadraticKernel()):
        draws = torch.randn(500, 2, 10, 2, generator=generator)
        values = torch.stack([maximum_mean_discrepancy(*pair, kernel) for pair in draws])
        assert values.mean().abs() < 4 * values.std() / math.sqrt(500)
        biased = maximum_mean_discrepancy(*draws[0], kernel, unbiased=False)
        assert biased > 0


def test_half_precision_is_that_of_the_points_alone():
    x, y = (batch.detach().bfloat16() for batch in batches())
    expected = maximum_mean_discrepancy(x.float(), y.float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(maximum_mean_discrepancy(x, y), expected)


def test_a_kernel_with_parameters_learns():
    """A kernel may be a network's: here the scale of its features."""
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x, y = batches()

    def loss(scale: Tensor) -> Tensor:
        return maximum_mean_discrepancy(
            x.detach(), y.detach(), lambda a, b: (-(scale * torch.cdist(a, b)).square()).exp(),
            chunk_size=2,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, scale)


def test_bad_input():
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"^maximum_mean_discrepancy: .* \(3, 2\) and \(3, 1\)"):
        maximum_mean_discrepancy(x, x[:, :1])
    with pytest.raises(ValueError, match="two or more in each"):
        maximum_mean_discrepancy(x, x[:1])
    assert maximum_mean_discrepancy(x, x[:1], unbiased=False) == 0
    with pytest.raises(TypeError, match=r"float32 and torch.float64; expected one"):
        maximum_mean_discrepancy(x, x.double())
    with pytest.raises(ValueError, match="chunk_size is 0"):
        maximum_mean_discrepancy(x, x, chunk_size=0)
    for wrong in (lambda: GaussianKernel(()), lambda: InverseMultiquadraticKernel((1.0, -1.0))):
        with pytest.raises(ValueError, match="expected one positive, finite number, or several"):
            wrong()
