"""Latents of data points, optimised by Adam on a loss that each point has of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from gencore.inference.latent_adam import AdamState, LatentAdam
from gencore.inference.latent_descent import check_finite
from gencore.ops._support.checks import check_chains, check_state, index
from gencore.samplers.energy import energy_and_grad

__all__ = ["optimise_latents"]


def optimise_latents(
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    num_steps: int,
    optimizer: LatentAdam | None = None,
    state: AdamState | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
    factor: float = 1.0,
) -> tuple[Tensor, AdamState]:
    """Minimise the losses Lₙ(zₙ) of N data points in their latents zₙ, all points at once.

    As :func:`infer_latents`, with Adam's steps in the place of plain ones: it needs no step size
    that fits the loss, and bears a loss that draws noise anew in every call. Only the gradient by
    the latents is computed, and the result has no graph.

    Args:
        loss: maps latents [N, ...] to losses [N], each row by itself.
        start: floating point [N, ...]. It is not changed.
        num_steps: 0 or more.
        optimizer: ``LatentAdam()``, of learning rate 0.1, if None.
        state: of the rows, where they have made steps before.
        project: puts latents back where they are to be after each step, for instance onto a ball.
        factor: of the learning rate, for a schedule.

    Returns:
        The latents, detached, and the state of Adam.

    Raises:
        TypeError, ValueError: as :func:`infer_latents`, and for a state of other rows.

    Example:
        >>> import torch
        >>> from gencore.inference import LatentAdam, optimise_latents
        >>> target = torch.tensor([[1.0], [-2.0]])
        >>> latents, state = optimise_latents(
        ...     lambda z: (z - target).square().sum(1), torch.zeros(2, 1), num_steps=300,
        ...     optimizer=LatentAdam(0.05),
        ... )
        >>> bool((latents - target).abs().max() < 1e-3), state.num_steps
        (True, tensor([300, 300]))
    """
    op = "optimise_latents"
    check_state(op, start, "start")
    check_chains(op, start, "start")
    num_steps = index(op, "num_steps", num_steps)
    optimizer = LatentAdam() if optimizer is None else optimizer
    with torch.no_grad():
        latents = start.clone()
        if state is None:
            state = optimizer.start(latents)
        elif state.first.shape != latents.shape or state.num_steps.shape != latents.shape[:1]:
            raise ValueError(
                f"{op}: the state is of latents {list(state.first.shape)}; expected "
                f"{list(latents.shape)}"
            )
        for _ in range(num_steps):
            _, grad = energy_and_grad(loss, latents, owner=op, name="loss(latents)")
            latents, state = optimizer.step(latents, grad, state, factor=factor)
            if project is not None:
                latents = project(latents)
        if latents.device.type == "cpu":
            check_finite(op, latents, "learning rate")
    return latents, state
