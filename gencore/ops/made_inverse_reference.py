"""The sequential inverse of a MADE layer in torch: reference, masks, shapes of the results."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.mlp import activate
from gencore.ops.spline_reference import SplineSettings, reference_spline

__all__ = ["STEPS", "MadeSettings", "made_masks", "reference_made_inverse"]

# In the order of csrc/arguments/made.h.
STEPS: dict[str, int] = {"exponential": 0, "gate": 1, "spline": 2}


class MadeSettings(NamedTuple):
    """The numbers of the schema, in their order there."""

    kind: int
    negative_slope: float
    step: int
    bound: float
    """Largest |s| or size of a spline's raw parameter, or infinite."""
    tail_bound: float
    min_width: float
    min_height: float
    min_derivative: float


def made_masks(unit_ends: Tensor, widths: Sequence[int], outputs: Tensor) -> list[Tensor]:
    """The masks [out, in] of the weights of a network whose hidden layers have those widths, and
    whose outputs belong to the inputs `outputs`."""
    inputs = torch.arange(unit_ends.shape[1], device=unit_ends.device)
    degrees = [inputs + 1, *_degrees(unit_ends, widths), outputs]
    return [following[:, None] >= preceding[None, :] for preceding, following in pairwise(degrees)]


def _degrees(unit_ends: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """The degree of each hidden unit, a tensor a layer."""
    return [
        torch.searchsorted(ends.contiguous(), torch.arange(width, device=ends.device), right=True)
        for ends, width in zip(unit_ends, widths, strict=True)
    ]


def reference_made_inverse(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    unit_ends: Tensor,
    context_term: Tensor | None,
    settings: MadeSettings,
) -> tuple[Tensor, Tensor]:
    """``made_inverse`` in pure PyTorch: D passes of the masked network, each of which settles one
    coordinate and the units of its degree. Until then both are zero, so that nothing that is not
    finite stands behind a mask."""
    y = z.to(accumulation_dtype(z))
    widths = [weight.shape[0] for weight in weights[:-1]]
    positions = torch.arange(z.shape[1], device=z.device)
    each, is_spline = weights[-1].shape[0] // z.shape[1], settings.step == STEPS["spline"]
    outputs = positions.repeat_interleave(each) if is_spline else positions.repeat(each)
    masks, degrees = made_masks(unit_ends, widths, outputs), _degrees(unit_ends, widths)
    weights = [weight.where(mask, 0.0) for weight, mask in zip(weights, masks, strict=True)]
    x, log_det = torch.zeros_like(y), y.new_zeros(y.shape[0])
    hidden = [y.new_zeros(y.shape[0], width) for width in widths]
    for i in range(z.shape[1]):
        own = slice(i * each, (i + 1) * each) if is_spline else slice(i, None, z.shape[1])
        known = x
        for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
            units = functional.linear(known, weight, bias)
            if layer == 0 and context_term is not None:
                units = units + context_term
            units = activate(units, settings.kind, settings.negative_slope)
            known = hidden[layer] = torch.where(degrees[layer] == i, units, hidden[layer])
        raw = functional.linear(known, weights[-1], biases[-1])[:, own]
        x[:, i], log_slope = _solve(y[:, i], raw, settings)
        log_det = log_det + log_slope
    return x.to(z.dtype), log_det


def _solve(z: Tensor, raw: Tensor, settings: MadeSettings) -> tuple[Tensor, Tensor]:
    """One coordinate x of z, both [N], and log ∂x/∂z, of its raw outputs [N, 2 or 3K − 1]."""
    if settings.step == STEPS["spline"]:
        bins = (raw.shape[1] + 1) // 3
        widths, heights, derivatives = raw[:, None].split([bins, bins, bins - 1], 2)
        spline = SplineSettings(
            settings.tail_bound, settings.bound, settings.min_width, settings.min_height,
            settings.min_derivative, True,
        )  # fmt: skip
        x, log_slope = reference_spline(z[:, None], widths, heights, derivatives, spline)
        return x[:, 0], log_slope
    m, s = raw.unbind(1)
    s = s if settings.bound == math.inf else bounded(s, settings.bound)
    if settings.step == STEPS["gate"]:
        return m + (z - m) * (1 + torch.exp(-s)), functional.softplus(-s)
    return z * torch.exp(s) + m, s


@torch.library.register_fake("gencore::made_inverse")
def _(z: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape), z.new_empty(z.shape[:1], dtype=accumulation_dtype(z))
