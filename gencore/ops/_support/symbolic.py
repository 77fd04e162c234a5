"""Operators whose numbers torch.compile does not know yet.

torch.compile makes a number that changes between calls symbolic, but an operator's schema takes
known ones only, so that each value would be compiled anew. A variant of the operator takes its
numbers as one tensor instead, and reads them when it runs.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

__all__ = ["Backward", "Setup", "takes_symbolic_numbers"]

Setup = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]

_is_compiling = torch.compiler.is_compiling


def takes_symbolic_numbers(
    op: OpOverload, backward: Backward | None = None, setup: Setup | None = None
) -> Callable[..., Any]:
    """What calls the operator, or inside torch.compile its variant where a number is symbolic.

    Args:
        op: the operator.
        backward, setup: the two parts of its derivative, if it has one, as for
            :func:`gencore.ops._support.autograd.differentiable`.
    """
    places = [i for i, a in enumerate(op._schema.arguments) if str(a.type) == "float"]
    if not places:
        return op
    variant = _define_variant(op, places, backward, setup)

    def call(*arguments: Any) -> Any:
        if not _is_compiling():
            return op(*arguments)
        from torch.fx.experimental.symbolic_shapes import has_static_value  # not before: it is slow

        if all(has_static_value(arguments[i]) for i in places):
            return op(*arguments)
        # Products with a tensor, which torch.compile can make of symbolic numbers.
        one = torch.ones((), dtype=torch.float64, device="cpu")
        numbers = torch.stack([one * arguments[i] for i in places])
        return variant(*(a for i, a in enumerate(arguments) if i not in places), numbers)

    return call


def _define_variant(
    op: OpOverload, places: list[int], backward: Backward | None, setup: Setup | None
) -> OpOverload:
    """`gencore::<name>.numbers`, which takes the floats in a tensor after all others."""
    name, schema = op._schema.name, str(op._schema).partition("(")[2]
    parameters, _, results = re.sub(r", float \w+", "", schema).rpartition(") -> ")
    variant_name = f"{name}.numbers"
    torch.library.define(variant_name, f"({parameters}, Tensor numbers) -> {results}")

    def joined(arguments: tuple[Any, ...], values: list[float]) -> list[Any]:
        known, rest = iter(values), iter(arguments)
        count = len(arguments) + len(places)
        return [next(known) if i in places else next(rest) for i in range(count)]

    @torch.library.impl(variant_name, "default")
    def kernel(*arguments: Any) -> Any:
        return op(*joined(arguments[:-1], arguments[-1].tolist()))

    @torch.library.register_fake(variant_name)
    def shapes(*arguments: Any) -> Any:
        return op(*joined(arguments[:-1], [1.0] * len(places)))

    if backward is not None and setup is not None:
        _define_derivative(variant_name, parameters, joined, backward, setup)
    return torch._library.utils.lookup_op(variant_name)


def _define_derivative(
    variant_name: str,
    parameters: str,
    joined: Callable[[tuple[Any, ...], list[float]], list[Any]],
    backward: Backward,
    setup: Setup,
) -> None:
    """The variant's backward pass: an operator that reads the numbers and runs the two parts."""
    backward_name = f"{variant_name}_backward"
    torch.library.define(
        backward_name,
        f"(Tensor[] grads, Tensor[] outputs, bool[] needs, {parameters}, Tensor numbers)"
        " -> Tensor[]",
    )

    def wanted(needs: list[bool], arguments: tuple[Any, ...]) -> list[Tensor]:
        return [t for t, need in zip(arguments, needs, strict=True) if need]

    @torch.library.impl(backward_name, "default")
    def kernel(
        grads: list[Tensor], outputs: list[Tensor], needs: list[bool], *arguments: Any
    ) -> list[Tensor]:
        numbers: list[float] = arguments[-1].tolist()
        context = _Context()
        context.needs_input_grad = joined(tuple(needs[:-1]), [False] * len(numbers))
        given = joined(arguments[:-1], numbers)
        setup(context, tuple(given), outputs[0] if len(outputs) == 1 else tuple(outputs))
        with torch.no_grad():
            found = backward(context, *grads)
        pairs = zip(given, found, context.needs_input_grad, strict=True)
        return [
            torch.zeros_like(t, memory_format=torch.contiguous_format)
            if grad is None
            else grad.clone(memory_format=torch.contiguous_format)  # none may alias an input
            for t, grad, need in pairs
            if need
        ]

    @torch.library.register_fake(backward_name)
    def shapes(grads: Any, outputs: Any, needs: list[bool], *arguments: Any) -> list[Tensor]:
        return [
            torch.empty_like(t, memory_format=torch.contiguous_format)
            for t in wanted(needs, arguments)
        ]

    variant_backward = torch._library.utils.lookup_op(backward_name)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = (output,) if isinstance(output, Tensor) else tuple(output)
        ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]
        ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.save_for_backward(*outputs, *(t for t in inputs if isinstance(t, Tensor)))

    def differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        outputs, tensors = saved[: len(grads)], iter(saved[len(grads) :])
        arguments = [
            next(tensors) if is_tensor else value
            for is_tensor, value in zip(ctx.is_tensor, ctx.others, strict=True)
        ]
        needs = list(ctx.needs_input_grad)
        found = iter(variant_backward(list(grads), outputs, needs, *arguments))
        return tuple(next(found) if need else None for need in needs)

    torch.library.register_autograd(variant_name, differentiate, setup_context=keep)


class _Context:
    """What the two parts of a derivative ask of autograd's context."""

    needs_input_grad: list[Any]
    saved_tensors: tuple[Tensor | None, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Gradients come as tensors in any case."""
