"""PixelPlan: features equal to the whole network's, the same bits everywhere, what is refused."""

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from testing.host_executor import DTYPES, Device, compiler
from testing.pixel_networks import Scales, Stack
from torch import fx, nn

from gencore.nn import (
    CausalConv2d,
    DrawSpec,
    MaskedConv2d,
    PixelInput,
    PixelPlan,
)
from gencore.nn.causal.trace import _Tracer
from gencore.ops import backend

CATEGORICAL = DrawSpec("categorical", 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Kept(fx.Interpreter):
    """Runs a network and keeps what each of its operations returns."""

    def __init__(self, network, context):
        fixed = {} if context is not None else {"context": None}
        super().__init__(fx.GraphModule(network, _Tracer().trace(network, fixed)))
        self.kept = {}

    def run_node(self, node):
        result = super().run_node(node)
        self.kept[node.name] = result
        return result


def cases():
    return {
        "stack": (Stack(), (1, 6, 5), 1, None),
        "channels apart": (Stack(3), (3, 4, 5), 1, None),
        "channel groups": (Stack(3, groups=3), (3, 4, 5), 3, None),
        "scales": (Scales(), (1, 8, 6), 1, torch.randn(3, 2, 8, 6, generator=generator())),
        "scales of colours": (Scales(2, 8), (2, 4, 4), 1, torch.randn(3, 2, 4, 4)),
    }


@pytest.fixture(params=list(cases()))
def case(request):
    torch.manual_seed(0)
    network, shape, groups, context = cases()[request.param]
    x = torch.randint(4, (3, *shape), generator=generator())
    return network.eval(), shape, groups, context, x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@torch.no_grad()
def test_features_of_every_layer_are_those_of_a_full_pass(case, dtype):
    network, shape, groups, context, x = case
    network = network.to(dtype)
    context = None if context is None else context.to(dtype)
    full = Kept(network, context)
    expected = full.run(x, context)
    plan = PixelPlan(network, shape, None, 3, context, channel_groups=groups, keep_all=True)
    parameters = torch.empty(expected.shape, dtype=dtype)
    plan.run(x, 0, plan.positions, parameters=parameters)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(parameters, expected, **tolerance)
    features = plan.features()
    assert len(features) >= 7
    for name, values in features.items():
        torch.testing.assert_close(values, full.kept[name], **tolerance, msg=name)


@torch.no_grad()
def test_what_is_kept_does_not_change_the_parameters(case):
    network, shape, groups, context, x = case
    results = []
    for keep_all in (False, True):
        plan = PixelPlan(
            network, shape, CATEGORICAL, 3, context, channel_groups=groups, keep_all=keep_all
        )
        out = x.new_zeros(3, plan.program.steps.output.count, *shape[1:], dtype=torch.float32)
        for begin, end in ((0, 3), (3, 4), (4, plan.positions)):
            plan.run(x, begin, end, parameters=out)
        results.append((plan.state.numel(), out))
    assert results[0][0] < results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    "draw", [CATEGORICAL, DrawSpec("logistic", 4, 3, True), DrawSpec("logistic", 4, 2, False)]
)
@torch.no_grad()
def test_the_reference_makes_the_same_choices(draw):
    torch.manual_seed(3)
    channels = 2
    pairs = 1 if draw.coupled else 0
    outputs = 8 if draw.kind == "categorical" else draw.num_components * (1 + 2 * channels + pairs)
    network = Stack(channels, outputs=outputs)
    network.last.weight *= 4
    uniforms = torch.rand(5, channels + (draw.kind == "logistic"), 4, 4, generator=generator())
    known = torch.rand(5, channels, 4, 4, generator=generator(1)) < 0.3
    given = torch.randint(4, (5, channels, 4, 4), generator=generator(2))
    drawn = []
    for name in ("native", "reference"):
        with backend(name):
            plan = PixelPlan(network, (channels, 4, 4), draw, 5)
            x = given.clone()
            plan.run(x, 0, 7, uniforms=uniforms, known=known)
            rest = torch.zeros(5, plan.positions - 7, 4, dtype=torch.int32)
            plan.run(x, 7, plan.positions, uniforms=uniforms, known=known, frequencies=rest)
            drawn.append((x, rest))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(torch.where(known, given, drawn[0][0]), drawn[0][0])
    assert not torch.equal(drawn[0][0], given)
    assert (drawn[0][1].sum(2) == 2**24).all()
    assert drawn[0][1].min() >= 1
    difference = (drawn[0][1] - drawn[1][1]).abs().max()
    assert difference <= 64  # float32 sums in another order, of 2**24


PROGRAM = """
import hashlib, sys
import torch
from test_pixel_plan import Scales, Stack, digest
print(digest())
"""


