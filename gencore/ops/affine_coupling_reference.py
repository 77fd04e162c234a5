"""The affine coupling in pure PyTorch: the twin of its operators."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.autograd import leaf, ordinary
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import accumulation_dtype

__all__ = [
    "BOUNDED",
    "EXPONENTIAL",
    "GATED",
    "LARGEST_BOUND",
    "MASKS",
    "CouplingMask",
    "CouplingSettings",
    "reference_coupling",
    "reference_rewind",
    "split_mask",
    "transformed_channels",
]

CouplingMask = Literal["channel", "checkerboard"]
# As csrc/ops/affine_coupling.cpp and csrc/math/affine.h number them.
MASKS: tuple[CouplingMask | None, ...] = (None, "channel", "checkerboard")
EXPONENTIAL, BOUNDED, GATED = range(3)
LARGEST_BOUND = 80.0  # of kernels whose exponential takes no infinity into account


class CouplingSettings(NamedTuple):
    """What the family's schemas share, in their order."""

    kind: int
    bound: float
    inverse: bool
    mask: int
    swap: bool
    joint: bool
    """Whether the raw scale holds the shift too, in the second half of dimension 1."""

    @property
    def subtracts_shift(self) -> bool:
        """Whether derivatives depend on the shift: the map is u·(x − t) + …, not u·x + t."""
        return self.inverse or self.kind == GATED


def transformed_channels(channels: int, swap: bool) -> int:
    """How many of a tensor's channels a channel mask transforms."""
    return channels - channels // 2 if swap else channels // 2


def split_mask(
    x: Tensor, mask: CouplingMask | None, swap: bool
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The part of x that is transformed, and what puts it back among the rest."""
    if mask is None:
        return x, lambda y: y
    if mask == "channel":
        moved = transformed_channels(x.shape[1], swap)
        if swap:
            return x[:, :moved], lambda y: torch.cat([y, x[:, moved:]], 1)
        rest = x.shape[1] - moved
        return x[:, rest:], lambda y: torch.cat([x[:, :rest], y], 1)
    board = checkerboard(x, swap)
    return x.masked_fill(~board, 0.0), lambda y: torch.where(board, y, x)


def checkerboard(x: Tensor, swap: bool) -> Tensor:
    """Where a checkerboard transforms [N, C, H, W], as [H, W]."""
    h = torch.arange(x.shape[-2], device=x.device)[:, None]
    w = torch.arange(x.shape[-1], device=x.device)
    return (h + w) % 2 == (0 if swap else 1)


def reference_coupling(
    x: Tensor, raw_scale: Tensor | None, shift: Tensor | None, settings: CouplingSettings
) -> tuple[Tensor, Tensor]:
    """``affine_coupling`` and ``iaf_step`` in pure PyTorch."""
    kind, bound, inverse, mask, swap, joint = settings
    if joint:
        assert raw_scale is not None
        raw_scale, shift = raw_scale.tensor_split(2, 1)
    assert shift is not None
    dtype = accumulation_dtype(x)
    part, put = split_mask(x, MASKS[mask], swap)
    part, t = part.to(dtype), shift.to(dtype)
    raw = torch.zeros_like(t) if raw_scale is None else raw_scale.to(dtype)
    if MASKS[mask] == "checkerboard":
        raw, t = (split_mask(operand, "checkerboard", swap)[0] for operand in (raw, t))
    if kind == GATED:
        s, t = torch.nn.functional.logsigmoid(raw), torch.sigmoid(-raw) * t
    else:
        s = bounded(raw, bound) if kind == BOUNDED else raw
    y = (part - t) * torch.exp(-s) if inverse else part * torch.exp(s) + t
    log_det = s.reshape(s.shape[0], math.prod(s.shape[1:])).sum(1)
    return put(y.to(x.dtype)), -log_det if inverse else log_det


def reference_rewind(
    y: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor | None,
    grad_y: Tensor,
    grad_log_det: Tensor,
    settings: CouplingSettings,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """``affine_coupling_backward_from_output`` in pure PyTorch."""
    with torch.no_grad():
        x = reference_coupling(y, raw_scale, shift, settings._replace(inverse=True))[0]
    with torch.inference_mode(False), torch.enable_grad():
        x = leaf(x)
        raw_scale, shift = (None if t is None else leaf(t) for t in (raw_scale, shift))
        leaves = [t for t in (x, raw_scale, shift) if t is not None]
        outputs = reference_coupling(x, raw_scale, shift, settings)
        pairs = zip(outputs, map(ordinary, (grad_y, grad_log_det)), strict=True)
        heads, tails = zip(*((out, g) for out, g in pairs if out.requires_grad), strict=True)
        x_grad, *grads = torch.autograd.grad(heads, leaves, tails)
    raw_grad = None if raw_scale is None else grads.pop(0)
    return x.detach(), x_grad, raw_grad, None if shift is None else grads.pop(0)
