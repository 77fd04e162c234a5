"""Where the adaptive solvers of torchdiffeq have to step."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

__all__ = ["AdaptiveSolver", "steps_to_ends"]

AdaptiveSolver = Literal["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"]


def steps_to_ends(solver: str, time: float, like: Tensor) -> dict[str, Any]:
    """`options` of `odeint` for times between 0 and T, by which an adaptive solver takes a step to
    each end, and not one beyond it and back by a polynomial of lower order; none for others.

    Args:
        solver: a method of `odeint`.
        time: T.
        like: has the state's dtype and device.
    """
    if solver not in get_args(AdaptiveSolver):
        return {}
    # The adjoint equation of a solve from T to 0 is solved in negated time, with the same options.
    return {"step_t": torch.tensor([-time, 0.0, time], dtype=like.dtype, device=like.device)}
