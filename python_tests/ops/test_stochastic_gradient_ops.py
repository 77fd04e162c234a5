"""The fused steps of SGHMC and Riemannian Langevin: the shared tests and their own properties."""

import math

import pytest
import torch
from testing.op_tester import OpTester

from gencore.ops import (
    backend,
    langevin_step,
    philox_normal,
    riemannian_langevin_step,
    riemannian_langevin_step_,
    sghmc_step,
    sghmc_step_,
)

KEY = (11, 22)


def inverse_mass_of(kind, shape, generator):
    """Coefficients of the shapes that a mass may have, as [shape] has the dimensions for them."""
    sizes = {
        "per chain": shape[:1],
        "diagonal": shape[1:],
        "kept diagonal": (1, *shape[1:]) if shape else (),
        "full": shape,
        "channels": tuple(n if axis == 1 else 1 for axis, n in enumerate(shape)),
        "apart": tuple(1 if axis == 1 else n for axis, n in enumerate(shape)),
    }
    return 0.5 + torch.rand(sizes[kind], generator=generator)


class TestSghmcStep(OpTester):
    needs_chains = True
    function = staticmethod(sghmc_step)
    overload = torch.ops.gencore.sghmc_step.default
    differentiable = ("x", "momentum", "grad", "noise")
    variants = {  # noqa: RUF012
        "default noise scale": {"step_size": 0.1, "friction": 2.0},
        "noise free": {"step_size": 0.1, "friction": 1.5, "noise_scale": 0.0, "inverse_mass": 0.7},
        "given noise": {"step_size": 0.3, "friction": 0.2, "inverse_mass": 3.0},
        "per chain": {},
        "diagonal mass": {"step_size": 0.2, "friction": 1.0},
        "kept diagonal mass": {"step_size": 0.2, "friction": 1.0, "noise_scale": 0.5},
        "full mass": {"step_size": 0.2, "friction": 1.0},
        "channels mass": {"step_size": 0.2, "friction": 1.0},
        "apart mass": {"step_size": 0.2, "friction": 1.0},
    }

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)

        def normal():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        tensors = {name: normal() for name in ("x", "momentum", "grad")}
        tensors["key"] = torch.tensor(KEY, device=device)
        if variant == "given noise":
            tensors["noise"] = normal()
        if variant == "per chain":
            for name in ("step_size", "friction", "noise_scale", "inverse_mass"):
                values = 0.1 + torch.rand(shape[:1], generator=generator)
                tensors[name] = values.to(device, dtype)
        elif variant.endswith("mass"):
            mass = inverse_mass_of(variant.removesuffix(" mass"), shape, generator)
            tensors["inverse_mass"] = mass.to(device, dtype)
        return tensors

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        v = self.variants[variant]
        mass = t.get("inverse_mass")
        if mass is not None and mass.dim() == 1:
            mass = mass.view(-1, 1) if variant == "per chain" else mass.view(1, -1)
        return (
            *(t[name].requires_grad_() for name in ("x", "momentum", "grad")),
            t.get("noise"), t["key"],
            t.get("step_size"), t.get("friction"),
            mass, t.get("noise_scale"),
            v.get("step_size", 0.0), v.get("friction", 0.0), v.get("inverse_mass", 1.0),
            v.get("noise_scale", 0.3), 0,
        )  # fmt: skip

    def test_the_results_have_the_layouts_of_the_states(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 5, 7), torch.float32, device)
        tensors["x"] = tensors["x"].contiguous(memory_format=torch.channels_last)
        tensors["momentum"] = tensors["momentum"].mT.contiguous().mT
        for ours, like in zip(
            sghmc_step(**tensors, **self.variants[variant]),
            (tensors["x"], tensors["momentum"]),
            strict=True,
        ):
            assert ours.stride() == like.stride()

    def test_in_place_equals_functional(self, variant, device):
        for dtype in (torch.float32, torch.bfloat16):
            for shape in ((0,), (5,), (2, 20001)):
                tensors = self.tensors(variant, shape, dtype, device)
                expected = sghmc_step(**tensors, **self.variants[variant])
                versions = [tensors[name]._version for name in ("x", "momentum")]
                result = sghmc_step_(**tensors, **self.variants[variant])
                assert result[0] is tensors["x"]
                assert result[1] is tensors["momentum"]
                for ours, functional, version in zip(result, expected, versions, strict=True):
                    assert torch.equal(ours, functional)
                    assert ours._version > version

    def test_in_place_on_interleaved_views(self, variant, device):
        tensors = self.tensors(variant, (4, 6), torch.float32, device)
        expected = sghmc_step(**tensors, **self.variants[variant])
        room = torch.stack([tensors["x"], tensors["momentum"], tensors["grad"]], -1)
        views = dict(zip(("x", "momentum", "grad"), room.unbind(-1), strict=True))
        sghmc_step_(**{**tensors, **views}, **self.variants[variant])
        assert torch.equal(room[..., 0], expected[0])
        assert torch.equal(room[..., 1], expected[1])
        assert torch.equal(room[..., 2], tensors["grad"])

    def test_in_place_opcheck(self, variant, device):
        x, momentum, grad, *rest = self.overload_arguments(variant, device)
        states = (x.detach().clone(), momentum.detach().clone(), grad.detach())
        torch.library.opcheck(torch.ops.gencore.sghmc_step_.default, (*states, *rest))