@torch.no_grad()
def digest():
    """Of the levels, frequencies and features of some images."""
    torch.manual_seed(0)
    whole = hashlib.sha256()
    for network, draw, channels, groups in (
        (Stack(3, 30, groups=3), CATEGORICAL, 3, 3),
        (Scales(3, 20), DrawSpec("logistic", 4, 2, True), 3, 1),
    ):
        context = torch.randn(11, 2, 8, 8) if groups == 1 else None
        plan = PixelPlan(network, (channels, 8, 8), draw, 11, context, channel_groups=groups)
        x = torch.zeros(11, channels, 8, 8, dtype=torch.int64)
        uniforms = torch.rand(11, channels + (groups == 1), 8, 8)
        frequencies = torch.zeros(11, plan.positions, 4, dtype=torch.int32)
        plan.run(x, 0, plan.positions, uniforms=uniforms, frequencies=frequencies)
        for tensor in (x, frequencies, plan.state):
            whole.update(tensor.numpy().tobytes())
    return whole.hexdigest()


@pytest.mark.slow
def test_every_bit_is_the_same_on_every_level():
    found = {}
    for level in ("x86_64_v4", "x86_64_v3", "x86_64_v2", "baseline"):
        environment = {
            "GENCORE_CPU_LEVEL": level,
            # Features of the context are torch's, whose own levels differ; these do not.
            "ATEN_CPU_CAPABILITY": "default",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if "is not a level this processor runs" not in run.stderr:
            assert run.returncode == 0, run.stderr
            found[level] = run.stdout
    assert len(set(found.values())) == 1, found


def test_every_bit_is_the_same_for_any_number_of_threads():
    before, results = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.add(digest())
    finally:
        torch.set_num_threads(before)
    assert len(results) == 1


class Faulty(nn.Module):
    """A network of one convolution after another."""

    def __init__(self, *layers):
        super().__init__()
        self.input = PixelInput(1, 4)
        self.layers = nn.Sequential(*layers)

    def forward(self, x, context=None):
        return self.layers(self.input(x))


class LastChannels(Stack):
    """Whose parameters are the later channels of a larger map."""

    def forward(self, x, context=None):
        return super().forward(x)[:, 3:]


@torch.no_grad()
def test_parameters_may_be_a_part_of_the_channels():
    torch.manual_seed(0)
    network, x = LastChannels(outputs=7), torch.randint(4, (2, 1, 4, 4))
    plan = PixelPlan(network, (1, 4, 4), CATEGORICAL, 2)
    parameters = torch.empty(2, 4, 4, 4)
    plan.run(x, 0, plan.positions, parameters=parameters)
    torch.testing.assert_close(parameters, network(x))


class InPlace(nn.Module):
    """A network with an operation that means more than its name."""

    def __init__(self, operation):
        super().__init__()
        self.input, self.first = PixelInput(1, 4), MaskedConv2d(1, 4, 3, mask="A")
        self.operation = operation

    def forward(self, x, context=None):
        y = self.first(self.input(x))
        return y + self.operation(y)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda y: torch.add(y, y, alpha=2), "further arguments alpha"),
        (lambda y: nn.functional.relu(y, inplace=True), "an operation in place"),
        (lambda y: nn.functional.relu(y, True), "an operation in place"),
        (nn.ReLU(inplace=True), "an operation in place"),
        (lambda y: y.relu_(), "the method relu_"),
        (lambda y: y + 1, "the sum with a number"),
    ],
)
def test_operations_that_mean_more_are_refused(operation, message):
    with pytest.raises(ValueError, match=message):
        PixelPlan(InPlace(operation), (1, 4, 4), CATEGORICAL, 2)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([CausalConv2d(1, 4, (2, 2))], "a pixel sees itself or a later one"),
        ([MaskedConv2d(1, 4, 3, mask="B")], "a pixel sees itself or a later one"),
        (
            [CausalConv2d(1, 4, (2, 2), last=(0, -1)), CausalConv2d(4, 4, (2, 3), last=(0, 1))],
            "a pixel sees itself or a later one",
        ),
        ([nn.Conv2d(1, 4, 3, padding=1)], "neither causal nor 1x1"),
        ([MaskedConv2d(1, 4, 3, mask="A"), nn.BatchNorm2d(4)], "a layer BatchNorm2d"),
        ([MaskedConv2d(1, 4, 3, mask="A"), nn.ELU(0.5)], "a layer ELU"),
        ([MaskedConv2d(1, 4, 3, mask="A", channel_groups=1), nn.Softmax(1)], "a layer Softmax"),
    ],
)
def test_networks_that_are_not_causal_or_unknown_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        PixelPlan(Faulty(*layers).eval(), (1, 4, 4), CATEGORICAL, 2)


def test_a_group_that_sees_its_own_channel_is_refused():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.input = PixelInput(3, 4)
            self.first = MaskedConv2d(3, 12, 3, mask="B", channel_groups=3)

        def forward(self, x, context=None):
            return self.first(self.input(x))

    with pytest.raises(ValueError, match="a pixel sees itself or a later one"):
        PixelPlan(Network(), (3, 4, 4), CATEGORICAL, 2, channel_groups=3)


