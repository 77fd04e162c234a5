"""actnorm: the shared operator tests, its Jacobian, its sums over channels, bad input."""

import math

import pytest
import torch
from testing.op_tester import OpTester

from gencore.ops import actnorm, backend


class TestActnorm(OpTester):
    function = staticmethod(actnorm)
    overload = torch.ops.gencore.actnorm.default
    differentiable = ("x", "log_scale", "bias")
    variants = {"forward": {"inverse": False}, "inverse": {"inverse": True}}  # noqa: RUF012
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        shape = shape if len(shape) > 1 else (*shape, 1)
        generator = torch.Generator().manual_seed(1)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        parameters = torch.randn(2, shape[1], generator=generator, dtype=torch.float64)
        log_scale, bias = (0.5 * parameters).to(device, wide).unbind(0)
        return {"x": x.to(device, dtype), "log_scale": log_scale.clone(), "bias": bias.clone()}

    def overload_arguments(self, variant, device):
        leaves = self.tensors(variant, (4, 3), torch.float64, device).values()
        return *(t.requires_grad_() for t in leaves), self.variants[variant]["inverse"]

    def test_backward_opcheck(self, variant, device):
        x, log_scale, bias, inverse = self.overload_arguments(variant, device)
        grad, grad_log_det = torch.randn_like(x), torch.randn_like(x[:, 0])
        arguments = (grad.requires_grad_(), grad_log_det.requires_grad_())
        overload = torch.ops.gencore.actnorm_backward.default
        torch.library.opcheck(overload, (*arguments, x, log_scale, bias, inverse))

    @pytest.mark.parametrize("shape", [(2, 3, 2, 2), (3, 2, 5)], ids=str)
    def test_derivatives_of_images(self, variant, shape, device):
        function, leaves = self.leaves(variant, shape, device)
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)

    def test_third_derivatives(self, variant, device):
        function, leaves = self.leaves(variant, (2, 2, 2), device)

        def second(*values):
            y, log_det = function(*values)
            loss = y.square().sum() + (y.sum((1, 2)) * log_det.square()).sum()
            grads = torch.autograd.grad(loss, values, create_graph=True)
            mixed = sum(g.square().sum() for g in grads)
            return torch.autograd.grad(mixed, values, create_graph=True)

        assert torch.autograd.gradcheck(second, leaves)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize(
        "shape", [(0, 3, 4), (3, 2, 0), (70, 65), (5, 3, 1), (33, 7, 13), (3, 5, 16, 64)], ids=str
    )
    def test_gradients_of_images_match_float64(self, variant, shape, dtype, device):
        tensors = self.tensors(variant, shape, dtype, device)
        generator = torch.Generator().manual_seed(2)
        weights = torch.randn(shape, generator=generator).to(device, dtype)
        volumes = torch.randn(shape[:1], generator=generator).to(device)
        results = []
        for wide in (dtype, torch.float64):
            leaves = [t.to(torch.promote_types(t.dtype, wide)) for t in tensors.values()]
            leaves = [t.detach().requires_grad_() for t in leaves]
            y, log_det = actnorm(*leaves, **self.variants[variant])
            weighted = (weights.to(y.dtype), volumes.to(log_det.dtype))
            results.append(torch.autograd.grad((y, log_det), leaves, weighted))
        ours, exact = results
        tolerance = 2e-6 if dtype == torch.float32 else 2.0**-8
        torch.testing.assert_close(ours[0].double(), exact[0], rtol=tolerance, atol=1e-6)
        terms = math.prod(shape) / max(shape[1], 1)
        for a, b in zip(ours[1:], exact[1:], strict=True):  # float32 terms, added in float64
            torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=1e-6 * (1 + math.sqrt(terms)))

    @pytest.mark.parametrize("shape", [(2000, 65), (64, 3, 32, 32), (1, 2, 300, 301)], ids=str)
    def test_gradients_are_deterministic_over_threads(self, variant, shape, device):
        leaves = self.tensors(variant, shape, torch.float32, device).values()
        leaves = [t.requires_grad_() for t in leaves]
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 1):
                torch.set_num_threads(threads)
                y, log_det = actnorm(*leaves, **self.variants[variant])
                results.append(torch.autograd.grad(y.sin().sum() + log_det.sum(), leaves))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert torch.equal(a, b)

    def test_the_log_determinant_is_the_jacobians(self, variant, device):
        tensors = self.tensors(variant, (1, 3, 2, 2), torch.float64, device)
        x = tensors.pop("x")

        def function(flat):
            return actnorm(flat.view(1, 3, 2, 2), **tensors, **self.variants[variant])[0].flatten()

        jacobian = torch.autograd.functional.jacobian(function, x.flatten())
        log_det = actnorm(x, **tensors, **self.variants[variant])[1]
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet)

    def test_channels_last_gradients(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 4, 5), torch.float64, device)
        grads = []
        for layout in (torch.contiguous_format, torch.channels_last):
            x = tensors["x"].clone(memory_format=layout).requires_grad_()
            parameters = [tensors[n].clone().requires_grad_() for n in ("log_scale", "bias")]
            y, log_det = actnorm(x, *parameters, **self.variants[variant])
            loss = y.pow(3).sum() + log_det.sum()
            grads.append(torch.autograd.grad(loss, (x, *parameters)))
        for a, b in zip(*grads, strict=True):
            assert torch.equal(a, b)


