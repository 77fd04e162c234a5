"""A captured step, by a stand-in for torch's CUDA graphs that records operators on the CPU.

Like a graph, it keeps the tensors and not the code: a replay repeats the recorded operators on the
tensors they were recorded with, and nothing that the host did beside them.
"""

import random
import warnings
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from testing.chain_testing import key, normal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gencore.nn import MLPEnergy
from gencore.samplers import (
    HMC,
    MALA,
    SGHMC,
    SGLD,
    SGRLD,
    Langevin,
    ParallelTempering,
    chain_sampler,
    cuda_graph,
    polynomial_decay,
)


class Tape(TorchDispatchMode):
    """A `torch.cuda.CUDAGraph` of operators on the CPU."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before.setdefault(id(value), (value, value.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def undo(self):
        """A capture runs nothing."""
        for tensor, value in self.before.values():
            tensor.copy_(value)

    def replay(self):
        for func, args, kwargs, outputs in self.calls:
            again = func(*args, **kwargs)
            for out, value in zip(tree_leaves(outputs), tree_leaves(again), strict=True):
                if isinstance(out, torch.Tensor) and out.data_ptr() != value.data_ptr():
                    out.copy_(value)


class RefusesToWait(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("called a synchronizing CUDA operation")
        return func(*args, **(kwargs or {}))


class Stream:
    def __init__(self, device=None):
        self.waits_for = []

    def wait_stream(self, other):
        self.waits_for.append(other)


class FakeCuda:
    """The part of `torch.cuda` that a capture needs."""

    CUDAGraph, Stream = Tape, Stream

    def __init__(self):
        self.current, self.streams, self.sync_mode, self.captures = Stream(), [], 0, []

    def current_stream(self, device):
        return self.current

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        self.streams.append(stream)
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, tape, stream, capture_error_mode):
        assert self.sync_mode == 0
        before, self.current = self.current, stream
        try:
            with tape:
                yield
        except RuntimeError:
            # As torch does: the end of the capture raises, and leaves the capture's stream behind.
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        tape.undo()
        self.current = before
        self.captures.append(tape)

    def get_sync_debug_mode(self):
        return self.sync_mode

    def set_sync_debug_mode(self, mode):
        if mode == "error":
            self.refuses = RefusesToWait()
            self.refuses.__enter__()
        elif self.sync_mode == "error":
            self.refuses.__exit__(None, None, None)
        self.sync_mode = mode


@pytest.fixture
def cuda(monkeypatch):
    """Chains on the CPU are taken for chains on a CUDA device."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_graph, "torch", SimpleNamespace(cuda=fake))
    monkeypatch.setattr(chain_sampler, "check_device", lambda name, device: None)
    return fake


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = MLPEnergy(3, (16,))
    return lambda x: layers(x)


NO_ENERGY = pytest.raises(ValueError, match="no energy today")


def test_a_graph_runs_the_same_chains(cuda, network):
    sampler, x = Langevin(network, 0.1), normal(9, 3)
    how = {"key": key(3), "return_trajectory": True, "thin": 2}
    graphed = sampler.sample(x, 6, cuda_graph=True, **how)
    assert len(cuda.captures) == 1
    assert torch.equal(graphed, sampler.sample(x, 6, **how))
    assert torch.equal(x, normal(9, 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_scale": 0.3, "prior_precision": 0.5},
        {"grad_clamp": 0.1, "clamp": (-1.0, 1.0)},
    ],
)
def test_a_graph_keeps_the_settings(cuda, network, settings):
    sampler = Langevin(network, 0.1, **settings)
    how = {"key": key(4), "first_element": 27}
    graphed = sampler.sample(normal(9, 3), 5, cuda_graph=True, **how)
    assert torch.equal(graphed, sampler.sample(normal(9, 3), 5, **how))


def test_every_replay_has_noise_of_its_own(cuda):
    """A captured key would give all steps the noise of one."""
    sampler = Langevin(lambda x: 0.0 * x.sum(1), 0.5)
    path = sampler.sample(
        torch.zeros(2000, 2), 4, cuda_graph=True, return_trajectory=True, key=key(5)
    )
    steps = torch.cat([path[:1], path.diff(dim=0)]).flatten(1)
    correlation = torch.corrcoef(steps)
    assert (correlation - torch.eye(4)).abs().max() < 4 / 4000**0.5


def test_the_host_part_of_an_energy_runs_in_the_capture_alone(cuda):
    calls = []

    def energy(x):
        calls.append(random.random())
        return x.square().sum(1)

    Langevin(energy, 0.1).sample(torch.ones(2, 2), 20, cuda_graph=True)
    assert len(calls) == 4


def test_a_chain_that_is_not_finite_is_warned_of(cuda):
    with pytest.warns(RuntimeWarning, match=r"^Langevin: 1 of 2 chains met NaN"):
        Langevin(lambda x: x.log().sum(1), 0.1).sample(
            torch.tensor([[1.0], [-1.0]]), 2, cuda_graph=True
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda energy: Langevin(energy, 0.1, 0.3, grad_clamp=0.2),
        lambda energy: MALA(energy, 0.2),
        lambda energy: HMC(energy, 0.4, 3, inverse_mass=2.0),
        lambda energy: SGLD(energy, 0.1),
        lambda energy: SGHMC(energy, 0.1, 1.0),
        lambda energy: SGRLD(energy, 0.1, lambda x: (1 + x.square(), 2 * x)),
    ],
)
def test_transitions_in_a_graph_are_those_without(cuda, network, make):
    sampler, x = make(network), normal(9, 3)
    how = {"key": key(6), "return_trajectory": True, "return_info": True, "thin": 2}
    graphed, graphed_info = sampler.sample(x, 6, cuda_graph=True, **how)
    plain, plain_info = sampler.sample(x, 6, **how)
    assert len(cuda.captures) == 1
    assert torch.equal(graphed, plain)
    assert all(map(torch.equal, graphed_info, plain_info))


