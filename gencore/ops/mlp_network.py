"""Small fully connected networks, a few rows at a time in cache."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.backend import state
from gencore.ops._support.checks import check_native_device, check_state
from gencore.ops.conv_network import Settings, autocast, has_kernel, run_kernel
from gencore.ops.mlp import ActivationName, activate, activation_kind, check_layers

__all__ = ["mlp_network"]

_FEWEST_ROWS = 1024  # below which a library's products are not slower


def mlp_network(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    activation: ActivationName = "relu",
    negative_slope: float = 0.01,
) -> Tensor:
    r"""Linear layers with an activation between each two, a few rows at a time in cache.

    .. math:: h_0 = x, \qquad h_l = \sigma(W_l h_{l-1} + b_l), \qquad y = W_L h_{L-1} + b_L

    :func:`conv_network` on images of one pixel: hidden layers never leave the cache, and the
    backward pass computes them again, so that only ``x`` and the parameters are kept.
    Differentiable in all tensors, to any order.

    The kernel runs on a CPU, in float32 and float64, for 1,024 rows or more and at most four layers
    of at most 256 units. Elsewhere (on a GPU, under autocast, in half precision, for fewer rows or
    other networks) these are torch's own linear layers.

    Args:
        x: [N, D].
        weights: W₁ [H₁, D], …, W_L [O, H_{L−1}], one or more.
        biases: b₁ [H₁], …, b_L [O].
        activation: σ: "relu", "leaky_relu", "silu", "softplus" or "tanh".
        negative_slope: slope of the leaky ReLU below zero.

    Returns:
        y [N, O].

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Example:
        >>> import torch
        >>> from gencore.ops import mlp_network
        >>> weights = [torch.tensor([[1.0], [-1.0]]), torch.ones(1, 2)]
        >>> x = torch.tensor([[-3.0], [2.0]])
        >>> mlp_network(x, weights, [torch.zeros(2), torch.zeros(1)])  # relu(x) + relu(-x)
        tensor([[3.],
                [2.]])
    """
    op = "mlp_network"
    check_state(op, x)
    x, weights, biases = autocast(x, weights, biases)
    widths = check_layers(op, x, weights, biases)
    if not weights:
        raise ValueError(f"{op}: got no weights, expected one or more")
    kind, slope = activation_kind(op, activation, negative_slope)
    if state.reference or _has_few_rows(x) or not has_kernel(x, widths):
        return _reference(x, weights, biases, kind, slope)
    check_native_device(op, x)
    settings = Settings(widths, [1] * len(weights), kind, slope)
    return run_kernel(x[:, :, None, None], weights, biases, None, settings).flatten(1)


def _has_few_rows(x: Tensor) -> bool:
    """Whether the library's products are to be taken; also where the graph is for any number."""
    if torch.compiler.is_exporting():
        from torch.fx.experimental.symbolic_shapes import has_static_value  # not before: it is slow

        if not has_static_value(x.shape[0]):
            return True
    return x.shape[0] < _FEWEST_ROWS


def _reference(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    kind: int,
    negative_slope: float,
) -> Tensor:
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if layer:
            x = activate(x, kind, negative_slope)
        x = functional.linear(x, weight, bias)
    return x
