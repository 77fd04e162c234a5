"""The affine coupling of normalizing flows."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from gencore.ops.checks import accumulation_dtype

__all__ = ["CouplingMask", "affine_coupling", "affine_coupling_backward_from_output", "split_mask"]

CouplingMask = Literal["channel", "checkerboard"]


def affine_coupling(
    x: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor,
    *,
    bound: float | None = 2.0,
    inverse: bool = False,
    mask: CouplingMask | None = None,
    swap: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""y = x·exp(s) + t with the bounded log-scale s = bound·tanh(raw_scale / bound), and Σ s [N].

    ``raw_scale=None`` is additive, ``bound=None`` the plain s = raw_scale. ``inverse`` is
    x = (y − t)·exp(−s), whose log_det is −Σ s. With a ``mask`` x is whole and part of it passes
    through: ``"channel"`` keeps the first half of dimension 1 (C − C//2 entries) and transforms the
    last C//2, for which raw_scale and shift are given; ``"checkerboard"`` keeps the positions with
    (h + w) even of [N, C, H, W] (raw_scale and shift like x). ``swap`` exchanges the two parts.
    """
    dtype = accumulation_dtype(x)
    part, put = split_mask(x, mask, swap)
    t = shift.to(dtype)
    if raw_scale is None:
        s = torch.zeros_like(t)
    else:
        s = raw_scale.to(dtype)
        s = s if bound is None else bound * torch.tanh(s / bound)
    if mask == "checkerboard":
        s, t = split_mask(s, mask, swap)[0], split_mask(t, mask, swap)[0]
    y = (part.to(dtype) - t) * torch.exp(-s) if inverse else part.to(dtype) * torch.exp(s) + t
    log_det = s.flatten(1).sum(1)
    return put(y.to(x.dtype)), -log_det if inverse else log_det


def split_mask(
    x: Tensor, mask: CouplingMask | None, swap: bool
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The part of x that is transformed, and what puts it back among the rest."""
    if mask is None:
        return x, lambda y: y
    if mask == "channel":
        keep = x.shape[1] - x.shape[1] // 2
        if swap:
            return x[:, :keep], lambda y: torch.cat([y, x[:, keep:]], 1)
        return x[:, keep:], lambda y: torch.cat([x[:, :keep], y], 1)
    h = torch.arange(x.shape[-2], device=x.device)[:, None]
    w = torch.arange(x.shape[-1], device=x.device)
    moved = ((h + w) % 2 == (0 if swap else 1)).to(x.dtype)
    return x * moved, lambda y: torch.where(moved.bool(), y, x)


def affine_coupling_backward_from_output(
    y: Tensor,
    raw_scale: Tensor | None,
    shift: Tensor,
    grad_y: Tensor,
    grad_log_det: Tensor,
    *,
    bound: float | None = 2.0,
    mask: CouplingMask | None = None,
    swap: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """The input of a coupling's forward map, rebuilt from its output, and all gradients."""
    kind: dict[str, Any] = {"bound": bound, "mask": mask, "swap": swap}
    with torch.no_grad():
        x = affine_coupling(y, raw_scale, shift, inverse=True, **kind)[0]
    with torch.enable_grad():
        x = x.requires_grad_()
        t = shift.detach().requires_grad_()
        r = None if raw_scale is None else raw_scale.detach().requires_grad_()
        out = affine_coupling(x, r, t, **kind)
        leaves = [x, t] if r is None else [x, t, r]
        outs = out[:1] if r is None else out
        g = torch.autograd.grad(outs, leaves, (grad_y, grad_log_det)[: len(outs)])
    return x.detach(), g[0], None if r is None else g[2], g[1]
