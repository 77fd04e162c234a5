"""Layers whose weights are normalised or scaled, and which can be pickled."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

__all__ = ["equalized", "spectral_bound", "spectral_norm", "weight_norm"]


def weight_norm(layer: nn.Module, dim: int = 0) -> nn.Module:
    """torch's :func:`~torch.nn.utils.parametrizations.weight_norm` of a layer, which pickles.

    Args:
        layer: whose weight is normalised.
        dim: of the weight, which has a norm for each of its indices.

    Example:
        >>> import pickle, torch
        >>> from gencore.nn.parametrized import weight_norm
        >>> layer = weight_norm(torch.nn.Linear(2, 3))
        >>> torch.equal(pickle.loads(pickle.dumps(layer)).weight, layer.weight)
        True
    """
    before = list(layer._load_state_dict_pre_hooks)
    parametrizations.weight_norm(layer, dim=dim)
    # torch's hook for checkpoints of its older weight_norm, none of which is ours, does not pickle.
    for hook in set(layer._load_state_dict_pre_hooks).difference(before):
        del layer._load_state_dict_pre_hooks[hook]
    return _picklable(layer)


def spectral_norm(layer: nn.Module, n_power_iterations: int = 1) -> nn.Module:
    """torch's :func:`~torch.nn.utils.parametrizations.spectral_norm` of a layer, which pickles."""
    return _picklable(parametrizations.spectral_norm(layer, n_power_iterations=n_power_iterations))


def spectral_bound(layer: nn.Module) -> nn.Module:
    """Divide a layer's weight by its largest singular value where that is above 1.

    As `spectral_norm` it estimates the value by a power iteration in each call in training, so the
    weight must not be 0; unlike it, it lets a small weight be small.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> with torch.no_grad():
        ...     _ = layer.weight.copy_(torch.diag(torch.tensor([4.0, 0.5])))
        >>> spectral_bound(layer).weight.diag()
        tensor([1.0000, 0.1250], grad_fn=<DiagonalBackward0_copy>)
    """
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    parametrize.register_parametrization(layer, "weight", _SpectralBound(weight))
    return _picklable(layer)


class _SpectralBound(parametrizations._SpectralNorm):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = weight.flatten(1)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # later iterations write to the buffers
        return weight / torch.vdot(u, torch.mv(matrix, v)).clamp_min(1)


def equalized(layer: nn.Module, gain: float = 2**0.5) -> nn.Module:
    """Let a layer's stored weight be N(0, 1), and scale it where it is used: its learning rate is
    equalised (Karras et al. 2018, §4.1).

    The weight is w = c·ŵ with c = gain/√fan_in, as He's initialisation has it, for the fan-in of
    the layer. Steps of Adam or RMSprop on ŵ, which do not depend on the scale of a gradient, then
    change all layers at one relative speed. The bias starts as 0.

    Args:
        layer: linear, or a convolution; not a transposed one, whose fan-in is another.
        gain: √2 where a rectified unit follows.

    Raises:
        TypeError: for a transposed convolution or a layer without a weight.

    Example:
        >>> layer = equalized(torch.nn.Linear(200, 50), gain=1.0)
        >>> stored = layer.parametrizations.weight.original
        >>> torch.allclose(layer.weight, stored / 200**0.5), round(float(stored.detach().std()), 1)
        (True, 1.0)
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor) or getattr(layer, "transposed", False):
        raise TypeError(
            f"equalized: layer is {type(layer).__name__}; expected a linear layer or a convolution"
        )
    nn.init.normal_(weight)
    if isinstance(layer.bias, torch.Tensor):
        nn.init.zeros_(layer.bias)
    parametrize.register_parametrization(layer, "weight", _Scale(gain / weight[0].numel() ** 0.5))
    return _picklable(layer)


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return self.factor * weight


# torch gives every parametrised layer a class of its own, which pickle cannot find by its name and
# which refuses to be pickled. Here a layer is pickled as one of the class it had before, with the
# parametrisations beside it, and parametrised again when it is read.


def _picklable(layer: nn.Module) -> nn.Module:
    type(layer).__reduce_ex__ = _reduce  # type: ignore[method-assign, assignment]
    return layer


def _reduce(layer: nn.Module, _: Any) -> tuple[Any, ...]:
    plain = parametrize.type_before_parametrizations(layer)
    return plain.__new__, (plain,), layer.__dict__, None, None, _restore


def _restore(layer: nn.Module, state: dict[str, Any]) -> None:
    modules = dict(state["_modules"])
    lists = modules.pop("parametrizations")
    layer.__setstate__({**state, "_modules": modules})
    for name, parametrization in lists.items():
        # A stand-in, for torch to make the class and its property.
        layer.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(layer, name, nn.Identity(), unsafe=True)
        layer.get_submodule("parametrizations").register_module(name, parametrization)
    _picklable(layer)