class TestRiemannianLangevinStep(OpTester):
    needs_chains = True
    function = staticmethod(riemannian_langevin_step)
    overload = torch.ops.gencore.riemannian_langevin_step.default
    differentiable = ("x", "grad", "metric", "correction", "noise")
    variants = {  # noqa: RUF012
        "key": {"step_size": 0.1},
        "given noise": {"step_size": 0.2},
        "no noise": {"step_size": 0.0},
        "constant metric": {"step_size": 0.1, "correction": None},
        "per chain": {},
    }

    def tensors(self, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(2)

        def normal():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

        tensors = {"x": normal(), "grad": normal(), "metric": 0.3 + normal().square()}
        tensors["key"] = torch.tensor(KEY, device=device)
        if variant != "constant metric":
            tensors["correction"] = normal()
        if variant == "given noise":
            tensors["noise"] = normal()
        if variant == "per chain":
            tensors["step_size"] = 0.1 + torch.rand(shape[:1], generator=generator).to(device)
        return tensors

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        steps = t.get("step_size")
        leaves = [t[n].requires_grad_() if n in t else None for n in self.differentiable]
        x, grad, metric, correction, noise = leaves
        return (
            x, grad, metric, correction, noise, t["key"],
            None if steps is None else steps.double(),
            self.variants[variant].get("step_size", 0.0), 0,
        )  # fmt: skip

    def test_in_place_equals_functional(self, variant, device):
        for dtype in (torch.float32, torch.bfloat16):
            for shape in ((0,), (5,), (2, 20001)):
                tensors = self.tensors(variant, shape, dtype, device)
                expected = self.call(variant, tensors)
                version = tensors["x"]._version
                result = riemannian_langevin_step_(**tensors, **self.variants[variant])
                assert result is tensors["x"]
                assert torch.equal(result, expected)
                assert result._version > version

    def test_in_place_opcheck(self, variant, device):
        x, *rest = self.overload_arguments(variant, device)
        rest = [t.detach() if isinstance(t, torch.Tensor) else t for t in rest]
        op = torch.ops.gencore.riemannian_langevin_step_.default
        torch.library.opcheck(op, (x.detach().clone(), *rest))


def test_sghmc_by_hand(device):
    x, p, g, noise, mass = torch.tensor(
        [[1.0, 2.0], [4.0, -2.0], [0.5, 1.0], [1.0, -1.0], [0.5, 2.0]], device=device
    )
    position, momentum = sghmc_step(x, p, g, 0.1, 3.0, mass, 0.2, noise=noise)
    # 4 − 0.05 − 0.1·3·2 + 0.2 and −2 − 0.1 − 0.1·3·(−4) − 0.2
    torch.testing.assert_close(momentum, torch.tensor([3.55, -1.1], device=device))
    torch.testing.assert_close(position, torch.tensor([1.1775, 1.78], device=device))


def test_the_default_noise_balances_the_friction(device):
    zero, one = torch.zeros(4, device=device), torch.ones(4, device=device)
    friction = torch.tensor([0.0, 1.0, 4.0, 9.0], device=device)
    step = torch.tensor([0.5, 0.5, 0.125, 0.5], device=device)
    for c, e in ((friction, 0.5), (2.0, step), (friction, step), (friction, step[0])):
        _, momentum = sghmc_step(zero, zero, zero, e, c, noise=one)
        torch.testing.assert_close(momentum, (2.0 * c * e * one).sqrt())


def test_a_square_mass_says_what_it_belongs_to(device):
    x, p, mass = torch.zeros(3, 3), torch.ones(3, 3), torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"inverse_mass has shape \[3\], which may mean"):
        sghmc_step(x, p, x, 1.0, 0.0, mass)
    by_chain, _ = sghmc_step(x, p, x, 1.0, 0.0, mass.view(3, 1))
    by_dimension, _ = sghmc_step(x, p, x, 1.0, 0.0, mass.view(1, 3))
    assert torch.equal(by_chain, mass.view(3, 1).expand(3, 3))
    assert torch.equal(by_dimension, mass.expand(3, 3))


