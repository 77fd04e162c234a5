"""squeeze2d and unsqueeze2d: the shared operator tests, torch's pixel shuffles, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from testing.op_tester import OpTester, offset

from gencore.ops import backend, squeeze2d, unsqueeze2d

DTYPES = (torch.uint8, torch.bool, torch.float16, torch.int32, torch.float64, torch.complex128)


class SqueezeTester(OpTester):
    differentiable = ("x",)
    variants = {"2": {"factor": 2}, "3": {"factor": 3}}  # noqa: RUF012
    traced = ("2",)
    overload = torch.ops.gencore.squeeze2d.default
    inverse = False

    def tensors(self, variant, shape, dtype, device):
        factor = self.variants[variant]["factor"]
        n, c, h, w = (1,) * (4 - len(shape)) + shape
        shape = (n, c * factor**2, h, w) if self.inverse else (n, c, h * factor, w * factor)
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return {"x": x.to(device, dtype)}

    def overload_arguments(self, variant, device):
        x = self.tensors(variant, (4, 3), torch.float64, device)["x"]
        return x.requires_grad_(), self.variants[variant]["factor"], self.inverse

    # The tester expands matrices, and images have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        x = self.tensors(variant, (3, 2, 2, 3), torch.float32, device)["x"]
        view = x[:1, :1].expand(x.shape)
        assert torch.equal(self.call(variant, {"x": view}), self.call(variant, {"x": view.clone()}))


class TestSqueeze2d(SqueezeTester):
    function = staticmethod(squeeze2d)


class TestUnsqueeze2d(SqueezeTester):
    function = staticmethod(unsqueeze2d)
    inverse = True


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ((2, 3, 4, 6), 2),
        ((1, 1, 6, 9), 3),
        ((2, 2, 8, 64), 4),
        ((2, 3, 4, 5), 1),
        ((64, 12, 32, 32), 2),
    ],
    ids=str,
)
def test_moves_elements_of_any_dtype_as_torch_does(shape, factor, dtype, device):
    for place in (torch.clone, offset):
        x = torch.arange(math.prod(shape)).remainder(251).view(shape).to(device, dtype)
        y = squeeze2d(place(x), factor)
        assert torch.equal(y, F.pixel_unshuffle(x, factor))
        assert torch.equal(unsqueeze2d(place(y), factor), x)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)], ids=str)
def test_empty_images(shape, device):
    y = squeeze2d(torch.zeros(shape, device=device))
    n, c, h, w = shape
    assert y.shape == (n, 4 * c, h // 2, w // 2)
    assert unsqueeze2d(y).shape == shape


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.zeros(4, 4)}, ValueError, r"x has shape \[4, 4\], expected \[N, C, H, W\]"),
        ({"x": None}, TypeError, "x must be a tensor, got NoneType"),
        ({"factor": 0}, ValueError, "factor must be from 1 to 2\\*\\*30, got 0"),
        ({"factor": 2.0}, TypeError, "factor must be an integer, got float"),
        ({"factor": 3}, ValueError, r"x has shape \[1, 4, 4, 4\], whose .* factor"),
        ({"x": torch.zeros(1, 2, 4, 5)}, ValueError, r"x has shape \[1, 2, 4, 5\], whose"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for function in (squeeze2d, unsqueeze2d):
        for name in ("native", "reference"):
            with backend(name), pytest.raises(error, match=f"^{function.__name__}: {message}"):
                function(**{"x": torch.zeros(1, 4, 4, 4), **wrong})
