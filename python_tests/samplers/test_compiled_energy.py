"""Compiled energies: the same values, gradients and chains; what changes is seen, and what cannot
be compiled is left to autograd with one warning."""

import copy
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from gencore.models import ConvEnergy, Glow
from gencore.nn import MLPEnergy
from gencore.nn.held_norms import held_norms
from gencore.objectives.recovery import RecoveryEnergy
from gencore.samplers import (
    HMC,
    MALA,
    NUTS,
    CompilationWarning,
    CompiledEnergy,
    ConditionalEnergy,
    Langevin,
    NonFiniteWarning,
    ahead_of_time,
    compiled_energy,
)
from gencore.samplers.energy import energy_and_grad, gradient_alone
from gencore.samplers.reachable import Reachable


@pytest.fixture
def compilations(monkeypatch):
    """The graphs that are compiled, which run as they are, without seconds of a C++ compiler."""
    graphs = []

    def interpreted(graph, inputs, options):
        graphs.append(graph)
        return lambda inputs: graph(*inputs)

    monkeypatch.setattr(compiled_energy, "compiled", interpreted)
    return graphs


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()


def glow_energy():
    """An energy that calls operators with kernels."""
    torch.manual_seed(0)
    glow = Glow((1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4).double()
    glow.log_prob(torch.randn(8, 1, 4, 4, dtype=torch.float64))
    return lambda x: -glow.log_prob(x)


def spectral():
    """In training its weight depends on the number of calls, unless a sampler holds it."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8))
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()


def gray_convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, (2, 3), stride=2, padding=1),
        nn.Tanh(), nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(0, 1)), nn.Flatten(1),
        nn.Linear(27, 1), nn.Flatten(0),
    ).double()  # fmt: skip


def positions(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same(ours, energy, x):
    expected = energy_and_grad(energy, x)
    for a, b in zip(energy_and_grad(ours, x), expected, strict=True):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad
    torch.testing.assert_close(gradient_alone(ours, x, owner="test"), expected[1])


@pytest.mark.parametrize(
    ("energy", "shape"),
    [
        (network, (5, 3)),
        (lambda: ConvEnergy.preset("digits").double(), (5, 1, 8, 8)),
        (gray_convolutions, (5, 1, 8, 8)),
        (glow_energy, (5, 1, 4, 4)),
    ],
    ids=["mlp", "convolutions", "gray convolutions", "glow"],
)
def test_values_and_gradients_are_those_of_autograd(energy, shape, compilations):
    energy = energy()
    assert_same(CompiledEnergy(energy), energy, positions(*shape))
    assert len(compilations) == 2  # the gradient, with the value and alone


def test_convolutions_of_few_channels_become_sums(compilations):
    energy = gray_convolutions()
    energy_and_grad(CompiledEnergy(energy), positions(5, 1, 8, 8))
    calls = [node.target for node in compilations[0].graph.nodes]
    # The first layer has taps enough for one channel both ways, those of stride 2 on the way there.
    assert calls.count(torch.ops.aten.convolution.default) == 0
    assert calls.count(torch.ops.aten.convolution_backward.default) == 2


@pytest.mark.parametrize(
    "sampler",
    [Langevin, NUTS, MALA, lambda e, a: HMC(e, a, 3)],
    ids=["langevin", "nuts", "mala", "hmc"],
)
@pytest.mark.parametrize("energy", [network, spectral])
def test_chains_are_those_of_the_energy(sampler, energy, compilations):
    energy, key, x = energy(), torch.tensor([1, 2]), positions(6, 3)
    ours, expected = (
        sampler(e, 0.1).sample(x, 5, key=key) for e in (CompiledEnergy(energy), energy)
    )
    torch.testing.assert_close(ours, expected)
    assert compilations


def test_no_value_is_computed_where_none_is_needed(compilations):
    energy = CompiledEnergy(network())
    Langevin(energy, 0.1).sample(positions(4, 3), 3)
    (graph,) = compilations
    assert len(next(reversed(graph.graph.nodes)).args[0]) == 1
    x, info = Langevin(energy, 0.1).sample(positions(4, 3), 3, return_info=True)
    assert len(x) == 4
    assert info.energy.shape == (3, 4)


def test_chains_that_end_where_the_energy_is_not_finite_warn(compilations):
    energy = CompiledEnergy(lambda x: x[:, 0] - x[:, 0].log())  # NaN below 0, with a gradient
    with pytest.warns(NonFiniteWarning, match="1 of 2 chains"):
        Langevin(energy, 0.01, 0.0).sample(torch.tensor([[1.0], [-5.0]]), 3)


def test_what_training_changes_is_seen_without_compiling_again(compilations):
    energy, x = network(), positions(4, 3)
    ours = CompiledEnergy(energy)
    energy_and_grad(ours, x)
    with torch.no_grad():
        energy[2].weight.mul_(2.0)
    energy[0].weight.data = energy[0].weight.data + 1.0
    energy[0].bias = nn.Parameter(torch.ones(8, dtype=torch.float64))
    before = len(compilations)
    energy_and_grad(ours, x)
    assert len(compilations) == before
    assert_same(ours, energy, x)
    assert all(p.grad is None for p in energy.parameters())


def test_tensors_of_a_closure_are_seen_in_place_and_anew(compilations):
    scale, x = torch.ones(3, dtype=torch.float64), positions(4, 3)

    def energy(x):
        return (scale * x.square()).sum(1)

    ours = CompiledEnergy(energy)
    assert_same(ours, energy, x)
    scale.mul_(3.0)
    assert_same(ours, energy, x)
    scale = torch.full((3,), 5.0, dtype=torch.float64)
    assert_same(ours, energy, x)
    assert len(compilations) == 2


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature, self.norm = 2.0, nn.BatchNorm1d(3).double()

    def forward(self, x):
        return self.norm(x).square().sum(1) / self.temperature


def test_numbers_and_modes_that_change_are_compiled_anew(compilations):
    energy, x = Tempered().eval(), positions(4, 3)
    energy.norm.running_var.mul_(4.0)
    ours = CompiledEnergy(energy)
    assert_same(ours, energy, x)
    energy.temperature = 3.0
    assert_same(ours, energy, x)
    energy.temperature = 2.0  # the first again
    assert_same(ours, energy, x)
    energy.double().float()
    assert_same(ours, energy, x.float())


BETA, MODE, TABLE, SETTINGS = 2.0, "sum", [1.0], SimpleNamespace(beta=2.0)


class Helpers(nn.Module):
    """Reads in a helper method, in a property, in its class and in what holds its layers."""

    slope = 1.0

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.history = np.zeros(3)  # which no code of a call names

    @property
    def factor(self):
        return self.slope * BETA

    def temper(self, energy):
        return self.factor * energy

    def forward(self, x):
        return self.temper(self.net(x).squeeze(1))


def in_a_comprehension(x):
    return torch.stack([BETA * x[:, k] ** 2 for k in range(3)]).sum(0)


def in_an_inner_function(x):
    return (lambda y: BETA * y)(x.square()).sum(1)


def by_a_string(x):
    return x.square().sum(1) if MODE == "sum" else x.sum(1)


def in_a_list(x):
    return sum(factor * x.square().sum(1) for factor in TABLE)


def in_a_namespace(x):
    return SETTINGS.beta * x.square().sum(1)


def divided_by_rows(x, _rows=[torch.ones(2, 3)]):  # noqa: B006, B008
    return x.square().sum(1) / _rows[0].shape[0]


def set_rows(energy, _):
    energy.__defaults__[0][0] = torch.ones(7, 3)


def set_global(name, value):
    return lambda _, monkeypatch: monkeypatch.setitem(globals(), name, value)


@pytest.mark.parametrize(
    ("energy", "change"),
    [
        (lambda: in_a_comprehension, set_global("BETA", 3.0)),
        (lambda: in_an_inner_function, set_global("BETA", 3.0)),
        (Helpers, set_global("BETA", 3.0)),
        (lambda: by_a_string, set_global("MODE", "other")),
        (lambda: in_a_list, set_global("TABLE", [2.0])),
        (lambda: in_a_list, lambda *_: TABLE.append(2.0)),
        (lambda: in_a_namespace, lambda _, m: m.setattr(SETTINGS, "beta", 3.0)),
        (Helpers, lambda _, m: m.setattr(Helpers, "slope", 3.0)),
        (Helpers, lambda e, _: setattr(e, "slope", 3.0)),
        (Helpers, lambda e, _: setattr(e, "forward", lambda x: x.square().sum(1))),
        (Helpers, lambda e, _: e.net.append(nn.Softplus())),
        (Helpers, lambda e, _: e.net.insert(1, nn.Softplus())),
        (Helpers, lambda e, _: e.net.__delitem__(1)),
        (Helpers, lambda e, _: e.net[0].register_forward_hook(lambda *a: 2 * a[2])),
        (lambda: partial(in_a_list), lambda e, _: TABLE.append(3.0)),
        (lambda: divided_by_rows, set_rows),
        (network, lambda e, _: weight_norm(e[0])),
        (network, lambda e, _: setattr(e[0], "bias", None)),
    ],
    ids=[
        "comprehension", "inner function", "helper method", "string", "other list", "longer list",
        "namespace", "class attribute", "own attribute", "own method", "append", "insert", "delete",
        "hook", "partial", "size of a tensor", "weight norm", "no bias",
    ],
)  # fmt: skip
def test_changes_of_what_the_code_names_are_seen(energy, change, compilations, monkeypatch):
    torch.manual_seed(0)
    energy, x = energy(), positions(4, 3)
    ours = CompiledEnergy(energy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(ours, energy, x)
        change(energy, monkeypatch)
        assert_same(ours, energy, x)


def test_many_objects_are_all_seen(compilations):
    factors = [[0.0] for _ in range(11_000)] + [[2.0]]

    def energy(x):
        return factors[-1][0] * x.square().sum(1)

    ours, x = CompiledEnergy(energy), positions(4, 3)
    assert_same(ours, energy, x)
    factors[-1][0] = 3.0
    assert_same(ours, energy, x)


def test_other_strides_and_untied_tensors_are_seen(compilations):
    weights = [positions(3, 3), torch.ones(3, dtype=torch.float64)]
    weights.append(weights[1])

    def energy(x):
        return (torch.tanh(x @ weights[0]) * weights[1] * weights[2]).sum(1)

    ours, x = CompiledEnergy(energy), positions(4, 3)
    assert_same(ours, energy, x)
    weights[0] = weights[0].t()
    assert_same(ours, energy, x)
    weights[0].t_()
    assert_same(ours, energy, x)
    weights[2] = torch.arange(3.0, dtype=torch.float64)
    assert_same(ours, energy, x)


def test_equal_numbers_are_no_change(compilations):
    energy, x = Tempered().eval(), positions(4, 3)
    ours = CompiledEnergy(energy)
    for _ in range(10):
        energy.temperature = float("0.5")
        energy_and_grad(ours, x)
    assert len(compilations) == 1
    energy.temperature = -0.5
    assert_same(ours, energy, x)


@dataclass
class Scaled:
    inner: object
    scale: torch.Tensor
    power: int = 2

    def __call__(self, x):
        return self.scale * self.inner(x.abs() ** self.power)


@pytest.mark.parametrize(
    "energy",
    [
        lambda: Scaled(network(), torch.tensor(2.0).double()),
        lambda: ConditionalEnergy(network(), positions(1, 3), torch.tensor([[True, False, True]])),
        lambda: RecoveryEnergy(network(), positions(4, 3), 0.5),
        lambda: partial(lambda scale, x: scale * x.square().sum(1), 2.0),
        lambda: Helpers().forward,
        lambda: (
            lambda x: -torch.distributions.Normal(0.0, 2.0, validate_args=False).log_prob(x).sum(1)
        ),
        spectral,
    ],
    ids=["dataclass", "conditional", "recovery", "partial", "method", "distribution", "spectral"],
)
def test_energies_of_many_kinds_compile(energy, compilations):
    energy = energy()
    with held_norms(energy), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(CompiledEnergy(energy), energy, positions(4, 3))


class Annealing(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.calls * x.square().sum(1)


ARRAY = np.ones(1)


@pytest.mark.parametrize(
    ("energy", "why"),
    [
        (lambda x: float(ARRAY[0]) * x.sum(1), r"reads ARRAY, a numpy.ndarray"),
        (lambda x: time.time() * x.sum(1), r"the function time\(\)"),
        (lambda x: random.random() * x.sum(1), r"random.Random"),
        (lambda x: np.random.rand() * x.sum(1), r"whose changes cannot be seen"),  # noqa: NPY002
        (lambda x, _it=iter([1.0] * 9): next(_it) * x.sum(1), r"list_iterator"),  # noqa: B008
        (lambda x: globals()["BETA"] * x.sum(1), r"globals\(\)"),
        (Annealing(), r"writes to what it reads \(.*calls\)"),
    ],
    ids=["array", "clock", "random", "numpy random", "iterator", "globals", "counter"],
)
def test_what_cannot_be_seen_is_not_compiled(energy, why, compilations):
    with pytest.warns(CompilationWarning, match=why):
        energy_and_grad(CompiledEnergy(energy), positions(4, 3))


def test_other_shapes_dtypes_and_layouts_are_compiled_anew(compilations):
    energy = network()
    ours = CompiledEnergy(energy)
    for x in (positions(4, 3), positions(7, 3), positions(3, 7).T, positions(0, 3)):
        assert_same(ours, energy, x)
    assert len(compilations) == 4  # a transposed batch is copied, no chains need no code
    energy.float()
    assert_same(ours, energy, positions(4, 3).float())


def test_results_are_memory_of_their_own(compilations):
    slope = torch.ones(3)
    energy = CompiledEnergy(lambda x: x[:, 0])
    linear = CompiledEnergy(lambda x: x @ slope)
    for ours in (energy, linear):
        x = torch.randn(4, 3)
        value, grad = energy_and_grad(ours, x)
        expected = ours(x).clone()
        x.add_(1.0), grad.add_(1.0)
        assert torch.equal(value, expected)
        assert torch.equal(slope, torch.ones(3))


def branching(x):
    return x.sum(1) if x.sum() > 0 else -x.sum(1)


def asking(x, _weight=torch.tensor(2.0)):  # noqa: B008
    return x.sum(1) * _weight.item()


def drawing(x):
    return x.sum(1) * torch.rand(())


class Counting(nn.Module):
    """Writes to a buffer in every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x.square().sum(1)


@pytest.mark.parametrize(
    ("energy", "why"),
    [
        (branching, r"asks for the value|data-dependent"),
        (asking, r"asks for the value of a tensor"),
        (drawing, r"draws random numbers \(aten.rand"),
        (Counting(), r"writes to a tensor"),
    ],
    ids=["a branch", "an item", "random numbers", "a counter"],
)
def test_what_cannot_be_compiled_warns_once_and_goes_by_autograd(energy, why, compilations):
    ours, x = CompiledEnergy(energy), torch.randn(4, 3).abs()
    with pytest.warns(CompilationWarning, match=why):
        energy_and_grad(ours, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, grad = energy_and_grad(ours, x)
        assert torch.equal(gradient_alone(ours, x, owner="test") != 0, grad != 0)
    assert not compilations
    assert value.shape == (4,)


def test_without_a_compiler_autograd_does_the_work(monkeypatch, tmp_path):
    def no_compiler(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand more")

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", no_compiler)
    energy = network()
    with pytest.warns(CompilationWarning, match="No working C.. compiler found") as caught:
        assert_same(CompiledEnergy(energy), energy, positions(4, 3))
    assert len(caught) == 1
    assert not list((tmp_path / "gencore").iterdir())


def test_an_energy_that_is_wrong_says_so_as_without(compilations):
    for energy, error in (
        (lambda x: x.detach().sum(1), "not differentiable in x"),
        (lambda x: x.sum(), "expected one number for each row"),
    ):
        with pytest.raises(ValueError, match=error):
            HMC(CompiledEnergy(energy), 0.1, 2).sample(torch.randn(4, 3), 1)


def test_too_many_settings_are_left_to_autograd(compilations):
    energy = Tempered().eval()
    ours, x = CompiledEnergy(energy), positions(4, 3)
    for k in range(8):
        energy.temperature = 1.0 + k
        energy_and_grad(ours, x)
    energy.temperature = 9.0
    with pytest.warns(CompilationWarning, match=r"temperature.*in a tensor"):
        energy_and_grad(ours, x)
    assert len(compilations) == 8
    torch.testing.assert_close(energy_and_grad(ours, x)[0], energy(x))


def test_chains_of_inference_mode_are_those_outside(compilations):
    energy, key, x = network(), torch.tensor([1, 2]), positions(4, 3)
    expected = HMC(energy, 0.1, 3).sample(x, 3, key=key)
    with torch.inference_mode():
        ours = HMC(CompiledEnergy(energy), 0.1, 3).sample(x.clone(), 3, key=key)
    torch.testing.assert_close(ours, expected)


def test_training_goes_through_the_energy(compilations):
    energy = network()
    ours, x = CompiledEnergy(energy), positions(4, 3)
    ours(x).sum().backward()
    assert energy[0].weight.grad is not None
    final = Langevin(ours, 0.1).sample(x, 2, differentiable=True)
    assert final.requires_grad
    assert not compilations


def test_copies_and_pickles_have_energies_of_their_own(compilations):
    original = CompiledEnergy(MLPEnergy(2, (4,)), max_autotune=False)
    x = torch.randn(3, 2)
    energy_and_grad(original, x)
    for other in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert other._options == {"max_autotune": False}
        with torch.no_grad():
            other.energy.layers[0].weight.zero_()
        assert_same(other, other.energy, x)
    assert_same(original, original.energy, x)


def test_options_that_inductor_does_not_have_are_refused():
    with pytest.raises(TypeError, match="mode"):
        CompiledEnergy(network(), mode="max-autotune")


PROGRAM = """
    import sys
    from pathlib import Path

    import torch
    import torch._inductor
    from gencore.samplers import CompiledEnergy, Langevin, ahead_of_time

    if sys.argv[1] == "again":
        def refuse(*_, **__):
            raise AssertionError("it was compiled again")
        torch._inductor.aoti_compile_and_package = refuse
    precision = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    energy = lambda x: 0.5 * (precision * x.square()).sum(1)
    x = torch.ones(5, 3, dtype=torch.float64)
    key = torch.tensor([1, 2])
    for scale in (1.0, 2.0):
        precision.mul_(scale)
        ours = Langevin(CompiledEnergy(energy), 0.01).sample(x, 20, key=key)
        torch.testing.assert_close(ours, Langevin(energy, 0.01).sample(x, 20, key=key))
    (package,) = Path(sys.argv[2]).iterdir()  # nothing is left half written
    if sys.argv[1] == "again":
        print("kept", flush=True)
        package.write_bytes(package.read_bytes()[:1000])  # as after a crash: it is made anew
        ahead_of_time._shared.cache_clear()
        CompiledEnergy(energy).gradient_alone(x)
"""


@pytest.mark.slow
def test_machine_code_is_right_and_is_kept_for_the_next_process(tmp_path):
    program = [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(PROGRAM)]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    first, again = (
        subprocess.run(
            [*program, turn, str(tmp_path / "gencore")],
            env=environment, check=False, capture_output=True, text=True,
        )
        for turn in ("first", "again")
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert "it was compiled again" in again.stderr.splitlines()[-1]
    assert again.stdout == "kept\n"


def test_the_name_of_the_code_depends_on_what_it_was_made_of():
    energy = network()

    def name(function, x, **options):
        graph, tensors = ahead_of_time.traced(function, x)
        return ahead_of_time._fingerprint(graph, [x, *tensors], options)

    x = positions(4, 3)
    names = {
        name(lambda x: (energy(x),), x),
        name(lambda x: (2 * energy(x),), x),
        name(lambda x: (energy(x),), positions(5, 3)),
        name(lambda x: (energy(x),), x, max_autotune=True),
    }
    assert len(names) == 4
    energy[0].weight.data.zero_()
    assert name(lambda x: (energy(x),), x) in names  # and not on values


@pytest.mark.usefixtures("compilations")
def test_a_chain_looks_at_its_energy_once(monkeypatch):
    scale = [2.0]
    energy = CompiledEnergy(lambda x: scale[0] * x.square().sum(1))
    x = torch.ones(3, 2)
    assert torch.equal(energy.gradient_alone(x), 4.0 * x)
    looks = []
    seen = Reachable.has_changed
    monkeypatch.setattr(Reachable, "has_changed", lambda self: looks.append(1) or seen(self))
    Langevin.noise_free(energy, 0.1).sample(x, 20)
    assert len(looks) == 1
    scale[0] = 3.0  # and once more at the next call
    assert torch.equal(energy.gradient_alone(x), 6.0 * x)
    with energy.standing_still():
        energy.gradient_alone(x)
        scale[0] = 2.0
        assert torch.equal(energy.gradient_alone(x), 6.0 * x)
    assert torch.equal(energy.gradient_alone(x), 4.0 * x)