def test_without_friction_and_force_the_motion_is_uniform(device):
    x, p = torch.zeros(5, dtype=torch.float64), torch.linspace(-1, 1, 5, dtype=torch.float64)
    for _ in range(8):
        sghmc_step_(x, p, torch.zeros_like(x), 0.25, 0.0, 0.5)
    torch.testing.assert_close(x, 8 * 0.25 * 0.5 * p)


def test_a_unit_metric_is_the_langevin_step(device):
    key = torch.tensor(KEY, device=device)
    x, grad = torch.randn(2, 7, 5, dtype=torch.float64, device=device)
    for first in (0, 3):
        torch.testing.assert_close(
            riemannian_langevin_step(
                x, grad, torch.ones_like(x), None, 0.1, key=key, first_element=first
            ),
            langevin_step(x, grad, 0.1, key=key, first_element=first),
        )


def test_riemannian_langevin_by_hand(device):
    x, grad, metric, correction, noise = torch.tensor(
        [[1.0, -2.0], [3.0, 1.0], [0.5, 8.0], [2.0, -1.0], [1.0, 0.5]], device=device
    )
    result = riemannian_langevin_step(x, grad, metric, correction, 0.25, noise=noise)
    # 1 − (1.5 − 2)/4 + √(0.25)·1 and −2 − (8 + 1)/4 + √4·0.5
    torch.testing.assert_close(result, torch.tensor([1.625, -3.25], device=device))


def test_the_noise_scale_does_not_underflow(device):
    """2εG = 2·10⁻⁵⁰ is zero in float32, √(2ε)·√G is not."""
    zero, one = torch.zeros(3, device=device), torch.ones(3, device=device)
    result = riemannian_langevin_step(zero, zero, 1e-30 * one, None, 1e-20, noise=one)
    torch.testing.assert_close(result, math.sqrt(2e-50) * one, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("cut", [1, 6, 64, 129])
def test_a_split_batch_sees_the_same_noise(cut, device):
    key = torch.tensor(KEY, device=device)
    x = torch.linspace(-1, 1, 300, device=device)

    def both(part, first):
        metric = 1 + part.square()
        return (
            *sghmc_step(part, part, part, 0.1, 1.0, key=key, first_element=first),
            riemannian_langevin_step(part, part, metric, part, 0.1, key=key, first_element=first),
        )

    for whole, left, right in zip(both(x, 0), both(x[:cut], 0), both(x[cut:], cut), strict=True):
        assert torch.equal(torch.cat([left, right]), whole)


def test_the_noise_is_the_keys_normals(device):
    key = torch.tensor(KEY, device=device)
    zero = torch.zeros(10, 7, dtype=torch.float64, device=device)
    noise = philox_normal((10, 7), key, dtype=torch.float64)
    assert torch.equal(sghmc_step(zero, zero, zero, 0.1, 0.0, 1.0, 1.0, key=key)[1], noise)
    step = riemannian_langevin_step(zero, zero, torch.ones_like(zero), None, 0.5, key=key)
    assert torch.equal(step, noise)


@pytest.mark.parametrize("step", [sghmc_step, sghmc_step_])
def test_the_generator_governs_the_noise(step):
    def run(**how):
        with torch.no_grad():
            return step(torch.zeros(9), torch.zeros(9), torch.zeros(9), 0.1, 1.0, **how)[0]

    torch.manual_seed(7)
    first, second = run(), run()
    torch.manual_seed(7)
    assert torch.equal(run(), first)
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(run(generator=generator), first)
    with backend("reference"):
        torch.testing.assert_close(run(generator=generator), second, rtol=1e-5, atol=1e-5)


def test_an_in_place_operand_may_be_the_gradient(device):
    x, p = torch.randn(2, 40001, device=device)
    key = torch.tensor(KEY, device=device)
    expected = sghmc_step(x, p, x, 0.1, 1.0, key=key)
    sghmc_step_(x, p, x, 0.1, 1.0, key=key)
    assert torch.equal(x, expected[0])
    assert torch.equal(p, expected[1])
    room = torch.randn(40002, device=device)
    expected = sghmc_step(room[1:], p, room[:-1], 0.1, 1.0, key=key)
    sghmc_step_(room[1:], p, room[:-1], 0.1, 1.0, key=key)
    assert torch.equal(room[1:], expected[0])


def test_in_place_steps_compile_without_graph_breaks(device):
    key = torch.tensor(KEY, device=device)

    def chain(x, p, grad, metric):
        sghmc_step_(x, p, grad, 0.1, 1.0, key=key)
        riemannian_langevin_step_(p, grad, metric, None, 0.1, key=key)
        return x + p

    tensors = torch.rand(4, 5, 3, device=device).unbind(0)
    expected = chain(*(t.clone() for t in tensors))
    torch.compiler.reset()
    compiled = torch.compile(chain, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*(t.clone() for t in tensors)), expected)


