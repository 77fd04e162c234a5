"""The stop-gradient sg(θ) on the parameters of a network."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.func import functional_call

__all__ = ["stop_gradient"]


def stop_gradient(module: nn.Module) -> Callable[..., Any]:
    """The function f_sg(θ) of a module f_θ: its value, and its gradient in the input only.

    The module itself is not touched: other calls in the same graph, or in another thread, still
    see parameters that require gradients.

    Args:
        module: a network; its buffers are used in place.

    Returns:
        A callable with the signature of `module.forward`.

    Example:
        >>> import torch
        >>> f = nn.Linear(2, 1, bias=False)
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> stop_gradient(f)(x).sum().backward()
        >>> torch.equal(x.grad, f.weight), f.weight.grad is None
        (True, True)
    """

    def call(*args: object, **kwargs: object) -> Any:
        frozen = {name: parameter.detach() for name, parameter in module.named_parameters()}
        return functional_call(module, frozen, args, kwargs)

    return call
