"""The context of conditional layers, networks and flows: one row a data point."""

import torch
from torch import Size, Tensor, nn

__all__ = [
    "broadcast_shape",
    "check_context",
    "check_context_dtype",
    "check_context_is_tensor",
    "context_rows",
    "weight_of",
]


def check_context(
    owner: str,
    context: Tensor | None,
    num: int,
    context_size: int,
    weight: Tensor | None = None,
) -> None:
    """Raise unless the context is [num, context_size] of floating point, or ``None`` for size 0.

    Flows ask this of every context, so that none is lost. Layers and networks ask it where they
    have a use for one, and otherwise ignore it, so that a flow can be made of both kinds.

    Args:
        owner: the name that errors begin with.
        context: what was given.
        num: N, the number of data points.
        context_size: C; 0 for none.
        weight: of the network that takes it, if that has any.

    Raises:
        ValueError: for a context that is missing, not needed, or of another shape.
        TypeError: for one that is no tensor of floating point, or more precise than the weights.
    """
    check_context_is_tensor(owner, context)
    if context is None:
        if context_size:
            raise ValueError(f"{owner}: expected a context [{num}, {context_size}], got none")
        return
    if not context_size:
        raise ValueError(
            f"{owner}: got a context of shape {list(context.shape)}, but context_size is 0"
        )
    if context.shape != (num, context_size):
        raise ValueError(
            f"{owner}: expected a context [{num}, {context_size}], got one of shape "
            f"{list(context.shape)}"
        )
    check_context_dtype(owner, context, weight)


def check_context_dtype(owner: str, context: Tensor, weight: Tensor | None) -> None:
    """Raise unless a context is of floating point, no more precise than the weights it meets."""
    if not context.is_floating_point():
        raise TypeError(f"{owner}: the context is {context.dtype}; expected floating point")
    if (
        weight is not None
        and torch.promote_types(context.dtype, weight.dtype) != weight.dtype
        and not torch.is_autocast_enabled(context.device.type)
    ):
        raise TypeError(
            f"{owner}: the context is {context.dtype} and the weights are {weight.dtype}; convert "
            "one of the two"
        )


def check_context_is_tensor(owner: str, context: Tensor | None) -> None:
    """Raise unless the context is a tensor or ``None``."""
    if context is not None and not isinstance(context, Tensor):
        raise TypeError(f"{owner}: the context is a {type(context).__name__}; expected a tensor")


def weight_of(module: nn.Module) -> Tensor | None:
    """The first parameter of a module, whose dtype is that of all."""
    return next(module.parameters(), None)


def context_rows(context: Tensor | None, batch_shape: Size) -> Tensor | None:
    """The rows [N, C] of a context [*batch, C] that is expanded to a batch of N in all."""
    if context is None:
        return None
    size = context.shape[-1]
    return context.expand(*batch_shape, size).reshape(batch_shape.numel(), size)


def broadcast_shape(a: Size, b: Size) -> Size | None:
    """The shape that two shapes are broadcast to, if there is one."""
    try:
        return torch.broadcast_shapes(a, b)
    except (RuntimeError, ValueError):  # the latter for a negative length
        return None
