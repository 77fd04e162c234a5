"""What the public functions ask of their arguments, once each."""

import math
from typing import Any

import torch
from torch import Tensor

from gencore.ops.backend import state
from gencore.ops.extension import native

__all__ = [
    "accumulation_dtype",
    "bounds",
    "check_first_element",
    "check_key",
    "check_like",
    "check_native_device",
    "check_state",
    "number",
    "per_chain",
]

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which sums over ``x``'s dtype are made: never below float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def check_state(op: str, x: Tensor) -> None:
    """Raise unless ``x`` is a floating tensor on a device that has kernels."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, got {type(x).__name__}")
    if x.dtype not in _FLOATS:
        raise TypeError(f"{op}: x is {x.dtype}, expected float64, float32, bfloat16 or float16")
    check_native_device(op, x)


def check_native_device(op: str, x: Tensor) -> None:
    """Raise unless this build's kernels, or the reference backend, run where ``x`` is."""
    if x.device.type in ("cpu", "meta") or state.reference:
        return
    if x.device.type == "cuda" and native.cuda_architectures:
        return
    built = "CPU and CUDA" if native.cuda_architectures else "CPU"
    raise ValueError(
        f"{op}: the tensor is on {x.device}, but this build of gencore has {built} kernels; "
        "rebuild with GENCORE_CUDA=ON, or use gencore.ops.backend('reference')"
    )


def check_like(op: str, x: Tensor, other: Tensor, name: str) -> None:
    """Raise unless ``other`` has the dtype, shape and device of ``x``."""
    if not isinstance(other, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(other).__name__}")
    if other.dtype != x.dtype:
        raise TypeError(f"{op}: {name} is {other.dtype}, x is {x.dtype}; they must be equal")
    if other.shape != x.shape:
        raise ValueError(
            f"{op}: {name} has shape {list(other.shape)}, x has shape {list(x.shape)}; "
            "they must be equal"
        )
    if other.device != x.device:
        raise ValueError(f"{op}: {name} is on {other.device}, x on {x.device}")


def check_key(op: str, key: Tensor) -> None:
    """Raise unless ``key`` is an int64 tensor ``[seed, draw]``."""
    if not isinstance(key, Tensor):
        raise TypeError(f"{op}: key must be an int64 tensor [seed, draw], got {type(key).__name__}")
    if key.dtype != torch.int64 or key.shape != (2,):
        raise ValueError(
            f"{op}: key must be an int64 tensor of shape [2], "
            f"got {key.dtype} of shape {list(key.shape)}"
        )


def check_first_element(op: str, first_element: int) -> None:
    """Raise unless ``first_element`` is an index."""
    if first_element < 0:
        raise ValueError(f"{op}: first_element must not be negative, got {first_element}")


def number(op: str, name: str, value: Any) -> float:
    """A finite, non-negative number, or raise."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"{op}: {name} must be a number or a tensor, got {kind}") from None
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError(f"{op}: {name} must be finite and not negative, got {number}")
    return number


def per_chain(op: str, name: str, value: float | Tensor, x: Tensor) -> Tensor | None:
    """A coefficient given as a tensor: one entry a chain, in the accumulation dtype."""
    if not isinstance(value, Tensor):
        return None
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: {name} requires grad, but the step is not differentiable in it")
    if value.device != x.device:
        raise ValueError(f"{op}: {name} is on {value.device}, x on {x.device}")
    leading = list(value.shape)
    while leading and leading[-1] == 1:
        leading.pop()
    if value.dim() > x.dim() or leading != list(x.shape[: len(leading)]):
        raise ValueError(
            f"{op}: {name} has shape {list(value.shape)}, which are not the leading dimensions of "
            f"x, of shape {list(x.shape)}"
        )
    # Values on a GPU are not looked at: that would stop the host.
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = ~((value >= 0) & (value < math.inf))
        if bool(wrong.any()):
            raise ValueError(
                f"{op}: {name} must be finite and not negative, got {value[wrong][0].item()}"
            )
    return value.detach().to(accumulation_dtype(x)).contiguous().view(-1)


def bounds(op: str, clamp: tuple[float | None, float | None] | None) -> tuple[float, float]:
    """The two ends of a clamp, infinite where there is none."""
    if clamp is None:
        return -math.inf, math.inf
    try:
        low, high = clamp
    except (TypeError, ValueError):
        raise TypeError(f"{op}: clamp must be a pair (low, high), got {clamp!r}") from None
    ends = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not ends[0] <= ends[1]:
        raise ValueError(f"{op}: clamp must be (low, high) with low <= high, got {clamp}")
    return ends