def test_a_chain_that_was_lost_early_is_warned_of(cuda):
    """What a replay returns is overwritten by the next one."""

    def energy(x):  # not finite at the start alone, and the gradient is
        return x.sum(1) + torch.where(x[:, 0] > 0.5, torch.inf, 0.0)

    sampler = SGRLD(energy, 1.0, lambda x: (torch.full_like(x, 1e-8), torch.full_like(x, -1.0)))
    with pytest.warns(RuntimeWarning, match=r"^SGRLD: 1 of 1 chains"):
        sampler.sample(torch.ones(1, 1), 3, cuda_graph=True, key=key(0))


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (ParallelTempering(lambda x: x.square().sum(1), (1.0, 0.5), 0.1), "does not work in place"),
        (SGLD(lambda x: x.square().sum(1), polynomial_decay(0.1, 1, 0.5)), "follow a schedule"),
    ],
)
def test_what_the_host_directs_is_refused(cuda, sampler, reason):
    with pytest.raises(ValueError, match=rf"^{type(sampler).__name__}.sample: .*{reason}"):
        sampler.sample(torch.ones(2, 2), 3, cuda_graph=True)


def test_what_the_warm_up_met_is_forgotten(cuda):
    """Its second step would have the energy log(-1)."""
    sampler = Langevin.noise_free(lambda x: x.log().sum(1), 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = sampler.sample(torch.ones(1, 1), 1, cuda_graph=True)
    assert x.item() == -1.0


def test_an_energy_that_waits_is_refused_before_the_capture(cuda):
    """A capture that broke would leave torch's generator of the device unusable."""
    with pytest.raises(RuntimeError, match=r"^Langevin.sample: .* cannot be captured .*synchroniz"):
        Langevin(lambda x: x.square().sum(1) * x.max().item(), 0.1).sample(
            torch.ones(2, 2), 3, cuda_graph=True
        )
    assert cuda.captures == []
    assert cuda.sync_mode == 0


def test_a_capture_that_breaks_says_why_and_leaves_its_stream(cuda):
    calls = []

    def energy(x):  # waits in the capture alone, as another library might unnoticed
        calls.append(x.max().item() if len(calls) == 3 else 0)
        return x.square().sum(1)

    before = cuda.current
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        Langevin(energy, 0.1).sample(torch.ones(2, 2), 3, cuda_graph=True)
    assert cuda.current is before


@pytest.mark.parametrize("works", [True, False])
def test_the_streams_wait_for_each_other(cuda, network, works):
    """Also where the energy fails, whose kernels may still be at work."""

    def fails(x):
        raise ValueError("no energy today")

    before = cuda.current
    energy, expected = (network, nullcontext()) if works else (fails, NO_ENERGY)
    with expected:
        Langevin(energy, 0.1).sample(normal(9, 3), 3, cuda_graph=True)
    side = cuda.streams[0]
    assert side.waits_for == [before]
    assert before.waits_for == [side]


def test_transitions_elsewhere_are_refused(network):
    with pytest.raises(ValueError, match=r"^HMC.sample: cuda_graph=True needs .* got cpu"):
        HMC(network, 0.1, 3).sample(normal(9, 3), 3, cuda_graph=True)


@pytest.mark.parametrize("num_steps", [0, 3])
@pytest.mark.parametrize("whole_chain", [False, True])
def test_chains_elsewhere_are_refused(network, num_steps, whole_chain):
    energy = MLPEnergy(3, (16,)) if whole_chain else network
    with pytest.raises(ValueError, match=r"^Langevin.sample: cuda_graph=True needs .* got cpu"):
        Langevin(energy, 0.1).sample(normal(9, 3), num_steps, cuda_graph=True)


class TestOnADevice:
    """The same with torch's own graphs."""

    @pytest.fixture(autouse=True)
    def needs_cuda(self, device):
        if device.type != "cuda":
            pytest.skip("needs a CUDA device")

    @pytest.mark.parametrize(
        "make", [lambda energy: HMC(energy, 0.4, 3), lambda energy: SGHMC(energy, 0.1, 1.0)]
    )
    def test_transitions_in_a_graph_are_those_without(self, device, make):
        layers = MLPEnergy(3, (16,)).to(device)
        sampler, x = make(lambda x: layers(x)), normal(9, 3, device=device)
        how = {"key": key(6, device), "return_trajectory": True}
        torch.testing.assert_close(
            sampler.sample(x, 6, cuda_graph=True, **how), sampler.sample(x, 6, **how)
        )

    def test_torch_goes_on_after_a_refusal(self, device):
        before = torch.cuda.current_stream(device)
        with pytest.raises(RuntimeError, match="cannot be captured"):
            Langevin(lambda x: x.square().sum(1) * x.max().item(), 0.1).sample(
                torch.ones(2, 2, device=device), 3, cuda_graph=True
            )
        assert torch.cuda.current_stream(device) == before
        assert torch.randn(4, device=device).max().item() < 10
