"""Latents of data points, found by gradient descent on a loss that each point has of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from gencore.ops._support.checks import check_chains, check_state, index, number, per_row
from gencore.samplers.energy import energy_and_grad

__all__ = ["check_finite", "infer_latents"]


def infer_latents(
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    num_steps: int,
    step_size: float | Tensor,
) -> Tensor:
    """Descend the losses Lₙ of N data points in their latents δₙ, all points at once:

        δ⁽ⁱ⁾ₙ = δ⁽ⁱ⁻¹⁾ₙ − α ∂Lₙ/∂δ(δ⁽ⁱ⁻¹⁾ₙ),   i = 1 … k.

    Only the gradient by the latents is computed. Parameters that the loss depends on keep their
    `.grad` and `requires_grad`, and the graphs of the steps are freed as they are made. The result
    has no graph: a loss at it trains the parameters with δ held fixed. At a minimum of L that is
    the whole gradient, d/dθ min_δ L(δ, θ) = ∂L/∂θ; before it, an approximation.

    What does not depend on the latents, such as the output of an encoder, belongs in front of the
    call and not into the loss. `gencore.samplers.CompiledEnergy(loss)` is a loss that is compiled.
    Each step calls the loss once: layers that draw or count in training mode (dropout, batch
    normalisation) do so each time.

    Args:
        loss: maps latents [N, ...] to losses [N], each row by itself. Where it has a method
            `energy_and_grad` (`gencore.samplers.GradientEnergy`), that is called instead of
            autograd.
        start: δ⁽⁰⁾, floating point [N, ...]; zeros, say. It is not changed.
        num_steps: k, 0 or more.
        step_size: α, a number or one a row, [N]. Fixed steps descend where α < 2/λ, with λ the
            largest eigenvalue of the Hessian of Lₙ.

    Returns:
        δ⁽ᵏ⁾, [N, ...], detached; also within `torch.no_grad()`.

    Raises:
        TypeError: if the losses are no tensor of real floating-point numbers.
        ValueError: if they do not have shape [N] or do not depend on the latents, for a step size
            that is negative or of another shape, and, on the CPU, if latents are not finite in the
            end, as where the step size is too large. On a GPU, where looking would stop the host,
            such rows are returned as they are; the other rows are right on both.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, Algorithm 3.1.

    Example:
        >>> target = torch.tensor([[1.0], [-2.0]])
        >>> infer_latents(
        ...     lambda delta: (delta - target).square().sum(1),
        ...     torch.zeros(2, 1), num_steps=20, step_size=0.4,
        ... )
        tensor([[ 1.],
                [-2.]])
    """
    op = "infer_latents"
    check_state(op, start, "start")
    check_chains(op, start, "start")
    num_steps = index(op, "num_steps", num_steps)
    step = per_row(op, "step_size", step_size, start)
    if step is None:
        scale: float | Tensor = number(op, "step_size", step_size)
    else:
        scale = step.view(-1, *(1,) * (start.dim() - 1)).to(start.dtype)

    with torch.no_grad():
        latents = start.clone()
        for _ in range(num_steps):
            _, grad = energy_and_grad(loss, latents, owner=op, name="loss(latents)")
            latents = latents - scale * grad
        if latents.device.type == "cpu":
            check_finite(op, latents, "step_size")
    return latents


def check_finite(op: str, latents: Tensor, remedy: str) -> None:
    """Raise where a loss, or its gradient, was not finite: its row is not finite from then on."""
    finite = latents.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        wrong = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"{op}: the latents of {len(wrong)} of {len(latents)} rows (the first is row "
            f"{wrong[0]}) are not finite: their loss or its gradient is not at the start, or grew "
            f"without bound, for which the remedy is a smaller {remedy}"
        )
