"""Weights held in a box, which bounds a critic's slope (Arjovsky, Chintala and Bottou 2017)."""

import torch
from torch import nn

from gencore.ops._support.checks import finite

__all__ = ["clip_weights"]


@torch.no_grad()
def clip_weights(module: nn.Module, bound: float = 0.01) -> None:
    """Clamp all parameters of a module to [−c, c], in place: after each step of the critic.

    The slope of the network is then below some constant, which depends on its shape and not on its
    weights, so that its Wasserstein game has an optimum. The constant is not 1, and the best
    critics sit at the corners of the box: `gencore.objectives.gradient_penalty` holds the slope
    itself.

    Args:
        module: the critic.
        bound: c.

    Raises:
        ValueError: for a bound that is not positive and finite.

    References:
        Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017, Algorithm 1. Lucas, "Deep generative
        models: over-generalisation and mode-dropping", 2020, §2.11.

    Example:
        >>> critic = nn.Linear(2, 1)
        >>> clip_weights(critic, 0.1)
        >>> bool(critic.weight.abs().max() <= 0.1)
        True
    """
    if not finite("clip_weights", "bound", bound) > 0:
        raise ValueError(f"clip_weights: bound is {bound}; expected a positive number")
    for parameter in module.parameters():
        parameter.clamp_(-bound, bound)
