"""Spectral norms that stand still while a network has to stay the same function."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

__all__ = ["held_norms"]


@contextmanager
def held_norms(function: object, *, advance: bool = False) -> Iterator[None]:
    """Within, calls of a module in training see one and the same weight.

    In training torch's spectral norm makes a power iteration in every call, and the weight is
    another each time: a chain would follow as many energies as it has steps, and a loss compare
    those of two networks.

    Args:
        function: a module, or what holds one as its `energy`; anything else has no norms.
        advance: make the power iteration of one call first, as a training step should.

    Example:
        >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(50, 50))
        >>> with held_norms(layer):
        ...     first, second = layer.weight, layer.weight
        >>> torch.equal(first, second), torch.equal(layer.weight, layer.weight)
        (True, False)
    """
    while not isinstance(function, nn.Module) and hasattr(function, "energy"):
        function = function.energy  # such as of a CompiledEnergy
    if not isinstance(function, nn.Module) or not function.training:
        yield
        return
    norms: list[nn.Module] = []
    for module in function.modules():
        if isinstance(module, _SpectralNorm):
            norms.append(module)
        # The older torch.nn.utils.spectral_norm is a hook, which asks the layer itself.
        hooks = [h for h in module._forward_pre_hooks.values() if isinstance(h, SpectralNorm)]
        norms += [module] * bool(hooks)
        if advance:
            with torch.no_grad():
                _make_weights(module)
                for hook in hooks:
                    hook(module, None)
    norms = [norm for norm in norms if norm.training]
    try:
        for norm in norms:
            norm.training = False
        yield
    finally:
        for norm in norms:
            norm.training = True


def _make_weights(module: nn.Module) -> None:
    """Evaluate the spectral norms of a module's weights, which iterates those in training."""
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        for steps in module.parametrizations.values():
            if any(isinstance(step, _SpectralNorm) and step.training for step in steps.modules()):
                steps()  # and not the attribute, which torch may keep, without a graph
