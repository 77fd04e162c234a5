"""The fused Langevin step: the shared operator tests and its own properties."""

import math

import pytest
import torch
from testing.op_tester import OpTester

from gencore.ops import backend, langevin_step, langevin_step_, philox_normal


class TestLangevinStep(OpTester):
    function = staticmethod(langevin_step)
    overload = torch.ops.gencore.langevin_step.default
    differentiable = ("x", "grad", "noise")
    variants = {  # noqa: RUF012
        "default noise scale": {"step_size": 0.1},
        "noise free": {"step_size": 0.1, "noise_scale": 0.0, "prior_precision": 0.5},
        "given noise": {"step_size": 0.1, "noise_scale": 0.3, "grad_clamp": 0.7},
        "clamps": {
            "step_size": 0.2,
            "noise_scale": 0.4,
            "prior_precision": -0.3,
            "grad_clamp": 0.7,
            "clamp": (-0.8, 0.9),
        },
        "given noise, clamped below": {"step_size": 0.2, "clamp": (-0.2, None)},
        "per chain": {"prior_precision": 1.0, "clamp": (None, 0.5)},
    }

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)

        def normal():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        tensors = {"x": normal(), "grad": normal(), "key": torch.tensor([11, 22], device=device)}
        if variant.startswith("given noise"):
            tensors["noise"] = normal()
        if variant == "per chain":
            chains = shape[:1]
            tensors["step_size"] = 0.1 + torch.rand(chains, generator=generator).to(device, dtype)
            tensors["noise_scale"] = torch.rand(chains, generator=generator).to(device, dtype)
        return tensors

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        v = self.variants[variant]
        low, high = v.get("clamp", (None, None))
        return (
            t["x"].requires_grad_(), t["grad"].requires_grad_(), t.get("noise"), t["key"],
            t.get("step_size"), t.get("noise_scale"),
            v.get("step_size", 0.0), v.get("noise_scale", 0.3), v.get("prior_precision", 0.0),
            v.get("grad_clamp", math.inf), -math.inf if low is None else low,
            math.inf if high is None else high, 0,
        )  # fmt: skip

    def test_in_place_equals_functional(self, variant, device):
        for dtype in (torch.float32, torch.bfloat16):
            for shape in ((0,), (5,), (2, 20001)):
                tensors = self.tensors(variant, shape, dtype, device)
                expected = self.call(variant, tensors)
                version = tensors["x"]._version
                result = langevin_step_(**tensors, **self.variants[variant])
                assert result is tensors["x"]
                assert torch.equal(result, expected)
                assert result._version > version

    def test_in_place_on_a_view(self, variant, device):
        tensors = self.tensors(variant, (4, 6), torch.float32, device)
        expected = self.call(variant, tensors)
        room = torch.zeros(4, 12, device=device)
        view = room[:, ::2]
        view.copy_(tensors["x"])
        langevin_step_(**{**tensors, "x": view}, **self.variants[variant])
        assert torch.equal(view, expected)
        assert not room[:, 1::2].any()

    def test_in_place_opcheck(self, variant, device):
        x, *rest = self.overload_arguments(variant, device)
        rest[0] = rest[0].detach()
        torch.library.opcheck(torch.ops.gencore.langevin_step_.default, (x.detach().clone(), *rest))

    def test_backward_and_tangent_opcheck(self, variant, device):
        x, *rest = self.overload_arguments(variant, device)
        weights = torch.randn_like(x).requires_grad_()
        torch.library.opcheck(
            torch.ops.gencore.langevin_step_backward.default,
            (weights, x, *rest, True, True, rest[1] is not None),
        )
        torch.library.opcheck(
            torch.ops.gencore.langevin_step_tangent.default,
            (x.detach(), weights, weights, None, x, *rest),
        )


def test_each_term_has_its_coefficient(device):
    x = torch.tensor([1.0, 2.0, -3.0], device=device)
    grad = torch.tensor([0.5, -4.0, 4.0], device=device)
    noise = torch.tensor([1.0, -1.0, 0.5], device=device)
    result = langevin_step(
        x, grad, 0.5, 0.1, prior_precision=2.0, grad_clamp=1.0, clamp=(-1.0, 1.0), noise=noise
    )
    # 1 - (0.5 + 2)/2 + 0.1,  2 - (-1 + 4)/2 - 0.1,  -3 - (1 - 6)/2 + 0.05
    torch.testing.assert_close(result, torch.tensor([-0.15, 0.4, -0.45], device=device))


def test_default_noise_scale_is_the_square_root_of_twice_the_step(device):
    zero, one = torch.zeros(4, device=device), torch.ones(4, device=device)
    torch.testing.assert_close(langevin_step(zero, zero, 0.02, noise=one), 0.2 * one)
    steps = torch.tensor([0.02, 0.5, 0.08, 0.0], device=device)
    torch.testing.assert_close(
        langevin_step(zero, zero, steps, noise=one),
        torch.tensor([0.2, 1.0, 0.4, 0.0], device=device),
    )


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1, 1)])
def test_per_chain_step_of_any_trailing_ones(shape, device):
    x, grad = torch.zeros(4, 2, 3, 5, device=device), torch.ones(4, 2, 3, 5, device=device)
    steps = torch.arange(4.0, device=device)
    result = langevin_step(x, grad, steps.view(shape), 0.0)
    assert torch.equal(result, -steps.view(4, 1, 1, 1).expand_as(x))


def test_a_zero_dimensional_step_is_one_for_all_chains(device):
    x = torch.randn(4, 3, device=device)
    assert torch.equal(
        langevin_step(x, x, torch.tensor(0.5, device=device), torch.zeros(4, device=device)),
        langevin_step(x, x, 0.5, 0.0),
    )


