"""The kernel distance: expectations in closed form, over many draws of few samples."""

import math

import pytest
import torch
from torch import Tensor

from gencore.metrics import GaussianKernel, Kernel, PolynomialKernel, kernel_distance


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gaussian_mmd(shift: float, bandwidth: float) -> float:
    """Of N(0, 1) and N(shift, 1): the mean of exp(-(x - y)²/2h²) with x - y ~ N(m, 2)."""
    variance = bandwidth**2 + 2
    return 2 * bandwidth / math.sqrt(variance) * (1 - math.exp(-(shift**2) / (2 * variance)))


def cubic_mmd(shift: float) -> float:
    """(xy + 1)³ compares the first three moments, with the weights 3, 3 and 1."""
    moments = (shift, (1 + shift**2) - 1, shift**3 + 3 * shift)
    return sum(weight * moment**2 for weight, moment in zip((3, 3, 1), moments, strict=True))


@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize(
    ("kernel", "expected"),
    [(PolynomialKernel(), cubic_mmd), (GaussianKernel(0.5), lambda m: gaussian_mmd(m, 0.5))],
)
def test_is_unbiased_at_four_samples_against_three(kernel, expected, shift):
    num = 1000
    x, y = randn(num, 4, 1), shift + randn(num, 3, 1, seed=1)
    draws = torch.tensor([kernel_distance(a, b, kernel) for a, b in zip(x, y, strict=True)])
    error = draws.std().item() / math.sqrt(num)
    assert draws.mean().item() == pytest.approx(expected(shift), abs=5 * error)


@pytest.mark.parametrize("kernel", [PolynomialKernel(), GaussianKernel(1.5)])
def test_the_batch_size_does_not_matter_and_the_sets_are_exchangeable(kernel: Kernel) -> None:
    x, y = randn(70, 5), randn(45, 5, seed=1) + 0.3
    whole = kernel_distance(x, y, kernel)
    assert kernel_distance(x, y, kernel, batch_size=7) == pytest.approx(whole, rel=1e-12)
    assert kernel_distance(y, x, kernel) == pytest.approx(whole, rel=1e-12)


def test_a_linear_kernel_gives_the_squared_distance_of_the_means_less_its_bias():
    x, y = randn(30, 4), randn(20, 4, seed=1) + 1
    biased = (x.mean(0) - y.mean(0)).square().sum()
    bias = x.var(0).sum() / 30 + y.var(0).sum() / 20
    distance = kernel_distance(x, y, PolynomialKernel(degree=1, scale=1.0))
    assert distance == pytest.approx((biased - bias).item(), rel=1e-12)


def test_images_are_mapped_to_features():
    images = torch.randint(256, (12, 1, 2, 2), dtype=torch.uint8)
    features = images.flatten(1).double() / 255
    assert kernel_distance(images[:6], images[6:]) == pytest.approx(
        kernel_distance(features[:6], features[6:]), abs=1e-6
    )


def test_bad_input():
    with pytest.raises(ValueError, match=r"^kernel_distance: .*\(1, 2\)"):
        kernel_distance(torch.zeros(1, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"^kernel_distance: .*\(3, 3\)"):
        kernel_distance(torch.zeros(3, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="NaN"):
        kernel_distance(torch.full((3, 2), torch.nan), torch.zeros(3, 2))
    for wrong in (lambda: GaussianKernel(0.0), lambda: PolynomialKernel(0)):
        with pytest.raises(ValueError, match="expected"):
            wrong()
