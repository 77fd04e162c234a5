"""Running the program of a causal network pixel by pixel; `gencore.nn.causal` writes programs."""

import torch
from torch import Tensor

from gencore.ops._support.backend import state as backend_state
from gencore.ops._support.kernel import kernel
from gencore.ops.pixel_plan_reference import reference

__all__ = ["pixel_plan_"]

_run = kernel(torch.ops.gencore.pixel_plan_.default)


def pixel_plan_(
    program: Tensor,
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
    """Follows a program at the positions [begin, end) of images, in place.

    The program is what :class:`gencore.nn.PixelPlan` makes of a network, which says what the
    tensors are. Its arithmetic has the same bits on every machine, for any number of threads: no
    product is fused, and every sum has an order of its own.

    Args:
        program: int64 numbers, on the CPU.
        weights: the numbers that it multiplies by, of the dtype of the state.
        state: features [N, S], float32 or float64, which are written.
        x: levels int64 [N, C, H, W], which are written where they are drawn.
        uniforms: float32 [N, U, H, W], or ``None``: nothing is drawn.
        known: bool, as x: where nothing is drawn.
        parameters: [N, P, H, W] of the levels' distributions, written where given.
        frequencies: int32 [N, end − begin, L], written where given.
        begin: the position where the last call ended.
        end: the position behind the last.

    Raises:
        RuntimeError: for tensors that do not fit, and for numbers that are no program.
    """
    if backend_state.reference:
        reference(program, weights, state, x, uniforms, known, parameters, frequencies, begin, end)
        return
    _run(
        program, weights, state, x, uniforms, known, parameters, frequencies,
        begin, end,
    )  # fmt: skip


@torch.library.register_fake("gencore::pixel_plan_")
def _(*_: object) -> None:
    return None
