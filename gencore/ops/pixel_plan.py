"""Running the program of a causal network pixel by pixel; `gencore.nn.causal` writes programs."""

import torch
from torch import Tensor

from gencore.ops._support.kernel import kernel

__all__ = ["pixel_plan_"]

_run = kernel(torch.ops.gencore.pixel_plan_.default)


def pixel_plan_(
    program: Tensor,
    device_program: Tensor,
    weights: Tensor,
    state: Tensor,
    x: Tensor,
    uniforms: Tensor | None,
    known: Tensor | None,
    parameters: Tensor | None,
    frequencies: Tensor | None,
    begin: int,
    end: int,
) -> None:
    """Follows a program at positions [begin, end), in place; see :class:`gencore.nn.PixelPlan`."""
    _run(
        program, device_program, weights, state, x, uniforms, known, parameters, frequencies,
        begin, end,
    )  # fmt: skip