def test_in_place_steps_are_seen_by_autograd():
    x, p = torch.ones(3), torch.ones(3)
    weight = torch.ones(3, requires_grad=True)
    steps = (
        lambda: sghmc_step_(x, p, torch.ones(3), 0.1, 1.0),
        lambda: riemannian_langevin_step_(x, x.clone(), torch.ones(3), None, 0.1),
    )
    for step in steps:
        loss = (weight * x).sum()  # saves x
        with torch.no_grad():
            step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_in_place_steps_refuse_what_they_cannot_do():
    x, leaf = torch.zeros(4), torch.zeros(4, requires_grad=True)
    with pytest.raises(ValueError, match="sghmc_step_: x and momentum share memory"):
        sghmc_step_(x, x, torch.zeros(4), 0.1, 1.0)
    with pytest.raises(ValueError, match=r"momentum, of shape \[4\] and strides \[0\], repeats"):
        sghmc_step_(x, x[:1].clone().expand(4), torch.zeros(4), 0.1, 1.0)
    with pytest.raises(ValueError, match="not differentiable, but momentum requires grad"):
        sghmc_step_(x, leaf, torch.zeros(4), 0.1, 1.0)
    with pytest.raises(ValueError, match=r"but metric .* use riemannian_langevin_step"):
        riemannian_langevin_step_(x, x.clone(), leaf, None, 0.1)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"momentum": torch.zeros(3, 2)}, ValueError, r"momentum has shape \[3, 2\]"),
        ({"grad": torch.zeros(4, 2).double()}, TypeError, "grad is torch.float64"),
        ({"noise": torch.zeros(4, 1)}, ValueError, r"noise has shape \[4, 1\]"),
        ({"step_size": -0.1}, ValueError, "step_size must be finite and not negative, got -0.1"),
        ({"friction": math.nan}, ValueError, "friction must be finite and not negative, got nan"),
        ({"friction": "much"}, TypeError, "friction must be a number or a tensor, got str"),
        ({"friction": torch.ones(3)}, ValueError, r"friction has shape \[3\]"),
        ({"friction": torch.ones(4, 2)}, ValueError, "expected one entry a chain"),
        ({"x": torch.zeros(())}, ValueError, "x has no dimensions"),
        ({"inverse_mass": 0.0}, ValueError, "inverse_mass must be finite and positive"),
        ({"inverse_mass": -1}, ValueError, "inverse_mass must be finite and positive"),
        ({"inverse_mass": torch.zeros(4)}, ValueError, "inverse_mass must be finite and positive"),
        ({"inverse_mass": torch.ones(3)}, ValueError, r"inverse_mass has shape \[3\]"),
        ({"inverse_mass": torch.ones(1, 4, 2)}, ValueError, r"inverse_mass has shape \[1, 4, 2\]"),
        ({"inverse_mass": torch.ones(4).requires_grad_()}, ValueError, "inverse_mass requires"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and not negative"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"first_element": -1}, ValueError, "first_element must not be negative"),
    ],
    ids=str,
)
def test_bad_input_of_sghmc_is_named(wrong, error, message):
    for step in (sghmc_step, sghmc_step_):
        states = {name: torch.zeros(4, 2) for name in ("x", "momentum", "grad")}
        with pytest.raises(error, match=message) as caught:
            step(**{**states, "step_size": 0.1, "friction": 1.0, **wrong})
        assert str(caught.value).startswith(f"{step.__name__}: ")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"metric": torch.zeros(2)}, ValueError, r"metric has shape \[2\]"),
        ({"metric": 1.0}, TypeError, "metric must be a tensor, got float"),
        ({"correction": torch.zeros(4, 1)}, ValueError, r"correction has shape \[4, 1\]"),
        ({"step_size": math.inf}, ValueError, "step_size must be finite"),
        ({"step_size": torch.ones(4).requires_grad_()}, ValueError, "step_size requires grad"),
        ({"noise": torch.zeros(4, 2).half()}, TypeError, "noise is torch.float16"),
    ],
    ids=str,
)
def test_bad_input_of_riemannian_langevin_is_named(wrong, error, message):
    for step in (riemannian_langevin_step, riemannian_langevin_step_):
        names = ("x", "grad", "metric", "correction")
        arguments = {name: torch.zeros(4, 2) for name in names}
        with pytest.raises(error, match=message) as caught:
            step(**{**arguments, "step_size": 0.1, **wrong})
        assert str(caught.value).startswith(f"{step.__name__}: ")
