"""Functions of a tensor compiled ahead of time by AOTInductor, and kept for later processes."""

import contextlib
import hashlib
import operator
import platform
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gencore

__all__ = ["Runner", "UncompilableError", "cache_folder", "compiled", "traced"]

Runner = Callable[[list[Tensor]], Sequence[Tensor]]
"""The inputs, x first, to the outputs."""

_DEFAULTS = {
    # What a thread gets at least. Waking another one takes longer than Inductor assumes: up to
    # 50 microseconds, where it sleeps. (With dynamic_threads every loop would wake all of them.)
    "cpp.min_chunk_size": 16384,
}


class UncompilableError(Exception):
    """Why a function cannot be compiled."""


def traced(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor
) -> tuple[torch.fx.GraphModule, list[Tensor]]:
    """The function as a graph of (x, *tensors), and the tensors that it reads besides x.

    Nothing is computed, and no mode is changed: x stands for all tensors of its shape and dtype.

    Raises:
        UncompilableError: if the function draws random numbers or writes to what it reads, which a
            compiled one would do at other times.
        Exception: whatever the function or the tracer raises where it asks for a value.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    from gencore.samplers.small_convolutions import DECOMPOSITIONS

    graph = make_fx(
        _asking_for_no_value(function), decomposition_table=DECOMPOSITIONS, tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(x)  # fmt: skip
    tensors = _lift_constants(graph)
    graph.graph.eliminate_dead_code()
    _refuse_effects(graph.graph)
    graph.recompile()
    return graph, tensors


def _asking_for_no_value(
    function: Callable[[Tensor], tuple[Tensor, ...]],
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The function, but for values of parameters, which its graph would hold as numbers."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Refusing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:
                raise UncompilableError(
                    "it asks for the value of a tensor, by .item() or in a branch"
                )
            return func(*args, **(kwargs or {}))

    def call(x: Tensor) -> tuple[Tensor, ...]:
        with Refusing():
            return function(x)

    return call


def compiled(
    graph: torch.fx.GraphModule, inputs: list[Tensor], options: Mapping[str, Any]
) -> Runner:
    """The graph's machine code for inputs of these shapes, from the disk where it is there."""
    import torch._inductor

    options = {**_DEFAULTS, **options}
    path = cache_folder() / f"{_fingerprint(graph, inputs, options)}.pt2"
    if path.exists():
        with contextlib.suppress(Exception):  # a file that was cut off is made anew
            return _load(path, inputs[0].device)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another process may be making the same, or reading it.
    part = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.pt2")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, tuple(inputs))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(part), inductor_configs=dict(options)
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return _load(path, inputs[0].device)


def cache_folder() -> Path:
    """Where compiled functions are kept: in Inductor's own cache, `TORCHINDUCTOR_CACHE_DIR`."""
    try:
        from torch._inductor.runtime.cache_dir_utils import cache_dir
    except ImportError:
        from torch._inductor.utils import cache_dir  # type: ignore[no-redef,attr-defined,unused-ignore]
    return Path(cache_dir()) / "gencore"


def _lift_constants(graph: torch.fx.GraphModule) -> list[Tensor]:
    """Make inputs of the tensors that the graph holds, so that their changes are seen."""
    nodes: dict[int, torch.fx.Node] = {}
    tensors: list[Tensor] = []
    last = next(node for node in graph.graph.nodes if node.op == "placeholder")
    for node in list(graph.graph.nodes):
        value = getattr(graph, node.target, None) if node.op == "get_attr" else None
        if not isinstance(value, Tensor):
            continue
        if id(value) not in nodes:
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"read_{len(tensors)}")
            nodes[id(value)] = last
            tensors.append(value)
        node.replace_all_uses_with(nodes[id(value)])
        graph.graph.erase_node(node)
    return tensors


def _refuse_effects(graph: torch.fx.Graph) -> None:
    owners: dict[torch.fx.Node, torch.fx.Node] = {}  # a view's memory is another's
    for node in graph.nodes:
        if node.target is operator.getitem:
            owners[node] = owners.get(node.args[0], node.args[0])
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            raise UncompilableError(f"it draws random numbers ({node.target})")
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
            if argument.alias_info is None or not isinstance(value, torch.fx.Node):
                continue
            owner = owners.get(value, value)
            owners[node] = owner
            if argument.alias_info.is_write and owner.op == "placeholder":
                raise UncompilableError(f"it writes to a tensor that it is given ({node.target})")


def _fingerprint(
    graph: torch.fx.GraphModule, inputs: list[Tensor], options: Mapping[str, Any]
) -> str:
    """A name for all that the machine code depends on."""
    parts = [
        *(module.code for module in graph.modules() if isinstance(module, torch.fx.GraphModule)),
        *((t.dtype, tuple(t.shape), t.stride(), t.device.type) for t in inputs),
        sorted(options.items()),
        gencore.__version__,
        torch.__version__,
        torch.version.git_version,
        torch.get_num_threads(),  # the code has loops for as many
        _processor() if inputs[0].device.type == "cpu" else _graphics(inputs[0].device),
    ]
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()


@cache
def _processor() -> tuple[Any, ...]:
    """Inductor compiles for the processor at hand, down to its last instruction."""
    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.machine(), torch.backends.cpu.get_cpu_capability(), flags


def _graphics(device: torch.device) -> tuple[Any, ...]:
    if device.type != "cuda":
        return (device.type,)
    return torch.cuda.get_device_name(device), torch.version.cuda, _processor()


def _load(path: Path, device: torch.device) -> Runner:
    # Without locks, code for CUDA belongs to one energy. It reads nothing but its inputs.
    return _loaded(path, device) if device.type == "cuda" else _shared(path, device)


@lru_cache(maxsize=64)
def _shared(path: Path, device: torch.device) -> Runner:
    return _loaded(path, device)


def _loaded(path: Path, device: torch.device) -> Runner:
    options: dict[str, Any] = {}
    if device.type == "cuda":
        # Without the bookkeeping of several threads, which a CUDA graph cannot hold.
        options = {"run_single_threaded": True, "device_index": device.index or 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch._inductor.aoti_load_package(str(path), **options)
    run = getattr(getattr(model, "loader", None), "run", None)
    if run is not None:  # the model's own call goes through a tree of arguments, which takes longer
        return run

    def call(inputs: list[Tensor]) -> Sequence[Tensor]:
        result = model(*inputs)
        return (result,) if isinstance(result, Tensor) else result

    return call
