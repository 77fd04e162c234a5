"""The leapfrog operators: the shared operator tests, their coefficients and every bad input."""

import itertools
import math

import pytest
import torch
from testing.op_tester import OpTester

from gencore.ops import (
    LeapfrogEnd,
    LeapfrogStart,
    backend,
    leapfrog_end,
    leapfrog_start,
    leapfrog_step,
    leapfrog_step_,
    philox_normal,
)


class LeapfrogTester(OpTester):
    """The coefficients that the operators share, in three forms."""

    needs_chains = True
    variants = {  # noqa: RUF012
        "numbers": {"step_size": 0.3, "inverse_mass": 0.7},
        "one a chain": {},
        "diagonal mass": {"step_size": 0.3},
    }

    def operands(self, names, variant, shape, dtype, device):
        generator = torch.Generator().manual_seed(1)
        tensors = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
            for name in names
        }
        chains, numbers = shape[:1], (1, *shape[1:])
        if variant == "one a chain":
            tensors["step_size"] = torch.rand(chains, generator=generator).to(device, dtype)
            mass = 0.5 + torch.rand(chains, generator=generator)
            tensors["inverse_mass"] = mass.to(device, dtype)
        if variant == "diagonal mass":
            mass = 0.5 + torch.rand(numbers, generator=generator)
            tensors["inverse_mass"] = mass.to(device, dtype)
        return tensors

    def coefficients(self, variant, device):
        """Of a float64 call on [4, 3], as the schemas want them."""
        t = self.operands((), variant, (4, 3), torch.float64, device)
        mass = t.get("inverse_mass")
        if mass is not None:
            mass = mass.view(-1, 1) if variant == "one a chain" else mass
        return t.get("step_size"), mass, 0.3, 0.7


class TestLeapfrogStart(LeapfrogTester):
    function = staticmethod(leapfrog_start)
    overload = torch.ops.gencore.leapfrog_start.default
    differentiable = ("x", "grad", "noise")
    variants = {**LeapfrogTester.variants, "given noise": {"step_size": 0.3}}  # noqa: RUF012

    def tensors(self, variant, shape, dtype, device):
        names = ("x", "grad", "noise") if variant != "one a chain" else ("x", "grad")
        tensors = self.operands(names, variant, shape, dtype, device)
        return {**tensors, "key": torch.tensor([11, 22], device=device)}

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        x, grad = t["x"].requires_grad_(), t["grad"].requires_grad_()
        return x, grad, t.get("noise"), t["key"], *self.coefficients(variant, device), 0


class TestLeapfrogStep(LeapfrogTester):
    function = staticmethod(leapfrog_step)
    overload = torch.ops.gencore.leapfrog_step.default
    differentiable = ("x", "momentum", "grad")

    def tensors(self, variant, shape, dtype, device):
        return self.operands(("x", "momentum", "grad"), variant, shape, dtype, device)

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        operands = (t[name].requires_grad_() for name in self.differentiable)
        return *operands, *self.coefficients(variant, device)

    @pytest.mark.parametrize("grad_enabled", [True, False])
    def test_in_place_equals_functional(self, variant, grad_enabled, device):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for shape in ((0,), (5,), (64, 2), (3, 5001)):
                tensors = self.tensors(variant, shape, dtype, device)
                expected = self.call(variant, tensors)
                written = tensors["x"], tensors["momentum"]
                versions = [t._version for t in written]
                with torch.set_grad_enabled(grad_enabled):
                    result = leapfrog_step_(**tensors, **self.variants[variant])
                for ours, tensor, wanted, version in zip(
                    result, written, expected, versions, strict=True
                ):
                    assert ours is tensor
                    assert torch.equal(tensor, wanted)
                    assert tensor._version > version

    @pytest.mark.parametrize("grad_enabled", [True, False])
    def test_in_place_on_interleaved_views(self, variant, grad_enabled, device):
        tensors = self.tensors(variant, (4, 6), torch.float32, device)
        expected = self.call(variant, tensors)
        room = torch.zeros(4, 18, device=device)
        views = room[:, ::3], room[:, 1::3]
        for view, name in zip(views, ("x", "momentum"), strict=True):
            view.copy_(tensors[name])
        moved = dict(zip(("x", "momentum"), views, strict=True))
        with torch.set_grad_enabled(grad_enabled):
            leapfrog_step_(**{**tensors, **moved}, **self.variants[variant])
        for view, wanted in zip(views, expected, strict=True):
            assert torch.equal(view, wanted)
        assert not room[:, 2::3].any()

    def test_in_place_opcheck(self, variant, device):
        x, momentum, grad, *rest = self.overload_arguments(variant, device)
        operands = (x.detach().clone(), momentum.detach().clone(), grad.detach())
        torch.library.opcheck(torch.ops.gencore.leapfrog_step_.default, (*operands, *rest))
        torch.library.opcheck(torch.ops.gencore.leapfrog_step_.plain, (*operands, 0.3, 0.7))


