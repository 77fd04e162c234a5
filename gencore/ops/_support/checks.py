"""What the public functions ask of their arguments, once each."""

import math
import operator
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.backend import state, transforming
from gencore.ops._support.extension import native

__all__ = [
    "accumulation_dtype",
    "bounds",
    "check_accumulated",
    "check_chains",
    "check_coefficient",
    "check_count",
    "check_fake_devices",
    "check_key",
    "check_like",
    "check_native_device",
    "check_not_differentiated",
    "check_per_chain",
    "check_state",
    "check_written",
    "clip_bound",
    "finite",
    "index",
    "inverse_mass",
    "number",
    "per_chain",
    "per_row",
    "shape",
    "share_memory",
    "wants_grad",
]

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# What is not finite is above it or NaN; torch.compile has no math.isfinite of a symbolic number.
_LARGEST_FLOAT = sys.float_info.max
_LARGEST_INDEX = 2**62  # so that the sum of two, an offset and a size, is still an int64


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which sums over ``x``'s dtype are made: never below float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check_strided(op: str, tensor: Tensor, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{op}: {name} has layout {tensor.layout}, expected a strided tensor")


def check_state(op: str, x: Tensor, name: str = "x") -> None:
    """Raise unless ``x`` is a floating tensor on a device that has kernels."""
    _check_strided(op, x, name)
    if x.dtype not in _FLOATS:
        raise TypeError(
            f"{op}: {name} is {x.dtype}, expected float64, float32, bfloat16 or float16"
        )
    check_native_device(op, x)


def check_chains(op: str, x: Tensor, name: str = "x") -> None:
    """Raise unless ``x`` has a dimension of chains."""
    if x.dim() == 0:
        raise ValueError(f"{op}: {name} has no dimensions, expected [N, ...] of N chains")


def check_native_device(op: str, x: Tensor) -> None:
    """Raise unless this build's kernels, or the reference backend, run where ``x`` is."""
    if x.device.type in ("cpu", "meta") or state.reference:
        return
    if x.device.type == "cuda" and native.cuda_architectures:
        return
    built = "CPU and CUDA" if native.cuda_architectures else "CPU"
    raise ValueError(
        f"{op}: the tensor is on {x.device}, but this build of gencore has {built} kernels; "
        "rebuild with GENCORE_CUDA=ON, or use gencore.ops._support.backend('reference')"
    )


def check_like(op: str, x: Tensor, other: Tensor, name: str, of: str = "x") -> None:
    """Raise unless ``other`` has the dtype, shape and device of ``x``, whose name is ``of``."""
    _check_strided(op, other, name)
    if other.dtype != x.dtype:
        raise TypeError(f"{op}: {name} is {other.dtype}, {of} is {x.dtype}; they must be equal")
    if other.shape != x.shape:
        raise ValueError(
            f"{op}: {name} has shape {list(other.shape)}, {of} has shape {list(x.shape)}; "
            "they must be equal"
        )
    if other.device != x.device:
        raise ValueError(f"{op}: {name} is on {other.device}, {of} on {x.device}")


def check_accumulated(op: str, x: Tensor, other: Tensor, name: str, of: str = "x") -> None:
    """Raise unless ``other`` has the dtype of ``x``, whose name is ``of``, or the accumulation
    dtype, and is on its device."""
    if other.dtype not in (x.dtype, accumulation_dtype(x)):
        raise TypeError(
            f"{op}: {name} is {other.dtype}, expected {accumulation_dtype(x)}, {of}: {x.dtype}"
        )
    if other.device != x.device:
        raise ValueError(f"{op}: {name} is on {other.device}, {of} on {x.device}")


