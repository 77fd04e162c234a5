"""The shape that a network gives, found when a model is made of it."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gencore.nn.evaluating import evaluating

__all__ = ["output_shape"]


def output_shape(
    owner: str, name: str, network: nn.Module, shape: tuple[int, ...]
) -> torch.Size | None:
    """The shape of the result for zeros of a shape, in evaluation mode.

    It is a pass of a few rows: shapes without numbers, on the meta device, would take torch seconds
    of imports. Neither the network nor torch's default generator changes.

    Args:
        owner: the name that errors begin with.
        name: what the network is there.
        network: of one argument.
        shape: of it.

    Returns:
        The shape; ``None`` where the network has no numbers yet, or gives no tensor.

    Raises:
        ValueError: the network does not take such inputs.

    Example:
        >>> import torch
        >>> output_shape("example", "the network", torch.nn.Linear(3, 5), (2, 3))
        torch.Size([2, 5])
    """
    weights = list(network.parameters())
    if any(is_lazy(weight) or weight.is_meta for weight in weights):
        return None
    floats = [weight for weight in weights if weight.is_floating_point()]
    x = floats[0].new_zeros(shape) if floats else torch.zeros(shape)
    if x.is_meta:
        return None
    devices = [x.device] if x.is_cuda else []
    try:
        with torch.no_grad(), evaluating(network), torch.random.fork_rng(devices):
            result = network(x)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{owner}: {name} does not take {list(shape)}: {error}") from error
    return result.shape if isinstance(result, torch.Tensor) else None