class TestLeapfrogEnd(LeapfrogTester):
    function = staticmethod(leapfrog_end)
    overload = torch.ops.gencore.leapfrog_end.default
    differentiable = ("momentum", "grad")

    def tensors(self, variant, shape, dtype, device):
        return self.operands(("momentum", "grad"), variant, shape, dtype, device)

    def overload_arguments(self, variant, device):
        t = self.tensors(variant, (4, 3), torch.float64, device)
        operands = (t[name].requires_grad_() for name in self.differentiable)
        return *operands, *self.coefficients(variant, device)


def test_a_start_worked_out_by_hand(device):
    x = torch.tensor([[1.0, 2.0]], device=device)
    grad = torch.tensor([[4.0, -2.0]], device=device)
    noise = torch.tensor([[3.0, -1.0]], device=device)
    mass = torch.tensor([[4.0, 0.25]], device=device)
    start = leapfrog_start(x, grad, 0.5, mass, noise=noise)
    assert isinstance(start, LeapfrogStart)
    # p0 = (1.5, -2), p = p0 - grad/4 = (0.5, -1.5), x' = x + m p / 2, K = (9 + 1)/2
    assert start.momentum.tolist() == [[0.5, -1.5]]
    assert start.position.tolist() == [[2.0, 1.8125]]
    assert start.kinetic.tolist() == [5.0]


def test_an_end_worked_out_by_hand(device):
    momentum = torch.tensor([[1.0, 2.0], [0.0, 2.0]], device=device)
    grad = torch.tensor([[4.0, 0.0], [-4.0, 4.0]], device=device)
    end = leapfrog_end(momentum, grad, torch.tensor([0.5, 1.0], device=device), 0.5)
    assert isinstance(end, LeapfrogEnd)
    assert end.momentum.tolist() == [[0.0, 2.0], [2.0, 0.0]]
    assert end.kinetic.tolist() == [1.0, 1.0]


def test_the_noise_is_the_keys_normals(device):
    key, zero = torch.tensor([3, 4], device=device), torch.zeros(10, 7, device=device)
    start = leapfrog_start(zero, zero, 0.1, key=key)
    noise = philox_normal((10, 7), key)
    assert torch.equal(start.momentum, noise)
    torch.testing.assert_close(start.kinetic, 0.5 * noise.square().sum(1))


def test_an_unaligned_start_equals_the_mala_proposal(device):
    """x' = x - a g + sqrt(2a) eps for the step size sqrt(2a)."""
    x, grad, noise = torch.randn(3, 5, 3, dtype=torch.float64, device=device).unbind(0)
    position, _, _ = leapfrog_start(x, grad, math.sqrt(0.2), noise=noise)
    torch.testing.assert_close(position, x - 0.1 * grad + math.sqrt(0.2) * noise)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33, 100, 1025])
def test_a_split_batch_is_the_whole(size, device):
    key = torch.tensor([5, 6], device=device)
    generator = torch.Generator().manual_seed(size)
    # float64, whose sums are not rounded again: any other order of the terms would show.
    x = torch.randn(7, size, generator=generator, dtype=torch.float64).to(device)
    steps = torch.linspace(0.1, 0.2, 7, device=device)

    def start(rows):
        first = (rows.start or 0) * size
        return leapfrog_start(x[rows], x[rows], steps[rows], 0.7, key=key, first_element=first)

    def end(rows):
        return leapfrog_end(x[rows], x[rows], steps[rows], 0.7)

    for call, cut in itertools.product((start, end), (1, 2, 5)):
        parts = zip(call(slice(0, cut)), call(slice(cut, None)), strict=True)
        for pair, whole in zip(parts, call(slice(0, None)), strict=True):
            assert torch.equal(torch.cat(pair), whole)


