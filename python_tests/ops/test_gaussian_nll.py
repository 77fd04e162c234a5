"""gaussian_nll: the shared operator tests, torch's own normal density, bad input."""

import math

import pytest
import torch
from testing.op_tester import OpTester

from gencore.ops import backend, gaussian_nll


class TestGaussianNll(OpTester):
    """With z among the results: the tester expects one of its dtype first."""

    function = staticmethod(lambda z, log_det: (1 * z, gaussian_nll(z, log_det)))
    overload = torch.ops.gencore.gaussian_nll.default
    differentiable = ("z", "log_det")
    variants = {"": {}}  # noqa: RUF012
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        z = torch.randn(shape, generator=generator, dtype=torch.float64)
        log_det = torch.randn(shape[:1], generator=generator, dtype=torch.float64)
        return {"z": z.to(device, dtype), "log_det": log_det.to(device, wide)}

    def overload_arguments(self, variant, device):
        leaves = self.tensors(variant, (4, 3), torch.float64, device).values()
        return tuple(t.requires_grad_() for t in leaves)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 3, 4, 4)], ids=str)
def test_is_the_density_of_a_standard_normal(shape, device):
    z = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    log_det = torch.linspace(-1, 1, shape[0], dtype=torch.float64)
    log_p = (
        torch.distributions.Normal(0.0, 1.0)
        .log_prob(z)
        .flatten(1 - (z.dim() == 1))
        .reshape(shape[0], -1)
        .sum(1)
    )
    ours = gaussian_nll(z.to(device), log_det.to(device))
    torch.testing.assert_close(ours.cpu(), -(log_p + log_det), rtol=1e-14, atol=1e-14)


def test_a_long_sum_is_exact_to_the_last_digits(device):
    z = torch.full((2, 1_000_003), 0.1, device=device)
    exact = 1_000_003 * (0.5 * z[0, 0].double().square() + 0.5 * math.log(2 * math.pi))
    ours = gaussian_nll(z, torch.zeros(2, device=device))
    torch.testing.assert_close(ours.double(), exact.expand(2), rtol=2e-7, atol=0.0)


def test_a_large_log_determinant_cancels_in_float64(device):
    z = torch.zeros(1, 100_000, device=device)
    constant = torch.tensor([50_000 * math.log(2 * math.pi)], device=device)
    exact = 50_000 * math.log(2 * math.pi) - constant.double()
    torch.testing.assert_close(gaussian_nll(z, constant).double(), exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 8, 33, 129, 1025])
def test_a_split_batch_is_the_whole(size, device):
    generator = torch.Generator().manual_seed(size)
    z = torch.randn(7, size, generator=generator, dtype=torch.float64).to(device)
    zero = torch.zeros(7, dtype=torch.float64, device=device)
    parts = [gaussian_nll(z[rows], zero[rows]) for rows in (slice(0, 2), slice(2, None))]
    assert torch.equal(torch.cat(parts), gaussian_nll(z, zero))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"z": torch.zeros(())}, ValueError, "z has no dimensions"),
        ({"z": torch.zeros(4, 2).long()}, TypeError, "z is torch.int64"),
        ({"log_det": torch.zeros(3)}, ValueError, r"log_det has shape \[3\]"),
        ({"log_det": torch.zeros(4).double()}, TypeError, "log_det is torch.float64, .* for z of"),
        ({"log_det": None}, TypeError, "log_det must be a tensor, got NoneType"),
        ({"log_det": torch.zeros(4, device="meta")}, ValueError, "log_det is on meta, z on cpu"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for name in ("native", "reference"):
        arguments = {"z": torch.zeros(4, 2), "log_det": torch.zeros(4)}
        with backend(name), pytest.raises(error, match=f"^gaussian_nll: {message}"):
            gaussian_nll(**{**arguments, **wrong})