def check_per_chain(op: str, x: Tensor, other: Tensor, name: str, of: str = "x") -> None:
    """Raise unless ``other`` has an entry for each row of ``x``, whose name is ``of``, in the
    accumulation dtype."""
    _check_strided(op, other, name)
    dtype = accumulation_dtype(x)
    if other.dtype != dtype:
        raise TypeError(f"{op}: {name} is {other.dtype}, expected {dtype} for {of} of {x.dtype}")
    if other.shape != x.shape[:1]:
        raise ValueError(
            f"{op}: {name} has shape {list(other.shape)}, expected one entry a chain: "
            f"{list(x.shape[:1])}"
        )
    if other.device != x.device:
        raise ValueError(f"{op}: {name} is on {other.device}, {of} on {x.device}")


def check_written(op: str, **written: Tensor) -> None:
    """Raise unless each of these tensors can be written to: it is no lazily negated view, and each
    of its elements has a place in memory of its own, that no other of the tensors shares.

    To be called before the first write, with tensors that are checked to be strided and real."""
    compiling = torch.compiler.is_compiling()
    for name, tensor in written.items():
        if not compiling and tensor.is_neg():
            raise ValueError(f"{op}: {name} is a lazily negated view; pass {name}.resolve_neg()")
        if not tensor.is_contiguous() and _repeats_elements(tensor):
            raise ValueError(
                f"{op}: {name}, of shape {list(tensor.shape)} and strides "
                f"{list(tensor.stride())}, repeats elements; clone it before writing to it"
            )
    if compiling or transforming():
        return
    for (name, a), (other, b) in combinations(written.items(), 2):
        if share_memory(a, b):
            raise ValueError(f"{op}: {name} and {other} share memory, but each is written to")


def _repeats_elements(tensor: Tensor) -> bool:
    """Whether two of the elements are in the same place."""
    if any(n > 1 and step == 0 for n, step in zip(tensor.shape, tensor.stride(), strict=True)):
        return True
    if torch.compiler.is_compiling() or tensor.numel() == 0:
        return False
    reach = 0  # of the smaller strides
    for step, n in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if n > 1 and step <= reach:  # as in overlapping windows; or interleaved, which is allowed
            places = torch.arange(_extent(tensor), device="cpu").as_strided(
                tensor.shape, tensor.stride()
            )
            return places.unique().numel() < tensor.numel()
        reach += (n - 1) * step
    return False