@pytest.mark.parametrize("chains", [1, 2, 97, 3001])
def test_chains_of_any_number_are_deterministic_over_threads(chains, device):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(chains, 60_000 // chains, generator=generator).to(device)
    key = torch.tensor([1, 2], device=device)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((*leapfrog_start(x, x, 0.1, key=key), *leapfrog_end(x, x, 0.1)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_a_long_sum_is_exact_to_the_last_digits(device):
    momentum = torch.full((2, 1_000_003), 0.1, device=device)
    _, kinetic = leapfrog_end(momentum, torch.zeros_like(momentum), 0.1)
    exact = 0.5 * 1_000_003 * momentum[0, 0].double().square()
    torch.testing.assert_close(kinetic.double(), exact.expand(2), rtol=2e-7, atol=0.0)


def test_chains_without_elements_have_no_kinetic_energy(device):
    x = torch.zeros(3, 0, device=device)
    assert leapfrog_start(x, x, 0.1).kinetic.tolist() == [0.0] * 3
    assert leapfrog_end(x, x, 0.1).kinetic.tolist() == [0.0] * 3


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (4,), (4, 1, 1), (3, 5), (5,), (1, 3, 5), (1, 3, 1), (4, 3, 5), (4, 1, 5), (3, 1)],
    ids=str,
)
def test_an_inverse_mass_broadcasts(shape, device):
    x = torch.ones(4, 3, 5, device=device)
    mass = 1.0 + torch.arange(math.prod(shape), device=device).view(shape)
    everywhere = mass.view(4, 1, 1) if shape == (4,) else mass
    position, _ = leapfrog_step(0 * x, x, 0 * x, 1.0, mass)
    assert torch.equal(position, everywhere.expand_as(x))
    kinetic = leapfrog_end(x, 0 * x, 1.0, mass).kinetic
    assert torch.equal(kinetic, 0.5 * everywhere.expand_as(x).sum((1, 2)))


@pytest.mark.parametrize("between", [(), (2,)], ids=str)
def test_an_inverse_mass_of_two_meanings_is_refused(between, device):
    """[3] for three chains whose last dimension is three."""
    x = torch.ones(3, *between, 3, device=device)
    mass, ones = torch.tensor([1.0, 2.0, 3.0], device=device), (1,) * (x.dim() - 1)
    with pytest.raises(ValueError, match=r"leapfrog_step: inverse_mass has shape \[3\].*\[3, 1"):
        leapfrog_step(0 * x, x, 0 * x, 1.0, mass)
    for spelt_out in (mass.view(3, *ones), mass.view(*ones, 3)):
        position, _ = leapfrog_step(0 * x, x, 0 * x, 1.0, spelt_out)
        assert torch.equal(position, spelt_out.expand_as(x))
    x = x[:2]  # of two chains it is a diagonal
    position, _ = leapfrog_step(0 * x, x, 0 * x, 1.0, mass)
    assert torch.equal(position, mass.expand_as(x))


def test_both_backends_draw_alike_from_the_generator():
    states, results = [], []
    for name in ("native", "reference"):
        torch.manual_seed(7)
        with backend(name):
            results.append(leapfrog_start(torch.zeros(9, 3), torch.zeros(9, 3), 0.1).momentum)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad_enabled", [True, False])
@pytest.mark.parametrize("starts", [(0, 130, 260), (5, 140, 0), (140, 5, 0)], ids=str)
def test_operands_may_share_memory(starts, grad_enabled, device):
    room = torch.linspace(-1, 1, 400, device=device)
    x, momentum, grad = (room[start : start + 130].view(13, 10) for start in starts)
    expected = leapfrog_step(x.clone(), momentum.clone(), grad.clone(), 0.1)
    with torch.set_grad_enabled(grad_enabled):
        leapfrog_step_(x, momentum, grad, 0.1)
    assert torch.equal(momentum, expected[1])
    assert torch.equal(x, expected[0])


def test_autograd_notices_a_state_that_is_overwritten():
    momentum = torch.ones(3, 2, requires_grad=True)
    x = torch.ones(3, 2)
    loss = (momentum * x).sum()
    with torch.no_grad():
        leapfrog_step_(x, torch.ones(3, 2), torch.ones(3, 2), 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def call(function, **wrong):
    ones = {name: torch.ones(4, 2) for name in ("x", "momentum", "grad")}
    if function is leapfrog_end:
        del ones["x"]
    if function is leapfrog_start:
        del ones["momentum"]
    return function(**{**ones, "step_size": 0.1, **wrong})


FUNCTIONS = (leapfrog_start, leapfrog_step, leapfrog_step_, leapfrog_end)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"grad": torch.zeros(4, 3)}, ValueError, r"grad has shape \[4, 3\]"),
        ({"grad": torch.zeros(4, 2).double()}, TypeError, "grad is torch.float64"),
        ({"grad": None}, TypeError, "grad must be a tensor, got NoneType"),
        ({"grad": torch.zeros(4, 2, device="meta")}, ValueError, "grad is on meta"),
        ({"step_size": -0.1}, ValueError, "step_size must be finite and not negative, got -0.1"),
        ({"step_size": math.nan}, ValueError, "step_size must be finite"),
        ({"step_size": "fast"}, TypeError, "step_size must be a number or a tensor, got str"),
        ({"step_size": torch.ones(3)}, ValueError, r"step_size has shape \[3\]"),
        ({"step_size": torch.ones(4, 2)}, ValueError, r"step_size has shape \[4, 2\]"),
        ({"step_size": torch.tensor([0.1, -0.1, 1, 1])}, ValueError, "not negative, got -0.1"),
        ({"step_size": torch.ones(4).requires_grad_()}, ValueError, "step_size requires grad"),
        ({"inverse_mass": 0.0}, ValueError, "inverse_mass must be finite and positive, got 0.0"),
        ({"inverse_mass": math.inf}, ValueError, "inverse_mass must be finite and positive"),
        ({"inverse_mass": None}, TypeError, "inverse_mass must be a number or a tensor"),
        ({"inverse_mass": torch.zeros(4)}, ValueError, "finite and positive, got 0.0"),
        ({"inverse_mass": torch.ones(3)}, ValueError, r"inverse_mass has shape \[3\]"),
        ({"inverse_mass": torch.ones(1, 4, 2)}, ValueError, r"inverse_mass has shape \[1, 4, 2\]"),
        ({"inverse_mass": torch.ones(4).cfloat()}, TypeError, "inverse_mass is torch.complex64"),
        ({"inverse_mass": torch.ones(4, device="meta")}, ValueError, "inverse_mass is on meta"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for function in FUNCTIONS:
        for name in ("native", "reference"):
            for grad_enabled in (True, False):
                if "requires grad" in message and not grad_enabled:
                    continue
                with (
                    backend(name),
                    torch.set_grad_enabled(grad_enabled),
                    pytest.raises(error, match=message) as caught,
                ):
                    call(function, **wrong)
                assert str(caught.value).startswith(f"{function.__name__}: ")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_states_without_a_dimension_of_chains_are_refused(function):
    zero = dict.fromkeys(("x", "momentum", "grad"), torch.zeros(()))
    if function in (leapfrog_start, leapfrog_end):
        del zero["momentum" if function is leapfrog_start else "x"]
    for grad_enabled in (True, False):
        with (
            torch.set_grad_enabled(grad_enabled),
            pytest.raises(ValueError, match="has no dimensions, expected") as caught,
        ):
            function(**zero, step_size=0.1)
        assert str(caught.value).startswith(f"{function.__name__}: ")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"noise": torch.zeros(4)}, ValueError, "noise has shape"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"first_element": -1}, ValueError, "first_element must not be negative"),
        ({"generator": 3}, TypeError, "generator must be a torch.Generator"),
        ({"x": torch.zeros(4, 2).long()}, TypeError, "x is torch.int64"),
    ],
    ids=str,
)
def test_bad_input_of_a_start_is_named(wrong, error, message):
    with pytest.raises(error, match=f"^leapfrog_start: .*{message}"):
        call(leapfrog_start, **wrong)


def test_in_place_refuses_what_it_cannot_write():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="in place and is not differentiable"):
        call(leapfrog_step_, x=torch.zeros(4, 2, requires_grad=True))
    for grad_enabled in (True, False):
        with torch.set_grad_enabled(grad_enabled):
            with pytest.raises(ValueError, match=r"^leapfrog_step_: x and momentum share memory"):
                leapfrog_step_(x, x, torch.zeros(3, 2), 0.1)
            with pytest.raises(ValueError, match=r"^leapfrog_step_: momentum, .* repeats elements"):
                leapfrog_step_(x, torch.ones(3, 1).expand(3, 2), torch.ones(3, 2), 0.1)
    assert not x.any()
