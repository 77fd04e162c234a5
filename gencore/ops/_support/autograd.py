"""Derivatives of the compiled operators, and the shortest way to call an operator that has one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad

from gencore.ops._support.extension import with_type
from gencore.ops._support.symbolic import Backward, Setup, takes_symbolic_numbers

__all__ = ["differentiable", "leaf", "ordinary"]

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


def ordinary(t: Tensor) -> Tensor:
    """What can enter a graph: a tensor, or the copy of one that inference mode made.

    To be called, as :func:`leaf`, inside ``torch.inference_mode(False)`` and
    ``torch.enable_grad()``, in which a twin takes the gradients that its kernel has in closed form,
    whatever mode it is called in.
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
