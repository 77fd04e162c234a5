"""The context of conditional layers, networks and flows: a row a data point, or a row a pixel."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn

__all__ = [
    "ContextSize",
    "broadcast_shape",
    "check_context",
    "check_context_dtype",
    "check_context_is_tensor",
    "context_rows",
    "context_shape",
    "weight_of",
]

ContextSize = int | Sequence[int]


def context_shape(context_size: ContextSize) -> Size:
    """The shape of one data point's context: [C], [C, H, W], or [] for none.

    Example:
        >>> context_shape(3), context_shape((3, 8, 8)), context_shape(0)
        (torch.Size([3]), torch.Size([3, 8, 8]), torch.Size([]))
    """
    if isinstance(context_size, Sequence):
        return Size(context_size)
    return Size([context_size] if context_size else [])


def check_context(
    owner: str,
    context: Tensor | None,
    num: int,
    context_size: ContextSize,
    weight: Tensor | None = None,
) -> None:
    """Raise unless the context is [num, context_size] of floating point, or ``None`` for size 0.

    Flows ask this of every context, so that none is lost. Layers and networks ask it where they
    have a use for one, and otherwise ignore it, so that a flow can be made of both kinds.

    Args:
        owner: the name that errors begin with.
        context: what was given.
        num: N, the number of data points.
        context_size: C, or (C, H, W) of a context a pixel; 0 for none.
        weight: of the network that takes it, if that has any.

    Raises:
        ValueError: for a context that is missing, not needed, or of another shape.
        TypeError: for one that is no tensor of floating point, or more precise than the weights.
    """
    check_context_is_tensor(owner, context)
    shape = (num, *context_shape(context_size))
    if context is None:
        if context_size:
            raise ValueError(f"{owner}: expected a context {list(shape)}, got none")
        return
    if not context_size:
        raise ValueError(
            f"{owner}: got a context of shape {list(context.shape)}, but context_size is 0"
        )
    if context.shape != shape:
        raise ValueError(
            f"{owner}: expected a context {list(shape)}, got one of shape {list(context.shape)}"
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


def context_rows(context: Tensor | None, batch_shape: Size, dims: int = 1) -> Tensor | None:
    """The rows [N, ...] of a context [*batch, ...] that is expanded to a batch of N in all.

    Args:
        context: of the data points of a batch.
        batch_shape: what the batch is expanded to.
        dims: dimensions of one context: 1 for [C], 3 for [C, H, W].
    """
    if context is None:
        return None
    one = context.shape[context.dim() - dims :]
    return context.expand(*batch_shape, *one).reshape(batch_shape.numel(), *one)


def broadcast_shape(a: Size, b: Size) -> Size | None:
    """The shape that two shapes are broadcast to, if there is one."""
    try:
        return torch.broadcast_shapes(a, b)
    except (RuntimeError, ValueError):  # the latter for a negative length
        return None
