"""The affine coupling of normalizing flows and the step of inverse autoregressive flows."""

from typing import get_args

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    check_chains,
    check_like,
    check_per_chain,
    check_state,
    finite,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.affine_coupling_reference import (
    BOUNDED,
    EXPONENTIAL,
    GATED,
    LARGEST_BOUND,
    MASKS,
    CouplingMask,
    CouplingSettings,
    native_coupling,
    reference_coupling,
    reference_rewind,
    shift_grad_of,
    transformed_channels,
)

__all__ = ["CouplingMask", "affine_coupling", "affine_coupling_backward_from_output", "iaf_step"]

_ops = torch.ops.gencore
_rewind = kernel(_ops.affine_coupling_backward_from_output.default)


def affine_coupling(
    x: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    *,
    bound: float | None = 2.0,
    inverse: bool = False,
    mask: CouplingMask | None = None,
    swap: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Scale and shift what a coupling transforms, with the log-determinant, in one pass.

    .. math:: y = x \odot e^{s} + t, \quad \log\det = \textstyle\sum s,
              \qquad s = b \tanh(r / b)

    with raw scale r, shift t and bound b; the inverse is x = (y − t)·e^{−s}, whose log-determinant
    is −Σs. Differentiable in ``x``, ``raw_scale`` and ``shift``, in both directions and to any
    order: the gradient and its gradient are one pass each. Views of some of a tensor's channels,
    such as the two chunks of one network's output, are read where they are; given whole, such an
    output also gets its gradient whole, which saves the pass that would join the chunks' two.

    Args:
        x: [N, ...], float64, float32, bfloat16 or float16. Half types are computed in float32 and
            rounded once. With a ``mask`` it is whole, and a part of it passes through unchanged.
        raw_scale: r, like the part that is transformed; ``None`` for an additive coupling, s = 0.
        shift: t, like the part that is transformed. ``None``: ``raw_scale`` is [N, 2C', ...] and
            holds r and t, the two halves of dimension 1.
        bound: b, the largest \|s\|, at most 80; ``None`` for s = r without a bound.
        inverse: map y to x, with y given as ``x``.
        mask: ``None``: all of ``x`` is transformed. ``"channel"``: the last C//2 entries of
            dimension 1 are, and the C − C//2 before them pass through. ``"checkerboard"``: of
            [N, C, H, W] the positions with odd h + w are; ``raw_scale`` and ``shift`` have the
            shape of ``x``, and their entries elsewhere play no part.
        swap: transform the other part: the first C − C//2 entries, or even h + w. Without a mask
            there is no other part, and it has no effect.

    Returns:
        (y, log_det): y like ``x``, and [N] in float32, or float64 for float64. NaN stays NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, eq. (4) to (9);
        Dinh, Krueger and Bengio, "NICE: Non-linear independent components estimation", 2014,
        section 3.2, for the additive form.

    Example:
        >>> import torch
        >>> from gencore.ops import affine_coupling
        >>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> raw_scale, shift = torch.zeros(1, 2), torch.ones(1, 2)
        >>> affine_coupling(x, raw_scale, shift, mask="channel")
        (tensor([[1., 2., 4., 5.]]), tensor([0.]))
    """
    op = "affine_coupling"
    settings = _settings(op, raw_scale, shift, bound, inverse, mask, swap)
    _check_operands(op, x, raw_scale, shift, mask, swap)
    return _apply(x, raw_scale, shift, settings)


def iaf_step(z: Tensor, m: Tensor, s: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    r"""The gated step of an inverse autoregressive flow, with its log-determinant, in one pass.

    .. math:: \sigma = \mathrm{sigmoid}(s), \qquad z' = \sigma \odot z + (1 - \sigma) \odot m,
              \qquad \log\det = \textstyle\sum \log \sigma

    where m and s come from an autoregressive network of z. The inverse is
    z = (z' − (1 − σ) ⊙ m) / σ. Differentiable in all three, in both directions and to any order.

    Args:
        z: [N, ...], float64, float32, bfloat16 or float16. Half types are computed in float32 and
            rounded once.
        m: what the gate lets in; same shape, dtype and device.
        s: the gate's logits; same shape, dtype and device. At 1 or 2 the step is close to the
            identity, where training should start.
        inverse: map z' to z, with z' given as ``z``.

    Returns:
        (z', log_det): z' like ``z``, and [N] in float32, or float64 for float64. NaN stays NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improving variational inference
        with inverse autoregressive flow", 2016, eq. (13) and (14).

    Example:
        >>> import torch
        >>> from gencore.ops import iaf_step
        >>> z, m, s = torch.tensor([[2.0]]), torch.tensor([[4.0]]), torch.zeros(1, 1)
        >>> iaf_step(z, m, s)
        (tensor([[3.]]), tensor([-0.6931]))
    """
    op = "iaf_step"
    check_state(op, z, "z")
    check_chains(op, z, "z")
    check_like(op, z, m, "m", "z")
    check_like(op, z, s, "s", "z")
    return _apply(z, s, m, CouplingSettings(GATED, 1.0, bool(inverse), 0, False, False))


def affine_coupling_backward_from_output(
    y: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    grad_y: Tensor,
    grad_log_det: Tensor,
    *,
    bound: float | None = 2.0,
    mask: CouplingMask | None = None,
    swap: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    r"""The backward pass of a coupling's forward map from its output, in one pass.

    .. math:: x = (y - t) \odot e^{-s}, \quad \partial_x = e^{s} \odot g_y, \quad
              \partial_r = s'(r) \odot (g_y \odot (y - t) + g_{\log\det}), \quad \partial_t = g_y

    It is what a reversible network needs, which keeps no inputs for its backward pass. Its results
    have no graph.

    Args:
        y: the output of :func:`affine_coupling` [N, ...].
        raw_scale: r, as it was given to the forward map.
        shift: t, as it was given to the forward map.
        grad_y: ∂L/∂y; same shape, dtype and device as ``y``.
        grad_log_det: ∂L/∂log_det [N], in float32, or float64 for float64.
        bound: as in the forward map.
        mask: as in the forward map.
        swap: as in the forward map.

    Returns:
        (x, ∂L/∂x, ∂L/∂raw_scale, ∂L/∂shift), the last two ``None`` where the operand is. The x is
        bit for bit that of ``affine_coupling(y, ..., inverse=True)``. Gradients may share the
        memory of ``grad_y``.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Gomez, Ren, Urtasun and Grosse, "The reversible residual network: backpropagation without
        storing activations", 2017, algorithm 1, for the idea.

    Example:
        >>> import torch
        >>> from gencore.ops import affine_coupling_backward_from_output
        >>> y, ones = torch.full((1, 1), 5.0), torch.ones(1, 1)
        >>> affine_coupling_backward_from_output(y, 0 * ones, ones, ones, torch.ones(1))
        (tensor([[4.]]), tensor([[1.]]), tensor([[5.]]), tensor([[1.]]))
    """
    op = "affine_coupling_backward_from_output"
    settings = _settings(op, raw_scale, shift, bound, False, mask, swap)
    _check_operands(op, y, raw_scale, shift, mask, swap, "y")
    check_like(op, y, grad_y, "grad_y", "y")
    check_per_chain(op, y, grad_log_det, "grad_log_det")
    if state.reference:
        return reference_rewind(y, raw_scale, shift, grad_y, grad_log_det, settings)
    with torch.no_grad():
        if raw_scale is None:
            x, _ = native_coupling(y, None, shift, *settings._replace(inverse=True))
            return x, grad_y, None, shift_grad_of(grad_y, settings)
        # The kernel, which knows the board, writes what else is a view.
        written = shift is not None and mask == "checkerboard"
        x, x_grad, raw_grad, shift_grad = _rewind(
            y, raw_scale, shift, grad_y, grad_log_det, *settings, written
        )
        if shift is None:
            return x, x_grad, raw_grad, None
        if not written:
            shift_grad = shift_grad_of(grad_y, settings)
    return x, x_grad, raw_grad, shift_grad


def _apply(
    x: Tensor, raw_scale: Tensor | None, shift: Tensor | None, settings: CouplingSettings
) -> tuple[Tensor, Tensor]:
    if state.reference:
        return reference_coupling(x, raw_scale, shift, settings)
    y, log_det = native_coupling(x, raw_scale, shift, *settings)
    return y, log_det


def _settings(
    op: str,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    bound: float | None,
    inverse: bool,
    mask: CouplingMask | None,
    swap: bool,
) -> CouplingSettings:
    """Check the numbers and bring them to the schemas' form."""
    if mask not in MASKS:
        expected = ", ".join(map(repr, get_args(CouplingMask)))
        raise ValueError(f"{op}: mask is {mask!r}; expected None, {expected}")
    kind, limit = EXPONENTIAL, 1.0
    if bound is not None:
        limit = finite(op, "bound", bound)
        if not 0.0 < limit <= LARGEST_BOUND:
            raise ValueError(
                f"{op}: bound is {limit}; expected more than 0 and at most {LARGEST_BOUND:g}, "
                "or None for none"
            )
        if raw_scale is not None:
            kind = BOUNDED
    joint = shift is None
    if joint and raw_scale is None:
        raise TypeError(f"{op}: raw_scale and shift are both None; expected one tensor at least")
    return CouplingSettings(kind, limit, bool(inverse), MASKS.index(mask), bool(swap), joint)


def _check_operands(
    op: str,
    x: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    mask: CouplingMask | None,
    swap: bool,
    name: str = "x",
) -> None:
    check_state(op, x, name)
    check_chains(op, x, name)
    shape, of = list(x.shape), name
    if mask == "channel":
        if x.dim() < 2:
            raise ValueError(
                f"{op}: {name} has shape {list(x.shape)}; mask='channel' expects [N, C, ...]"
            )
        shape[1] = transformed_channels(x.shape[1], swap)
        of = f"the transformed part of {name}"
    elif mask == "checkerboard" and x.dim() != 4:
        raise ValueError(
            f"{op}: {name} has shape {list(x.shape)}; mask='checkerboard' expects [N, C, H, W]"
        )
    if shift is None:
        if x.dim() < 2:
            raise ValueError(
                f"{op}: {name} has shape {list(x.shape)}; without a shift, expected [N, C, ...]"
            )
        shape[1] *= 2
        of = f"{of}, twice over,"
    like = x if shape == list(x.shape) else x.new_empty(()).expand(shape)
    for operand, operand_name in ((raw_scale, "raw_scale"), (shift, "shift")):
        if operand is not None:
            check_like(op, like, operand, operand_name, of)
