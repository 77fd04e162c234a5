"""The sequential inverse of an autoregressive layer with a MADE network, in one call."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_native_device,
    check_state,
    clip_bound,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.made_inverse_reference import STEPS, MadeSettings, reference_made_inverse
from gencore.ops.mlp import ActivationName, activation_kind, check_context_term
from gencore.ops.spline import spline_settings

__all__ = ["AutoregressiveStep", "made_inverse"]

AutoregressiveStep = Literal["exponential", "gate", "spline"]

MAX_HIDDEN = 4
"""The most hidden layers."""

_inverse = kernel(torch.ops.gencore.made_inverse.default)


def made_inverse(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    unit_ends: Tensor,
    *,
    step: AutoregressiveStep = "exponential",
    bound: float | None = 2.0,
    tail_bound: float = 3.0,
    min_width: float = 1e-3,
    min_height: float = 1e-3,
    min_derivative: float = 1e-3,
    activation: ActivationName = "relu",
    negative_slope: float = 0.01,
    context_term: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""x with f(x) = z for an autoregressive map f, and log\|det ∂x/∂z\|.

    .. math:: \text{exponential: } x_i = z_i e^{s_i} + m_i, \qquad
              \text{gate: } x_i = m_i + \frac{z_i - m_i}{\sigma(s_i)}, \qquad
              \text{spline: } x_i = \operatorname{RQS}^{-1}_{\theta_i}(z_i), \qquad i = 1, \dots, D

    where m_i and s_i, or θ_i, depend on x_1, …, x_{i-1} through a masked network, with
    s = bound·tanh(s̃ / bound) of its output s̃. The exponential inverts z = (x − m)·exp(−s), the
    gate z = σ(s)·x + (1 − σ(s))·m, the spline z = RQS_θ(x), with the raw parameters θ of
    :func:`gencore.ops.rational_quadratic_spline`. Hidden units are ordered by their degree, the
    number of inputs that they may depend on, and each is computed once, when its last input has
    become known: the whole inverse costs about half of one dense pass of the network, where
    evaluating it anew for every coordinate costs D. What masks would remove is not read. Never
    differentiable: :class:`gencore.nn.MaskedAutoregressive` is.

    Args:
        z: [N, D]; float64, float32, bfloat16 or float16.
        weights: W₁ [H₁, D], …, one to four hidden layers. Of the last, [2D, H_L], the first D rows
            give m, the others s; for splines of K bins, [(3K − 1)D, H_L], the first 3K − 1 rows
            give the widths, heights and derivatives of θ₁, the next ones those of θ₂, and so on.
        biases: [H₁], …, [2D] or [(3K − 1)D].
        unit_ends: int64 [L, D]; entry (l, d) counts the units of hidden layer l of degree at most
            d, d = 0, …, D − 1, which are its first ones. Rows are in ascending order.
        step: "exponential", "gate" or "spline".
        bound: largest \|s\|, or of a spline's raw parameters; ``None``: s is s̃.
        tail_bound, min_width, min_height, min_derivative: of splines, as for
            :func:`gencore.ops.rational_quadratic_spline`.
        activation: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: slope of the leaky ReLU below zero.
        context_term: [N, H₁], added to the first hidden layer's pre-activations.

    Returns:
        x [N, D], and Σ log ∂x_i/∂z_i, [N], in float64 for float64 data and otherwise float32.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", 2015. Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for
        Density Estimation", 2017, eq. (3)-(4). Kingma et al., "Improved Variational Inference with
        Inverse Autoregressive Flow", 2016, eq. (13)-(14). Durkan, Bekasov, Murray and Papamakarios,
        "Neural spline flows", 2019, eq. (6)-(8).

    Example:
        >>> import torch
        >>> from gencore.ops import made_inverse
        >>> weights = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0], [1.0], [0.0], [0.0]])]
        >>> ends = torch.tensor([[0, 1]])  # one hidden unit, which depends on the first input
        >>> made_inverse(torch.ones(1, 2), weights, [torch.zeros(1), torch.zeros(4)], ends)
        (tensor([[1., 2.]]), tensor([0.]))
    """
    op = "made_inverse"
    check_choice(op, "step", step, STEPS)
    outputs = _check_network(op, z, weights, biases, step)
    _check_ends(op, z, unit_ends, weights)
    check_context_term(op, z, context_term, weights[0].shape[0])
    spline = spline_settings(
        op, (outputs + 1) // 3, tail_bound, bound, min_width, min_height, min_derivative,
        inverse=True,
    )  # fmt: skip
    settings = MadeSettings(
        *activation_kind(op, activation, negative_slope),
        STEPS[step],
        clip_bound(op, "bound", bound),
        spline.tail_bound, spline.min_width, spline.min_height, spline.min_derivative,
    )  # fmt: skip
    dtype = accumulation_dtype(z)
    weights = [weight.detach().to(dtype) for weight in weights]
    biases = [bias.detach().to(dtype) for bias in biases]
    term = None if context_term is None else context_term.detach().to(dtype)
    if state.reference:
        return reference_made_inverse(z.detach(), weights, biases, unit_ends, term, settings)
    check_native_device(op, z)
    x, log_det = _inverse(z.detach(), weights, biases, unit_ends, term, *settings)
    return x, log_det


