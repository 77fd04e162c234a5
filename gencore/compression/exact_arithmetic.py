"""Networks whose results have the same bits on every machine, in float64 without rounding.

Sums of floating-point numbers depend on their order, and so on the machine, its libraries and the
number of threads; exponentials differ by library. Here every number is a multiple of 2⁻¹⁶. The
products of two of them and their sums are multiples of 2⁻³², which float64 holds exactly below 2²¹:
they have no order. The result is rounded to a multiple of 2⁻¹⁶ again. Sums without products are
exact below 2³⁷. Sigmoid and its kin are lines between tabulated values.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from decimal import Decimal, localcontext
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gencore.compression.session import TOTAL_FREQUENCY

__all__ = ["exact_arithmetic", "exact_copy", "frequencies_of_logits", "to_grid"]

M = TypeVar("M", bound=nn.Module)

_GRID = 2.0**16
# Products of two numbers whose absolute values add up to less than this have exact sums.
_LARGEST_SUM = 2.0**21
# Numbers without a factor have exact sums below this.
_LARGEST_PLAIN_SUM = 2.0**53 / _GRID

# A table has 2^8 values a unit, up to this argument.
_STEPS = 2**8
_TABLE_END = 24

# What moves numbers, compares or chooses among them, or adds two of them, rounds nothing.
_MOVING_NAMES = """
_reshape_alias _unsafe_view abs add alias arange as_strided bitwise_and bitwise_not
bitwise_or cat clamp clamp_min clone constant_pad_nd copy_ detach embedding empty empty_like eq
expand fill_ flip full full_like gather ge gt im2col index index_select le logical_and
logical_not lt masked_fill max maximum minimum ne neg new_empty new_full new_ones new_zeros ones
ones_like permute pixel_shuffle relu repeat roll rsub scalar_tensor scatter select select_scatter
slice slice_scatter split split_with_sizes squeeze stack sub t transpose tril triu unbind
unfold unsqueeze upsample_nearest2d view where zero_ zeros zeros_like
"""
_MOVING = frozenset(_MOVING_NAMES.split())
# One rounded operation an element is the same everywhere. Numbers of another dtype, and those that
# a tensor is made of, come to the grid here.
_ELEMENTWISE = frozenset({"_to_copy", "div", "leaky_relu", "lift_fresh", "mul"})
# Where the two factors stand in the arguments of what adds up products, and how many it adds.
_PRODUCTS: dict[str, tuple[int, int, Callable[[Tensor], int]]] = {
    "addcmul": (1, 2, lambda b: 1),
    "addmm": (1, 2, lambda b: b.shape[0]),
    "baddbmm": (1, 2, lambda b: b.shape[1]),
    "bmm": (0, 1, lambda b: b.shape[1]),
    "convolution": (0, 1, lambda b: b[0].numel()),
    "masked_conv2d": (0, 1, lambda b: b[0].numel()),
    "mm": (0, 1, lambda b: b.shape[0]),
}


@contextmanager
def exact_arithmetic(owner: str) -> Iterator[None]:
    """In this block float64 results are multiples of 2⁻¹⁶, with the same bits on every machine.

    Args:
        owner: the name that errors begin with.

    Raises:
        ValueError: in the block, for an operation that cannot be computed so, and for numbers that
            are too large for it.

    Example:
        >>> x = torch.tensor([1.0, -2.0], dtype=torch.float64)
        >>> with exact_arithmetic("example"):
        ...     y = torch.tanh(x) * 65536
        >>> y
        tensor([ 49912., -63179.], dtype=torch.float64)
    """
    with torch.no_grad(), _Exact(owner):
        yield


def exact_copy(network: M) -> M:
    """The network on the CPU in float64, its weights rounded to multiples of 2⁻¹⁶."""
    copy = deepcopy(network).cpu().double().eval()
    with torch.no_grad():
        for tensor in (*copy.parameters(), *copy.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(to_grid(tensor))
    return copy


def to_grid(x: Tensor) -> Tensor:
    """x rounded to multiples of 2⁻¹⁶.

    Example:
        >>> to_grid(torch.tensor([0.1], dtype=torch.float64)) * 65536
        tensor([6554.], dtype=torch.float64)
    """
    return (x * _GRID).round() / _GRID


def frequencies_of_logits(logits: Tensor) -> Tensor:
    """Positive int32 [..., L] of sum 2²⁴, in proportion to exp(logits), multiples of 2⁻¹⁶.

    Example:
        >>> frequencies_of_logits(torch.tensor([0.0, 0.0, 0.0, -1.0], dtype=torch.float64))
        tensor([4981539, 4981536, 4981536, 1832605], dtype=torch.int32)
    """
    distance = (logits.max(-1, keepdim=True).values - logits) * _GRID
    steps = distance.clamp(max=_TABLE_END * _GRID).long()
    place, between = steps // (2**16 // _STEPS), steps % (2**16 // _STEPS)
    # Whole numbers from here on: e^-d as multiples of 2^-36, and lines between them.
    table = _table("exp").mul(2.0**36).round().long()
    low, high = table[place], table[(place + 1).clamp(max=len(table) - 1)]
    weight = low + (high - low) * between // (2**16 // _STEPS)
    left = TOTAL_FREQUENCY - logits.shape[-1]
    frequencies = 1 + weight * left // weight.sum(-1, keepdim=True)
    frequencies[..., 0] += TOTAL_FREQUENCY - frequencies.sum(-1)  # less than one a level
    return frequencies.int()


class _Exact(TorchDispatchMode):
    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        kwargs = kwargs or {}
        bare = name.removesuffix("_") if args and _floats(args[:1]) else name
        if bare in _FUNCTIONS and args[1:] == _SETTINGS.get(bare, ())[: len(args) - 1]:
            result = to_grid(_FUNCTIONS[bare](args[0]))
            return result if bare == name else args[0].copy_(result)
        if bare in _PRODUCTS:
            self._check_products(bare, args, kwargs)
        result = func(*args, **kwargs)
        if not _floats([result]):
            return result
        if name == "sum":
            self._check_sum(name, args[0], result)
            return result
        if name == "avg_pool2d":  # a sum and one division; windows of no more than the whole
            self._check_sum(name, args[0], result)
            return to_grid(result)
        moves = (name in _MOVING or bare in _MOVING) and not _adds_products(name, args, kwargs)
        if moves and _are_on_grid(args):
            return result
        if not moves and bare not in _ELEMENTWISE and bare not in _PRODUCTS:
            raise ValueError(
                f"{self.owner}: the operation {name} cannot be computed with the same bits "
                "everywhere"
            )
        return to_grid(result) if bare == name else args[0].copy_(to_grid(result))

    def _check_products(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise a ValueError unless all sums are exact, in whatever order."""
        first, second, num_terms = _PRODUCTS[name]
        a, b = args[first], args[second]
        if name == "convolution" and args[6]:  # transposed: [inputs, outputs, rows, columns]
            num_terms = lambda weight: weight[:, 0].numel()  # noqa: E731
        if a.dtype != torch.float64 or kwargs:
            raise ValueError(
                f"{self.owner}: {name} of {a.dtype} with these settings cannot be computed exactly"
            )
        added = sum(_largest(c) for c in _floats(args) if c is not a and c is not b)
        if not _largest(a) * _largest(b) * num_terms(b) + added < _LARGEST_SUM:
            raise self._too_large(name)

    def _check_sum(self, name: str, x: Tensor, result: Tensor) -> None:
        """Raise a ValueError unless all sums are exact, in whatever order."""
        if x.dtype != torch.float64 or result.dtype != torch.float64:
            raise ValueError(
                f"{self.owner}: {name} of {x.dtype} as {result.dtype} cannot be computed exactly"
            )
        num_terms = x.numel() // max(result.numel(), 1) if name == "sum" else x[0, 0].numel()
        if not _largest(x) * num_terms < _LARGEST_PLAIN_SUM:
            raise self._too_large(name)

    def _too_large(self, name: str) -> ValueError:
        return ValueError(f"{self.owner}: the numbers in {name} are too large to be added exactly")