def test_the_noise_is_the_keys_normals(device):
    key = torch.tensor([3, 4], device=device)
    zero = torch.zeros(10, 7, dtype=torch.float64, device=device)
    noise = philox_normal((10, 7), key, dtype=torch.float64)
    assert torch.equal(langevin_step(zero, zero, 0.1, 1.0, key=key), noise)


@pytest.mark.parametrize("cut", [1, 4, 6, 63, 64, 129])
def test_a_split_batch_sees_the_same_noise(cut, device):
    key = torch.tensor([5, 6], device=device)
    x = torch.linspace(-1, 1, 300, device=device)
    whole = langevin_step(x, x, 0.1, key=key)
    parts = [
        langevin_step(x[:cut], x[:cut], 0.1, key=key),
        langevin_step(x[cut:], x[cut:], 0.1, key=key, first_element=cut),
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("step", [langevin_step, langevin_step_])
def test_the_generator_governs_the_noise(step):
    def run(**how):
        with torch.no_grad():
            return step(torch.zeros(9), torch.zeros(9), 0.1, **how)

    torch.manual_seed(7)
    first, second = run(), run()
    torch.manual_seed(7)
    assert torch.equal(run(), first)
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(run(generator=generator), first)
    with backend("reference"):
        torch.testing.assert_close(run(generator=generator), second, rtol=1e-5, atol=1e-5)


def test_both_forms_and_autograd_draw_the_same_noise():
    def state():
        torch.manual_seed(3)
        return torch.zeros(9)

    expected = langevin_step(state(), torch.zeros(9), 0.1)
    assert torch.equal(langevin_step_(state(), torch.zeros(9), 0.1), expected)
    with torch.no_grad():
        assert torch.equal(langevin_step_(state(), torch.zeros(9), 0.1), expected)
    x = state().requires_grad_()
    assert torch.equal(langevin_step(x, torch.zeros(9), 0.1).detach(), expected)


def test_nan_stays_nan_and_stays_alone(device):
    x = torch.zeros(6, device=device)
    grad = torch.tensor([0.0, math.nan, 0.0, math.inf, -math.inf, 0.0], device=device)
    result = langevin_step(x, grad, 0.1, 0.0, grad_clamp=1.0, clamp=(-1.0, 1.0))
    expected = torch.tensor([0.0, math.nan, 0.0, -0.1, 0.1, 0.0], device=device)
    torch.testing.assert_close(result, expected, equal_nan=True)


def test_an_in_place_step_is_seen_by_autograd():
    x = torch.ones(3)
    weight = torch.ones(3, requires_grad=True)
    loss = (weight * x).sum()  # saves x
    with torch.no_grad():
        langevin_step_(x, x.clone(), 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"grad": torch.zeros(3)}, ValueError, r"grad has shape \[3\], x has shape \[4\]"),
        ({"noise": torch.zeros(4, 1)}, ValueError, r"noise has shape \[4, 1\]"),
        ({"grad": torch.zeros(4).double()}, TypeError, "grad is torch.float64, x is torch.float32"),
        ({"grad": None}, TypeError, "grad must be a tensor, got NoneType"),
        ({"x": [0.0]}, TypeError, "x must be a tensor, got list"),
        ({"x": torch.zeros(4).long()}, TypeError, "x is torch.int64"),
        ({"x": torch.zeros(4).cfloat()}, TypeError, "x is torch.complex64"),
        ({"grad": torch.zeros(4, device="meta")}, ValueError, "grad is on meta, x on cpu"),
        ({"step_size": -0.1}, ValueError, "step_size must be finite and not negative, got -0.1"),
        ({"step_size": math.nan}, ValueError, "step_size must be finite"),
        ({"step_size": math.inf}, ValueError, "step_size must be finite"),
        ({"step_size": "fast"}, TypeError, "step_size must be a number or a tensor, got str"),
        ({"step_size": torch.tensor([0.1, 0.1, -0.1, 0.1])}, ValueError, "not negative, got -0.1"),
        ({"step_size": torch.ones(3)}, ValueError, r"step_size has shape \[3\]"),
        ({"step_size": torch.ones(4, 2)}, ValueError, r"step_size has shape \[4, 2\]"),
        ({"step_size": torch.ones(4).requires_grad_()}, ValueError, "step_size requires grad"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and not negative"),
        ({"grad_clamp": 0.0}, ValueError, "grad_clamp must be positive"),
        ({"clamp": (1.0, 0.0)}, ValueError, "low <= high"),
        ({"clamp": 1.0}, TypeError, "clamp must be a pair"),
        ({"clamp": (math.nan, 1.0)}, ValueError, "low <= high"),
        ({"prior_precision": math.nan}, ValueError, "prior_precision must be finite"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"key": 3}, TypeError, "key must be an int64 tensor"),
        ({"first_element": -1}, ValueError, "first_element must not be negative"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for step in (langevin_step, langevin_step_):
        arguments = {"x": torch.zeros(4), "grad": torch.zeros(4), "step_size": 0.1, **wrong}
        for context in (torch.enable_grad(), torch.no_grad()):
            if context.__class__ is torch.no_grad and "requires grad" in message:
                continue
            with context, pytest.raises(error, match=message) as caught:
                step(**arguments)
            assert str(caught.value).startswith(f"{step.__name__}: ")


def test_in_place_refuses_to_be_differentiated():
    with pytest.raises(ValueError, match="in place and is not differentiable"):
        langevin_step_(torch.zeros(3, requires_grad=True), torch.zeros(3), 0.1)


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="'triton'"), backend("triton"):
        pass