def test_worked_out_by_hand(device):
    x = torch.tensor([[[1.0, -1.0], [0.5, 2.0]]], device=device)
    log_scale = torch.tensor([math.log(2.0), math.log(4.0)], device=device)
    y, log_det = actnorm(x, log_scale, torch.tensor([1.0, -1.0], device=device))
    assert y.tolist() == [[[3.0, -1.0], [1.0, 7.0]]]
    torch.testing.assert_close(log_det, torch.tensor([2 * math.log(8.0)], device=device))


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4, 4), (2, 3, 5)], ids=str)
def test_the_inverse_undoes_it(shape, device):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(device)
    log_scale, bias = torch.randn(2, shape[1], generator=generator, dtype=torch.float64).to(device)
    y, log_det = actnorm(x, log_scale, bias)
    back, inverse_log_det = actnorm(y, log_scale, bias, inverse=True)
    torch.testing.assert_close(back, x, rtol=1e-13, atol=1e-13)
    assert torch.equal(log_det, -inverse_log_det)


def test_half_types_take_float32_parameters(device):
    x = torch.ones(2, 1, 3, dtype=torch.bfloat16, device=device)
    parameter = torch.zeros(1, device=device, requires_grad=True)
    y, log_det = actnorm(x, parameter, parameter)
    assert (y.dtype, log_det.dtype) == (torch.bfloat16, torch.float32)
    (y.sum() + log_det.sum()).backward()
    assert parameter.grad.item() == 6 + 6 + 6  # of the product, the volume, the bias


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.zeros(3)}, ValueError, r"x has shape \[3\], expected \[N, C, ...\]"),
        ({"x": torch.zeros(3, 2).long()}, TypeError, "x is torch.int64"),
        ({"x": [[1.0]]}, TypeError, "x must be a tensor, got list"),
        ({"log_scale": torch.zeros(3)}, ValueError, r"log_scale has shape \[3\], .*: \[2\]"),
        ({"log_scale": 0.0}, TypeError, "log_scale must be a tensor, got float"),
        ({"bias": torch.zeros(2).long()}, TypeError, "bias is torch.int64"),
        ({"bias": torch.zeros(2, device="meta")}, ValueError, "bias is on meta"),
        ({"inverse": 1}, TypeError, "inverse must be a bool, got int"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for name in ("native", "reference"):
        arguments = {"x": torch.zeros(4, 2), "log_scale": torch.zeros(2), "bias": torch.zeros(2)}
        with backend(name), pytest.raises(error, match=f"^actnorm: {message}"):
            actnorm(**{**arguments, **wrong})


@pytest.mark.parametrize("name", ["native", "reference"])
def test_channels_without_positions_have_no_volume(name):
    x, log_scale = torch.zeros(2, 3, 0, 4), torch.full((3,), 3e38)
    with backend(name):
        _, log_det = actnorm(x, log_scale, torch.zeros(3))
    assert log_det.tolist() == [0.0, 0.0]