def _adds_products(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation that only moves or adds numbers is told to multiply, or to add many."""
    alpha = args[2] if name == "rsub" and len(args) > 2 else kwargs.get("alpha", 1)
    return alpha != 1 or kwargs.get("reduce") is not None


def _are_on_grid(values: Any) -> bool:
    """Whether the Python numbers among values and lists of them are multiples of 2⁻¹⁶."""
    return all(
        not isinstance(v, float) or (v * _GRID).is_integer() or math.isinf(v)
        for part in values
        for v in (part if isinstance(part, list | tuple) else [part])
    )


def _floats(values: Any) -> list[Tensor]:
    """The tensors of real numbers among values and lists of them."""
    parts = [part for v in values for part in (v if isinstance(v, list | tuple) else [v])]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _interpolated(name: str, x: Tensor) -> Tensor:
    """The tabulated function at x ≥ 0; that of the table's end beyond it."""
    table = _table(name)
    steps = x.clamp(max=float(_TABLE_END)) * _STEPS
    place = steps.floor()
    low, high = table[place.long()], table[(place.long() + 1).clamp(max=len(table) - 1)]
    return low + (high - low) * (steps - place)


def _sigmoid(x: Tensor) -> Tensor:
    positive = _interpolated("sigmoid", x.abs())
    return torch.where(x < 0, 1 - positive, positive)


def _elu(x: Tensor) -> Tensor:
    return torch.where(x < 0, _interpolated("exp", -x.clamp(max=0)) - 1, x)


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: x.clamp(min=0) + _interpolated("softplus", x.abs()),
    "tanh": lambda x: 2 * _sigmoid(2 * x) - 1,
}
# The settings that these functions have by default, the only ones here.
_SETTINGS: dict[str, tuple[float, ...]] = {"elu": (1, 1, 1), "softplus": (1, 20)}


@cache
def _table(name: str) -> Tensor:
    """exp(−x), 1/(1 + exp(−x)) or log(1 + exp(−x)) at x = 0, 2⁻⁸, …, 24, as multiples of 2⁻³⁶.

    By decimal arithmetic, whose results the language defines to the last digit.
    """
    values = []
    with localcontext() as context:
        context.prec = 40
        e, ratio = Decimal(1), (Decimal(-1) / _STEPS).exp()
        for _ in range(_TABLE_END * _STEPS + 1):
            value = e if name == "exp" else 1 / (1 + e) if name == "sigmoid" else (1 + e).ln()
            values.append(int((value * 2**36).to_integral_value()))
            e *= ratio
    return torch.tensor(values, dtype=torch.float64) / 2**36
