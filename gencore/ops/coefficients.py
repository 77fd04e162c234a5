"""Coefficients of a step: a number, one entry a chain, or whatever broadcasts to the states."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops.checks import accumulation_dtype, check_coefficient, number, per_chain

__all__ = ["Coefficient", "coefficient", "inverse_mass", "thermal_noise"]


class Coefficient(NamedTuple):
    """``values[(element // run) % len(values)]``, or the number where there are no values."""

    values: Tensor | None
    number: float
    run: int = 0
    """Elements that share an entry; 0: those of a chain, as many chains as entries."""

    @property
    def is_zero(self) -> bool:
        return self.values is None and self.number == 0.0

    def broadcast(self, shape: Sequence[int]) -> Tensor | float:
        """The coefficient of every element of a shape, as torch's own operators take it."""
        numel = math.prod(shape)
        if self.values is None or numel == 0:
            return self.number
        entries = self.values.repeat_interleave(self.run or numel // self.values.numel())
        return entries.repeat(numel // entries.numel()).view(tuple(shape))


def coefficient(op: str, name: str, value: Any, x: Tensor) -> Coefficient:
    """c ≥ 0: a number, or a tensor with one entry a chain, whose shape leads that of ``x``."""
    values = per_chain(op, name, value, x)
    return Coefficient(values, 0.0 if values is not None else number(op, name, value))


def inverse_mass(op: str, value: Any, x: Tensor) -> Coefficient:
    """m⁻¹ > 0: a number, one entry a chain [N], or a tensor that broadcasts to ``x``, or raise.

    A tensor of one dimension is read as one entry a chain where it has as many entries.
    """
    if not isinstance(value, Tensor):
        mass = number(op, "inverse_mass", value)
        if mass == 0.0:
            raise ValueError(f"{op}: inverse_mass must be positive, got {mass}")
        return Coefficient(None, mass)
    check_coefficient(op, "inverse_mass", value, x, positive=True)
    value = value.detach().to(accumulation_dtype(x))
    if value.dim() == 1 and value.shape == x.shape[:1]:
        value = value.view(-1, *[1] * (x.dim() - 1))
    if value.dim() > x.dim() or any(
        size not in (1, whole)
        for size, whole in zip(reversed(value.shape), reversed(x.shape), strict=False)
    ):
        raise ValueError(
            f"{op}: inverse_mass has shape {list(value.shape)}, expected one entry a chain, or a "
            f"shape that broadcasts to that of x, {list(x.shape)}"
        )
    if x.numel() == 0:
        return Coefficient(None, 1.0)
    value = value.reshape([1] * (x.dim() - value.dim()) + list(value.shape))
    # Where the varying dimensions are neighbours, their entries repeat with a run and a period.
    varying = [axis for axis, size in enumerate(value.shape) if size > 1]
    first, last = (varying[0], varying[-1] + 1) if varying else (x.dim(), x.dim())
    if value.shape[first:last] != x.shape[first:last]:
        value, last = value.expand(x.shape), x.dim()
    return Coefficient(value.contiguous().view(-1), 1.0, math.prod(x.shape[last:]))


def thermal_noise(friction: Coefficient, step_size: Coefficient) -> Coefficient:
    """√(2 C ε), the scale of the noise that balances a friction C over a step ε."""
    tensors = [c.values for c in (friction, step_size) if c.values is not None]
    if not tensors:
        return Coefficient(None, math.sqrt(2.0 * friction.number * step_size.number))
    # Both lead the states, so that entries of the shorter one stand for runs of the longer.
    count = max(values.numel() for values in tensors)
    result = torch.full((count,), 2.0, dtype=tensors[0].dtype, device=tensors[0].device)
    for values, scale in ((c.values, c.number) for c in (friction, step_size)):
        result = result * (
            scale if values is None else values.repeat_interleave(count // max(values.numel(), 1))
        )
    return Coefficient(result.sqrt(), 0.0)
