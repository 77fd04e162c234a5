"""How a row is measured: contenders in turn, medians with spread, floors in the same run."""

import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
import torch._functorch.config
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves, tree_map

from gencore.ops import backend

__all__ = [
    "Call",
    "Case",
    "Timing",
    "copy_bandwidth",
    "device_name",
    "float64_error",
    "forms",
    "graphed",
    "in_reference",
    "matmul_rate",
    "measure",
    "one_thread",
    "passes",
    "peak_memory",
    "references",
    "synchronize",
]

# A backward pass is timed on a graph that is kept, whose memory a compiled one must not reuse.
torch._functorch.config.donated_buffer = False

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row: the same work done by several contenders.

    Args:
        group: the file of cases it belongs to.
        name: what is done.
        size: the numbers that set the amount of work, in words.
        contenders: "ours" and those it is compared with: "reference" (ours in pure PyTorch, same
            noise) and "reference, compiled", "eager" (the best eager form a user would write),
            "compiled" (that form under torch.compile), "cuda graph", or a peer's name.
        bytes: memory traffic that no implementation can avoid, or 0 where it is not the limit.
        flops: arithmetic that none can avoid, or 0.
        elements: what the time is divided by for a time an element, or 0.
        error: largest difference of ours from the same computation in float64.
        headline: whether the README shows the row.
        context: in force while the contenders run.
        clock: tells seconds; of work on one thread of a CPU `time.thread_time` leaves out what
            other processes take.
    """

    group: str
    name: str
    size: str
    contenders: dict[str, Call]
    dtype: str = "float32"
    bytes: int = 0
    flops: int = 0
    elements: int = 0
    error: Callable[[], float] | None = None
    headline: bool = False
    context: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    clock: Callable[[], float] = time.perf_counter

    @property
    def title(self) -> str:
        return f"{self.name}, {self.size}"


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median over rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def in_reference(call: Call) -> Call:
    """The call with every operator's pure PyTorch reference in place of its kernel."""

    def run() -> object:
        with backend("reference"):
            return call()

    return run


def forms(ours: Call, eager: Call) -> dict[str, Call]:
    """What an operator is compared with: the best eager form and its reference, also compiled."""
    return {"ours": ours, "eager": eager, "compiled": torch.compile(eager), **references(ours)}


def references(ours: Call) -> dict[str, Call]:
    """The call's pure PyTorch reference, in eager mode and compiled."""
    return {
        "reference": in_reference(ours),
        "reference, compiled": in_reference(torch.compile(ours)),
    }


def float64_error(function: Callable[..., object], *arguments: object) -> Callable[[], float]:
    """What finds the largest difference of a function's results from the same in float64.

    The function gets copies of the tensors and modules among its arguments, so that it may work in
    place.
    """

    def results(dtype: torch.dtype | None) -> list[Tensor]:
        outputs = function(*tree_map(partial(_copy, dtype=dtype), arguments))
        return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]

    def error() -> float:
        pairs = zip(results(None), results(torch.float64), strict=True)
        return max((ours.double() - exact.double()).abs().max().item() for ours, exact in pairs)

    return error


def _copy(value: Any, dtype: torch.dtype | None) -> Any:
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(dtype=dtype)
    if not isinstance(value, Tensor):
        return value
    copied = value.detach().clone()
    if dtype and value.is_floating_point():
        copied = copied.to(dtype)
    return copied.requires_grad_(value.requires_grad)


def graphed(call: Call) -> Call:
    """The call captured once in a CUDA graph and replayed: eager mode less its launches."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def passes(
    case: Case,
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    *,
    forward_bytes: int = 0,
    backward_bytes: int = 0,
    forward_flops: int = 0,
    backward_flops: int = 0,
) -> Iterator[Case]:
    """Both passes of a case that is a function, together and each by itself.

    Args:
        case: its contenders return the function's results.
        function: ours, of the inputs.
        inputs: what the backward pass differentiates by.
        grads: the loss's gradients by the results.
        forward_bytes, backward_bytes: the traffic that neither pass can avoid.
        forward_flops, backward_flops: the arithmetic.
    """

    def gradients(inputs: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*inputs), inputs, grads)

    backward_error = float64_error(gradients, tuple(inputs), tuple(grads))

    def both(forward: Callable[[], Any]) -> Call:
        return lambda: torch.autograd.grad(forward(), inputs, grads)

    def backward(forward: Call) -> Call:
        results = cache(forward)  # the graph is recorded once, in the contender's own context
        return lambda: torch.autograd.grad(results(), inputs, grads, retain_graph=True)

    yield replace(
        case,
        name=f"{case.name}, forward and backward",
        contenders={name: both(call) for name, call in case.contenders.items()},
        bytes=forward_bytes + backward_bytes,
        flops=forward_flops + backward_flops,
        error=backward_error,
    )
    parts = replace(case, headline=False, error=float64_error(function, *inputs))
    yield replace(parts, name=f"{case.name}, forward", bytes=forward_bytes, flops=forward_flops)
    yield replace(
        parts,
        name=f"{case.name}, backward",
        contenders={name: backward(call) for name, call in case.contenders.items()},
        bytes=backward_bytes,
        flops=backward_flops,
        error=backward_error,
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(call: Call, repeats: int, device: torch.device, clock: Callable[[], float]) -> float:
    synchronize(device)
    start = clock()
    for _ in range(repeats):
        call()
    synchronize(device)
    return (clock() - start) / repeats


def measure(
    contenders: dict[str, Call],
    device: torch.device,
    *,
    seconds: float,
    slice_seconds: float = 0.01,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time the contenders in turn, A B C A B C …, so that other loads fall on all alike.

    Args:
        seconds: for all rounds together; at least five rounds are made whatever they take.
        slice_seconds: about how long one contender runs before it is the next one's turn.
        clock: tells seconds.
    """
    repeats = {}
    for name, call in contenders.items():
        _seconds(call, 1, device, clock)  # compiles, allocates, warms the caches
        once = _seconds(call, 2, device, clock)
        repeats[name] = max(1, int(slice_seconds / max(once, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or min(map(len, samples.values())) < 5:
            for name, call in contenders.items():
                samples[name].append(_seconds(call, repeats[name], device, clock))
    finally:
        gc.enable()
    return {name: _timing(values) for name, values in samples.items()}


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high)


def peak_memory(call: Call, device: torch.device) -> int:
    """Bytes that a call holds at most beyond what was allocated before it."""
    call()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = peak = 0
    for change in _allocations(profiler):
        held += change
        peak = max(peak, held)
    return peak


def _allocations(profiler: profile) -> Iterator[int]:
    """Bytes allocated (positive) and freed (negative), in the order of time."""
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    events = [e for e in results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        yield event.nbytes()


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that a large copy reads and writes, with the threads in use."""
    return _copy_bandwidth(device, torch.get_num_threads())


@contextmanager
def one_thread() -> Iterator[None]:
    """A single core's speed, the floor's included."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _copy_bandwidth(device: torch.device, threads: int) -> float:
    elements = (1 << 28) if device.type == "cuda" else (1 << 24)
    source = torch.ones(elements, device=device)
    target = torch.empty_like(source)
    timing = measure({"copy": lambda: target.copy_(source)}, device, seconds=0.5)["copy"]
    return 2 * source.numel() * source.element_size() / timing.median


@cache
def matmul_rate(device: torch.device) -> float:
    """float32 operations a second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device)
    out = torch.empty_like(a)

    def product() -> Tensor:
        return torch.mm(a, a, out=out)

    return 2 * side**3 / measure({"mm": product}, device, seconds=0.5)["mm"].median