def _check_network(
    op: str, z: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], step: str
) -> int:
    """The number of outputs that belong to an input, or raise."""
    check_state(op, z, "z")
    if z.dim() != 2 or z.shape[1] == 0:
        raise ValueError(f"{op}: z has shape {list(z.shape)}, expected [N, D]")
    if len(weights) != len(biases) or not 2 <= len(weights) <= MAX_HIDDEN + 1:
        raise ValueError(
            f"{op}: got {len(weights)} weights and {len(biases)} biases, expected as many of both, "
            f"2 to {MAX_HIDDEN + 1}"
        )
    inputs = z.shape[1]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        for name, tensor in (("weight", weight), ("bias", bias)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{op}: a {name} must be a tensor, got {type(tensor).__name__}")
            if tensor.dtype != z.dtype or tensor.device != z.device:
                raise ValueError(
                    f"{op}: layer {layer}'s {name} is {tensor.dtype} on {tensor.device}, "
                    f"z is {z.dtype} on {z.device}"
                )
        outputs = weight.shape[0] if weight.dim() == 2 else 0
        fits, rows = outputs > 0, "H"
        if layer == len(weights) - 1:
            features = z.shape[1]
            each = outputs // features
            of_splines = each > 0 and (each + 1) % 3 == 0
            fits = outputs == each * features and (of_splines if step == "spline" else each == 2)
            rows = f"(3K - 1) * {features}" if step == "spline" else f"{2 * features}"
        if weight.shape != (outputs, inputs) or bias.shape != (outputs,) or not fits:
            raise ValueError(
                f"{op}: layer {layer} has a weight of shape {list(weight.shape)} and a bias of "
                f"shape {list(bias.shape)}, expected [{rows}, {inputs}] and [{rows}]"
            )
        inputs = outputs
    return inputs // z.shape[1]


def _check_ends(op: str, z: Tensor, unit_ends: Tensor, weights: Sequence[Tensor]) -> None:
    if not isinstance(unit_ends, Tensor):
        raise TypeError(f"{op}: unit_ends must be a tensor, got {type(unit_ends).__name__}")
    expected = [len(weights) - 1, z.shape[1]]
    if (
        list(unit_ends.shape) != expected
        or unit_ends.dtype != torch.int64
        or unit_ends.device != z.device
    ):
        raise ValueError(
            f"{op}: unit_ends is {unit_ends.dtype} of shape {list(unit_ends.shape)} on "
            f"{unit_ends.device}, expected torch.int64 of shape {expected} on {z.device}"
        )
    # Values on a GPU are not looked at: that would stop the host. The kernels stay within bounds.
    if unit_ends.device.type != "cpu" or torch.compiler.is_compiling():
        return
    widths = unit_ends.new_tensor([weight.shape[0] for weight in weights[:-1]])
    if bool((unit_ends.diff(dim=1) < 0).any() | (unit_ends < 0).any()) or bool(
        (unit_ends > widths[:, None]).any()
    ):
        raise ValueError(
            f"{op}: each row of unit_ends must ascend from 0 or more to at most the layer's width, "
            f"{widths.tolist()}"
        )
