"""The negative log-density of a flow with standard normal latents."""

import math
from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.autograd import differentiable
from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_chains,
    check_per_chain,
    check_state,
)

__all__ = ["gaussian_nll"]

_ops = torch.ops.gencore


def gaussian_nll(z: Tensor, log_det: Tensor) -> Tensor:
    r"""The negative log-density of a flow's data, from their latents, in one pass.

    .. math:: -\log p(x) = \tfrac12 \lVert z \rVert^2 + \tfrac{D}{2} \log 2\pi - \log\det

    with D elements a data point and the log-determinant of the map x → z. Summed in float64.
    Differentiable in ``z`` and ``log_det``, to any order.

    Args:
        z: latents [N, ...], float64, float32, bfloat16 or float16.
        log_det: [N], float32, or float64 for float64 ``z``.

    Returns:
        [N] in the dtype of ``log_det``, in nats.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes or devices that do not fit.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, section 3.2.3.

    Example:
        >>> import torch
        >>> from gencore.ops import gaussian_nll
        >>> gaussian_nll(torch.tensor([[3.0, 4.0]]), torch.tensor([0.5]))
        tensor([13.8379])
    """
    op = "gaussian_nll"
    check_state(op, z, "z")
    check_chains(op, z, "z")
    check_per_chain(op, z, log_det, "log_det", "z")
    if state.reference:
        return _reference(z, log_det)
    result: Tensor = _nll(z, log_det)
    return result


def _reference(z: Tensor, log_det: Tensor) -> Tensor:
    """``gaussian_nll`` in pure PyTorch."""
    size = math.prod(z.shape[1:])
    rows = z.reshape(z.shape[0], size).to(log_det.dtype)
    return 0.5 * rows.square().sum(1) + 0.5 * size * math.log(2 * math.pi) - log_det


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    (z,) = ctx.saved_tensors
    wide = z.to(grad.dtype) * grad.view(-1, *(1,) * (z.dim() - 1))
    return wide.to(z.dtype), -grad


_nll = differentiable(_ops.gaussian_nll.default, _differentiate, _setup)


@torch.library.register_fake("gencore::gaussian_nll")
def _(z: Tensor, log_det: Tensor) -> Tensor:
    return z.new_empty(z.shape[0], dtype=accumulation_dtype(z))
