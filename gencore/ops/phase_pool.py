"""Pooling into a magnitude and a phase, and back: a soft maximum and where it is."""

import operator
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.backend import state, transforming
from gencore.ops._support.checks import accumulation_dtype, check_accumulated, check_state, number
from gencore.ops.phase_pool_reference import (
    Pools,
    native_pool,
    native_unpool,
    pool_reference,
    unpool_reference,
)

__all__ = ["UnpoolMode", "phase_pool", "phase_unpool"]

UnpoolMode = Literal["clamp", "drop"]


def phase_pool(
    z: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    beta: float | Tensor = 1.0,
    *,
    padding: int | Sequence[int] = (0, 0),
    circular: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""The soft maximum of each pool, and the soft place of it.

    .. math:: w_i = \frac{e^{\beta z_i}}{\sum_{j \in \mathcal N_k} e^{\beta z_j}}, \qquad
              m_k = \sum_{i \in \mathcal N_k} w_i z_i, \qquad
              p_k = \sum_{i \in \mathcal N_k} w_i c_i

    over the elements of a pool of features, rows and columns, whose coordinates c run from −1 to 1
    in equal steps along each axis. β = 0 gives the mean and a phase of zero, β → ∞ the maximum and
    its place. Differentiable in ``z`` and β, to any order; gradients are the same bit for bit for
    any number of threads, and on a GPU from run to run.

    Args:
        z: maps [N, F, H, W], float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once. A value that is not finite concerns its pools alone, of which
            it makes no more than the magnitude NaN or infinite.
        kernel_size: elements of a pool along (features, rows, columns); an int is all three.
        stride: elements from a pool to the next along each; ``kernel_size`` if ``None``.
        beta: β ≥ 0, a number or a tensor, one [] for all pools or [G] for each group of features,
            of the dtype of ``z``, or float32 where that is a half type.
        padding: places before and after the (rows, columns) that pools may reach. What is there is
            left out of a pool, whose coordinates stay.
        circular: whether the last features are followed by the first ones. Then G = F / stride,
            and else (F − kernel) / stride + 1, rounded down.

    Returns:
        The magnitude m [N, G, h, w] and the phase p [N, G, D, h, w], of the dtype of ``z``, where D
        counts the axes along which a pool has more than one element, in their order.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, eqs. (3.7) and (3.8).

    Example:
        >>> import torch
        >>> from gencore.ops import phase_pool
        >>> z = torch.tensor([[[[0.0, 0.0, 9.0, 0.0, 0.0, 2.0, 2.0, 0.0]]]])
        >>> phase_pool(z, (1, 1, 4), beta=100.0)  # four columns: −1, −1/3, 1/3, 1
        (tensor([[[[9., 2.]]]]), tensor([[[[[0.3333, 0.0000]]]]]))
    """
    op = "phase_pool"
    check_state(op, z, "z")
    if z.dim() != 4:
        raise ValueError(f"{op}: z has shape {list(z.shape)}, expected [N, F, H, W]")
    pools = _pools(op, kernel_size, stride, padding, circular)
    features, rows, columns = z.shape[1:]
    groups = _counts(op, pools, (features, rows, columns))[0]
    if isinstance(beta, Tensor):
        _check_beta(op, beta, z, groups)
        beta = beta.to(accumulation_dtype(z))
    else:
        beta = number(op, "beta", beta)
    if state.reference:
        magnitude, phase = pool_reference(z, beta, pools)
    elif isinstance(beta, Tensor):
        magnitude, phase, _ = native_pool(z, beta, 0.0, *pools)
    else:
        magnitude, phase, _ = native_pool(z, None, beta, *pools)
    return magnitude.to(z.dtype), phase.to(z.dtype)


def phase_unpool(
    magnitude: Tensor,
    phase: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    *,
    output_size: Sequence[int],
    padding: int | Sequence[int] = (0, 0),
    circular: bool = True,
    mode: UnpoolMode = "clamp",
) -> Tensor:
    r"""Maps with each magnitude at the place that its phase says, between elements if need be.

    .. math:: z_i = \sum_{k :\, i \in \mathcal N_k} m_k \prod_d
              \max\!\left(0, 1 - \frac{|c_{i,d} - p_{k,d}|}{h_d}\right), \qquad
              h_d = \frac{2}{n_d - 1}

    with the pools of :func:`phase_pool`, n_d elements along axis d, of coordinates c from −1 to 1.
    For a phase in [−1, 1] the elements of a pool that lies inside of the map sum to m, and their
    centre of mass is p. Differentiable in ``magnitude`` and ``phase``, to any order; on an element,
    where z has a kink in p, the derivative is that towards the next element. Gradients are the same
    bit for bit for any number of threads, and on a GPU from run to run.

    Args:
        magnitude: m [N, G, h, w], float64, float32, bfloat16 or float16. Half types are computed in
            float32 and rounded once.
        phase: p [N, G, D, h, w], of the dtype of ``magnitude``, for the D axes along which a pool
            has more than one element.
        kernel_size: elements of a pool along (features, rows, columns); an int is all three.
        stride: elements from a pool to the next along each; ``kernel_size`` if ``None``.
        output_size: (F, H, W), of whose pools there are G · h · w.
        padding: places before and after the (rows, columns) that pools may reach. What falls there
            is left out.
        circular: whether the last features are followed by the first ones.
        mode: of a phase outside of [−1, 1]: ``"clamp"`` takes the nearer bound, with a gradient of
            zero; ``"drop"`` leaves out what falls beyond the pool.

    Returns:
        z [N, F, H, W], of the dtype of ``magnitude``. A phase of NaN makes its pool's elements NaN.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, §3.2.1, where it is in words
        ("through linear interpolation").

    Example:
        >>> import torch
        >>> from gencore.ops import phase_unpool
        >>> magnitude, phase = torch.full((1, 1, 1, 1), 6.0), torch.tensor([-0.5])
        >>> phase_unpool(magnitude, phase.view(1, 1, 1, 1, 1), (1, 1, 4), output_size=(1, 1, 4))
        tensor([[[[1.5000, 4.5000, 0.0000, 0.0000]]]])
    """
    op = "phase_unpool"
    check_state(op, magnitude, "magnitude")
    check_state(op, phase, "phase")
    check_choice(op, "mode", mode, get_args(UnpoolMode))
    pools = _pools(op, kernel_size, stride, padding, circular)
    features, rows, columns = _integers(op, "output_size", output_size, 3)
    sizes = features, rows, columns
    _check_operands(op, magnitude, phase, _counts(op, pools, sizes), len(pools.axes))
    clamp = mode == "clamp"
    if state.reference:
        return unpool_reference(magnitude, phase, pools, sizes, clamp).to(magnitude.dtype)
    z: Tensor = native_unpool(magnitude, phase, *sizes, clamp, *pools)
    return z


def _integers(op: str, name: str, value: Any, length: int) -> list[int]:
    try:
        if isinstance(value, str):
            raise TypeError
        values = list(value) if isinstance(value, Sequence) else [value] * length
        values = [v if isinstance(v, torch.SymInt) else operator.index(v) for v in values]
    except TypeError:
        raise TypeError(f"{op}: {name} must be integers, got {value!r}") from None
    if len(values) != length:
        raise ValueError(f"{op}: {name} has {len(values)} numbers, expected {length}")
    return values


def _pools(op: str, kernel_size: Any, stride: Any, padding: Any, circular: bool) -> Pools:
    kernel = _integers(op, "kernel_size", kernel_size, 3)
    strides = kernel if stride is None else _integers(op, "stride", stride, 3)
    paddings = _integers(op, "padding", padding, 2)
    if min(kernel) < 1 or max(kernel) == 1:
        raise ValueError(
            f"{op}: kernel_size is {tuple(kernel)}, expected positive numbers, one of them above 1"
        )
    if min(strides) < 1 or max(strides) >= 2**30:
        raise ValueError(f"{op}: stride is {tuple(strides)}, expected from 1 to below 2**30")
    if min(paddings) < 0 or any(p >= k for p, k in zip(paddings, kernel[1:], strict=True)):
        raise ValueError(
            f"{op}: padding is {tuple(paddings)}, expected from 0 to below the kernel's "
            f"{tuple(kernel[1:])}, so that every pool has an element"
        )
    numbers: tuple[Any, ...] = (*kernel, *strides, *paddings, bool(circular))
    return Pools(*numbers)


def _counts(op: str, pools: Pools, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many pools there are along each axis, or raise."""
    axes = zip(sizes, pools.padding, pools.kernel, strict=True)
    if any(size < 1 or size + 2 * padding < kernel for size, padding, kernel in axes):
        raise ValueError(
            f"{op}: a map of {tuple(sizes)} features, rows and columns is smaller than a pool of "
            f"{pools.kernel}"
        )
    if pools.circular and sizes[0] % pools.stride_features != 0:
        raise ValueError(
            f"{op}: {sizes[0]} features in a circle are no multiple of the stride of "
            f"{pools.stride_features}"
        )
    return pools.counts(sizes)


def _check_beta(op: str, beta: Tensor, z: Tensor, groups: int) -> None:
    check_state(op, beta, "beta")
    check_accumulated(op, z, beta, "beta", "z")
    if list(beta.shape) not in ([], [groups]):
        raise ValueError(
            f"{op}: beta has shape {list(beta.shape)}, expected [] or [{groups}], a number a group"
        )
    # Values on a GPU are not looked at: that would stop the host.
    if beta.device.type == "cpu" and not (torch.compiler.is_compiling() or transforming()):
        wrong = ~((beta >= 0) & (beta < torch.inf))
        if bool(wrong.any()):
            raise ValueError(
                f"{op}: beta must be finite and not negative, got {beta[wrong][0].item()}"
            )


def _check_operands(
    op: str, magnitude: Tensor, phase: Tensor, counts: tuple[int, int, int], dims: int
) -> None:
    if magnitude.dim() != 4 or list(magnitude.shape[1:]) != list(counts):
        raise ValueError(
            f"{op}: magnitude has shape {list(magnitude.shape)}, expected [N, G, h, w] with "
            f"{list(counts)} for this output_size"
        )
    expected = [magnitude.shape[0], counts[0], dims, *counts[1:]]
    if list(phase.shape) != expected:
        raise ValueError(f"{op}: phase has shape {list(phase.shape)}, expected {expected}")
    if phase.dtype != magnitude.dtype:
        raise TypeError(f"{op}: phase is {phase.dtype}, magnitude {magnitude.dtype}")
    if phase.device != magnitude.device:
        raise ValueError(f"{op}: phase is on {phase.device}, magnitude on {magnitude.device}")
