"""Derivatives of the compiled operators, and the shortest way to call an operator that has one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad

from gencore.ops._support.extension import with_type
from gencore.ops._support.symbolic import Backward, Setup, takes_symbolic_numbers

__all__ = ["differentiable", "gradients", "gradients_of_reference", "leaf", "ordinary"]

_is_compiling = torch.compiler.is_compiling
_transform = torch._C._functorch.peek_interpreter_stack
_below_autograd = torch._C._AutoDispatchBelowAutograd


def differentiable(op: OpOverload, backward: Backward, setup: Setup) -> Callable[..., Any]:
    """Register an operator's derivative, and return what calls the operator.

    torch's own way to a derivative that is written in Python inspects every argument twice, which
    takes longer than many a kernel. torch.compile and whoever calls the operator by its name go
    that way; the callable returned goes to the kernel at once, or through an autograd function of
    the same two parts where a gradient is wanted.

    Args:
        op: an operator without a mutated argument, whose tensors are arguments of their own.
        backward: (ctx, *gradients of the results) → one gradient, or None, an argument.
        setup: (ctx, arguments, results), which saves for `backward` what it needs.
    """
    torch.library.register_autograd(op.name(), backward, setup_context=setup)
    traced = takes_symbolic_numbers(op, backward, setup)

    def forward(ctx: Any, *arguments: Any) -> Any:
        with _below_autograd():
            results = op(*arguments)
        setup(ctx, arguments, results)
        return results

    node: Any = type(
        op.name().split("::")[1],
        (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward)},
    )

    def call(*arguments: Any) -> Any:
        if _is_compiling() or _transform() is not None:
            return traced(*arguments)
        if forward_ad._current_level >= 0:
            _refuse_tangents(op, arguments)
        try:
            if torch.is_grad_enabled():
                for argument in arguments:
                    if isinstance(argument, Tensor) and argument.requires_grad:
                        return node.apply(*arguments)
            with _below_autograd():
                return op(*arguments)
        except RuntimeError as error:
            raise with_type(error) from None

    return call


def gradients_of_reference(
    reference: Callable[..., Tensor | Sequence[Tensor | None]],
    operands: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    needs: Sequence[bool] | None = None,
) -> list[Tensor | None]:
    """The backward pass of an operator whose derivative is that of its reference.

    The reference is run anew, and autograd differentiates it. The result is differentiable in turn
    where autograd is on, so that an operator without a kernel for its derivative, or a derivative
    without one for its own, has every further derivative.

    Args:
        reference: (*operands) → the results, of which those that are ``None`` have no gradient.
        operands: what the results are functions of; ``None`` for one that is missing.
        grads: ∂L/∂result, for each result.
        needs: whether the gradient of each operand is wanted; all are if ``None``.

    Returns:
        ∂L/∂operand for each operand, ``None`` where it is not wanted or vanishes everywhere.

    Example:
        >>> import torch
        >>> from gencore.ops._support.autograd import gradients_of_reference
        >>> with torch.no_grad():
        ...     gradients_of_reference(torch.square, [torch.tensor(3.0)], [torch.tensor(1.0)])
        [tensor(6.)]
    """
    create_graph = torch.is_grad_enabled()
    wanted = [t is not None for t in operands] if needs is None else needs
    with torch.enable_grad():
        inputs = [
            _stand_in(t) if t is not None and need else t
            for t, need in zip(operands, wanted, strict=True)
        ]
        results = reference(*inputs)
        if isinstance(results, Tensor):
            results = (results,)
        chosen = [t if need else None for t, need in zip(inputs, wanted, strict=True)]
        return gradients(results, chosen, grads, create_graph=create_graph)


def gradients(
    results: Sequence[Tensor | None],
    operands: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    *,
    create_graph: bool = True,
) -> list[Tensor | None]:
    """:func:`torch.autograd.grad` by operand, of which, as of the results and their gradients, any
    may be missing."""
    pairs = [
        (result, grad)
        for result, grad in zip(results, grads, strict=True)
        if result is not None and grad is not None and result.requires_grad
    ]
    present = [t for t in operands if t is not None]
    if not pairs or not present:
        return [None] * len(operands)
    found = iter(
        torch.autograd.grad(
            [result for result, _ in pairs],
            present,
            [grad for _, grad in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [None if t is None else next(found) for t in operands]


def _stand_in(t: Tensor) -> Tensor:
    """The operand on its own: with its graph, if it has one, but such that no path from one operand
    to another counts as the operator's."""
    return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()


def ordinary(t: Tensor) -> Tensor:
    """What can enter a graph: a tensor, or the copy of one that inference mode made.

    To be called, as :func:`leaf`, inside ``torch.inference_mode(False)`` and
    ``torch.enable_grad()``, in which a reference takes the gradients that its kernel has in closed
    form, whatever mode it is called in.
    """
    return t.clone() if t.is_inference() else t


def leaf(t: Tensor) -> Tensor:
    """The tensor as one that gradients are taken with respect to."""
    return ordinary(t).detach().requires_grad_()


def _refuse_tangents(op: OpOverload, arguments: tuple[Any, ...]) -> None:
    """Raise where forward-mode differentiation has come to a graph of kernels, from outside."""
    for argument in arguments:
        if isinstance(argument, Tensor) and forward_ad.unpack_dual(argument).tangent is not None:
            raise NotImplementedError(
                f"{op.name()}: has no derivative in forward mode; evaluate the function inside "
                "forward_ad.dual_level, or inside gencore.ops._support.backend('reference')"
            )