def _extent(tensor: Tensor) -> int:
    """How many elements there are from the first in memory to the last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((n - 1) * step for n, step in steps)


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether a byte belongs to an element of ``a``, none of which repeats, and one of ``b``."""
    if a.is_meta or b.is_meta or not (a.numel() and b.numel()):
        return False
    starts = a.data_ptr(), b.data_ptr()
    if a.is_contiguous() and b.is_contiguous():
        return starts[0] < starts[1] + b.nbytes and starts[1] < starts[0] + a.nbytes
    ends = [at + _extent(t) * t.element_size() for at, t in zip(starts, (a, b), strict=True)]
    if starts[0] >= ends[1] or starts[1] >= ends[0]:
        return False
    # Views may be interleaved: mark the places of one, in units that fit both, and look at the
    # other's.
    origin, unit = min(starts), math.gcd(a.element_size(), b.element_size(), starts[0] - starts[1])
    marks = torch.zeros((max(ends) - origin) // unit, dtype=torch.bool, device="cpu")

    def places(start: int, tensor: Tensor) -> Tensor:
        each = tensor.element_size() // unit
        strides = [step * each for step in tensor.stride()]
        return marks.as_strided((*tensor.shape, each), (*strides, 1), (start - origin) // unit)

    places(starts[0], a).fill_(True)
    return bool(places(starts[1], b).any())


def check_not_differentiated(op: str, instead: str | None = None, **tensors: Tensor | None) -> None:
    """Raise where autograd would have to differentiate ``op``, which works in place."""
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            rather = f", or use {instead}" if instead else ""
            raise ValueError(
                f"{op}: works in place and is not differentiable, but {name} requires grad; "
                f"call it under torch.no_grad(){rather}"
            )


def check_fake_devices(op: str, x: Tensor, arguments: Sequence[Any]) -> None:
    """Raise where an in-place step with a meta tensor would silently do nothing."""
    for tensor in arguments:
        if isinstance(tensor, Tensor) and tensor.device != x.device:
            raise RuntimeError(f"{op}: a tensor is on {tensor.device}, x on {x.device}")


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd has to record an operator on these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def check_key(op: str, key: Tensor) -> None:
    """Raise unless ``key`` is an int64 tensor ``[seed, offset]``."""
    if not isinstance(key, Tensor):
        raise TypeError(
            f"{op}: key must be an int64 tensor [seed, offset], got {type(key).__name__}"
        )
    _check_strided(op, key, "key")
    if key.dtype != torch.int64 or key.shape != (2,):
        raise ValueError(
            f"{op}: key must be an int64 tensor of shape [2], "
            f"got {key.dtype} of shape {list(key.shape)}"
        )


def index(op: str, name: str, value: Any) -> int:
    """An integer from 0 to 2⁶², or raise."""
    if type(value) is not int and not isinstance(value, torch.SymInt):
        try:
            value = int(operator.index(value))
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{op}: {name} must be an integer, got {kind}") from None
    if value < 0:
        raise ValueError(f"{op}: {name} must not be negative, got {value}")
    if value > _LARGEST_INDEX:
        raise ValueError(f"{op}: {name} must be at most 2**62, got {value}")
    return value


def check_count(op: str, name: str, value: Any, *, least: int = 0) -> None:
    """Raise unless `value`, the argument `name` of `op`, is an integer of at least `least`."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{op}: {name} is {value}; expected {least} or more")


def shape(op: str, size: Sequence[int]) -> list[int]:
    """The dimensions of a result, or raise."""
    try:
        dimensions = list(size)
    except TypeError:
        kind = type(size).__name__
        raise TypeError(f"{op}: size must be a sequence of integers, got {kind}") from None
    dimensions = [index(op, "a dimension of size", dimension) for dimension in dimensions]
    index(op, "the number of elements", math.prod(dimensions))
    return dimensions


def _real(op: str, name: str, value: Any, kind: str = "a number") -> float:
    """A number, or raise."""
    if type(value) is float:  # the common one, or torch.compile's symbolic one
        return value
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except OverflowError:
        raise ValueError(f"{op}: {name} is too large for a float") from None
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{op}: {name} must be {kind}, got {type(value).__name__}") from None


def finite(op: str, name: str, value: Any) -> float:
    """A finite number, or raise."""
    number = _real(op, name, value)
    if not abs(number) <= _LARGEST_FLOAT:
        raise ValueError(f"{op}: {name} must be finite, got {number}")
    return number


def number(op: str, name: str, value: Any) -> float:
    """A finite, non-negative number, or raise."""
    number = _real(op, name, value, "a number or a tensor")
    if not 0.0 <= number <= _LARGEST_FLOAT:
        raise ValueError(f"{op}: {name} must be finite and not negative, got {number}")
    return number


def check_coefficient(op: str, name: str, value: Tensor, x: Tensor, *, positive: bool) -> None:
    """Raise unless a tensor, whatever its shape, can be a coefficient of a step of ``x``."""
    _check_strided(op, value, name)
    if value.is_complex():
        raise TypeError(f"{op}: {name} is {value.dtype}, expected real numbers")
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: {name} requires grad, but the step is not differentiable in it")
    if value.device != x.device:
        raise ValueError(f"{op}: {name} is on {value.device}, x on {x.device}")
    # Values on a GPU are not looked at: that would stop the host.
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = ~((value > 0 if positive else value >= 0) & (value < math.inf))
        if bool(wrong.any()):
            kind = "positive" if positive else "not negative"
            raise ValueError(
                f"{op}: {name} must be finite and {kind}, got {value[wrong][0].item()}"
            )


def per_chain(op: str, name: str, value: float | Tensor, x: Tensor) -> Tensor | None:
    """A coefficient given as a tensor: one entry a chain, in the accumulation dtype."""
    if not isinstance(value, Tensor):
        return None
    leading = list(value.shape)
    while leading and leading[-1] == 1:
        leading.pop()
    if value.dim() > x.dim() or leading != list(x.shape[: len(leading)]):
        raise ValueError(
            f"{op}: {name} has shape {list(value.shape)}, which are not the leading dimensions of "
            f"x, of shape {list(x.shape)}"
        )
    check_coefficient(op, name, value, x, positive=False)
    return value.detach().to(accumulation_dtype(x)).contiguous().view(-1)


def per_row(op: str, name: str, value: float | Tensor, x: Tensor) -> Tensor | None:
    """:func:`per_chain` for an operator whose chains are the rows of ``x``: [N] or [1]."""
    if isinstance(value, Tensor) and any(size > 1 for size in value.shape[1:]):
        raise ValueError(
            f"{op}: {name} has shape {list(value.shape)}, expected one entry a chain: "
            f"[{x.shape[0]}], trailing ones allowed"
        )
    return per_chain(op, name, value, x)


def inverse_mass(op: str, value: float | Tensor, x: Tensor) -> tuple[Tensor | None, float]:
    """A diagonal inverse mass matrix: [1 or N, 1 or D] for the N rows of ``x``, or a number."""
    if not isinstance(value, Tensor):
        scalar = _real(op, "inverse_mass", value, "a number or a tensor")
        if not 0.0 < scalar <= _LARGEST_FLOAT:
            raise ValueError(f"{op}: inverse_mass must be finite and positive, got {scalar}")
        return None, scalar
    check_coefficient(op, "inverse_mass", value, x, positive=True)
    value = value.detach().to(accumulation_dtype(x))
    if value.dim() == 1 and value.shape[0] == x.shape[0]:
        if value.shape[0] == x.shape[-1] > 1 and x.dim() > 1:
            size, ones = value.shape[0], [1] * (x.dim() - 1)
            raise ValueError(
                f"{op}: inverse_mass has shape [{size}], which may mean one entry a chain or one "
                f"an element of the last dimension of x, of shape {list(x.shape)}; expected "
                f"{[size, *ones]} for the one or {[*ones, size]} for the other"
            )
        return value.contiguous().view(-1, 1), 1.0
    chains, numbers = x.shape[0], math.prod(x.shape[1:])
    padded = (1,) * (x.dim() - value.dim()) + tuple(value.shape)
    if value.dim() > x.dim() or any(
        size not in (1, whole) for size, whole in zip(padded, x.shape, strict=True)
    ):
        raise ValueError(
            f"{op}: inverse_mass has shape {list(value.shape)}, which is neither one entry a chain "
            f"nor broadcasts to x, of shape {list(x.shape)} (a matrix of all elements is a "
            "gencore.samplers.DenseMass)"
        )
    value = value.reshape(padded)
    rows = 1 if padded[0] == 1 else chains
    if all(size == 1 for size in padded[1:]):
        return value.reshape(rows, 1).contiguous(), 1.0
    return value.expand(rows, *x.shape[1:]).reshape(rows, numbers).contiguous(), 1.0


def clip_bound(op: str, name: str, value: Any) -> float:
    """c > 0 of a clip to [−c, c], infinite where there is none."""
    bound = math.inf if value is None else _real(op, name, value)
    if not bound > 0:
        raise ValueError(f"{op}: {name} must be positive, got {bound}")
    return bound


def bounds(op: str, clamp: tuple[float | None, float | None] | None) -> tuple[float, float]:
    """The two ends of a clamp, infinite where there is none."""
    if clamp is None:
        return -math.inf, math.inf
    try:
        low, high = clamp
    except (TypeError, ValueError):
        raise TypeError(f"{op}: clamp must be a pair (low, high), got {clamp!r}") from None
    ends = (
        -math.inf if low is None else _real(op, "clamp's low", low),
        math.inf if high is None else _real(op, "clamp's high", high),
    )
    if not ends[0] <= ends[1]:
        raise ValueError(f"{op}: clamp must be (low, high) with low <= high, got {clamp}")
    return ends