def test_numbers_that_are_no_program_are_refused():
    """One number in turn is replaced: the call is refused, or runs within its memory."""
    torch.manual_seed(0)
    network = Stack(3, 16, groups=1, outputs=20)
    plan = PixelPlan(network, (3, 2, 2), DrawSpec("logistic", 4, 2, True), 2)
    guard, size = 4096, plan.state.numel()
    memory = torch.full((size + 2 * guard,), 7.0)
    memory[guard:-guard] = plan.state.flatten()
    plan.state = memory[guard:-guard].view_as(plan.state)
    arguments = {
        "x": torch.zeros(2, 3, 2, 2, dtype=torch.int64),
        "uniforms": torch.rand(2, 4, 2, 2),
        "frequencies": torch.zeros(2, 12, 4, dtype=torch.int32),
    }
    right, refused = plan.program.numbers.clone(), 0
    values = (-1, 10**6, 2**62, 2**63 - 1, 2**63 - 9, -(2**63))
    for place in range(len(right)):
        for value in values:
            plan.program.numbers.copy_(right)
            plan.program.numbers[place] = value
            try:
                plan.run(begin=0, end=plan.positions, **arguments)
            except RuntimeError as error:
                refused += "pixel_plan_" in str(error)
            assert (memory[:guard] == 7).all(), (place, value)
            assert (memory[-guard:] == 7).all(), (place, value)
    assert refused > len(values) / 2 * len(right)
    plan.program.numbers.copy_(right)
    plan.run(begin=0, end=plan.positions, **arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"uniforms": torch.zeros(2, 2, 6, 5)},
        {"known": torch.zeros(2, 1, 6, 5)},
        {"frequencies": torch.zeros(2, 30, 3, dtype=torch.int32)},
        {"parameters": torch.zeros(2, 4, 6, 5, dtype=torch.float64)},
        {"x": torch.zeros(2, 1, 6, 5)},
        {"end": 31},
    ],
    ids=lambda change: next(iter(change)),
)
def test_tensors_that_do_not_fit_are_refused(change):
    plan = PixelPlan(Stack(), (1, 6, 5), CATEGORICAL, 2)
    arguments = {"x": torch.zeros(2, 1, 6, 5, dtype=torch.int64), "begin": 0, "end": 30, **change}
    with pytest.raises(RuntimeError, match="pixel_plan_"):
        plan.run(**arguments)


_POINTERS = ("program", "weights", "state", "x", "uniforms")


class _PixelPlan(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int), ("images", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("uniforms_size", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("known", "parameters", "frequencies")),
        *((name, ctypes.c_int64) for name in ("begin", "end", "scratch")),
    ]  # fmt: skip


STRUCTURES = {"pixel_plan": _PixelPlan}


@pytest.mark.host_executor
@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kind", ["categorical", "logistic"])
@torch.no_grad()
def test_the_cuda_kernel_makes_the_same_bits(kind, dtype, gpu: Device):
    torch.manual_seed(0)
    if kind == "categorical":
        network, draw, groups, context = Stack(3, groups=3), CATEGORICAL, 3, None
    else:
        network, draw, groups = Scales(3, 20), DrawSpec("logistic", 4, 2, True), 1
        context = torch.randn(2, 2, 4, 4, dtype=dtype)
    network = network.to(dtype)
    shape, num = (3, 4, 4), 2
    uniforms = torch.rand(num, 3 + (kind == "logistic"), 4, 4)
    known = torch.rand(num, 3, 4, 4) < 0.2
    plans = [PixelPlan(network, shape, draw, num, context, channel_groups=groups) for _ in "ab"]
    p, size = plans[0].program, plans[0].positions
    results = []
    for plan in plans:
        x = torch.ones(num, *shape, dtype=torch.int64)
        parameters = torch.zeros(num, p.steps.output.count, 4, 4, dtype=dtype)
        frequencies = torch.zeros(num, size, 4, dtype=torch.int32)
        results.append((x, parameters, frequencies, plan.state))
    x, parameters, frequencies, state = results[0]
    plans[0].run(
        x, 0, size, uniforms=uniforms, known=known, parameters=parameters, frequencies=frequencies
    )
    x, parameters, frequencies, state = results[1]
    components = 1 if kind == "categorical" else 2
    arguments = _PixelPlan(
        dtype=DTYPES[dtype], images=num, program=p.numbers.data_ptr(),
        weights=p.weights.data_ptr(), state=state.data_ptr(), x=x.data_ptr(),
        uniforms=uniforms.data_ptr(), uniforms_size=uniforms.shape[1], known=known.data_ptr(),
        parameters=parameters.data_ptr(), frequencies=frequencies.data_ptr(), begin=0, end=size,
        scratch=4 + components,
    )  # fmt: skip
    error = gpu.call(
        "pixel_plan", ctypes.byref(arguments),
        read=[p.numbers, p.weights, state, x, uniforms, known],
        written=[state, x, parameters, frequencies],
    )  # fmt: skip
    assert error is None, error
    for mine, other in zip(*results, strict=True):
        assert torch.equal(mine, other)
