"""Adam on the latents of data points, each row with a state of its own."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.checks import accumulation_dtype, finite, number

__all__ = ["AdamState", "LatentAdam"]


class AdamState(NamedTuple):
    """What Adam remembers of N rows of latents."""

    first: Tensor
    """Mean of the gradients, of the latents' shape [N, ...], in float32 or float64."""
    second: Tensor
    """Mean of their squares, likewise."""
    num_steps: Tensor
    """How many steps a row has made, int64 [N]."""


@dataclass(frozen=True)
class LatentAdam:
    r"""Adam's step for rows of latents that are not all updated at once.

    .. math:: z_n \leftarrow z_n - \alpha\, \hat m_n / (\sqrt{\hat v_n} + \epsilon)

    Every row counts its own steps, by which its means m and v are corrected: a row that is met for
    the first time late moves as far as one that was met at first. (`torch.optim.SparseAdam` has one
    count for all rows.)

    Args:
        learning_rate: α.
        betas: decay of the two means.
        eps: ε.

    Raises:
        ValueError: for a learning rate or an ε that is negative, or decays outside [0, 1).

    References:
        Kingma and Ba, "Adam: a method for stochastic optimization", 2015, Algorithm 1.

    Example:
        >>> import torch
        >>> from gencore.inference import LatentAdam
        >>> adam, latents = LatentAdam(0.1), torch.zeros(2, 3)
        >>> latents, state = adam.step(latents, torch.ones(2, 3), adam.start(latents))
        >>> latents[0], state.num_steps
        (tensor([-0.1000, -0.1000, -0.1000]), tensor([1, 1]))
    """

    learning_rate: float = 1e-1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        number("LatentAdam", "learning_rate", self.learning_rate)
        number("LatentAdam", "eps", self.eps)
        betas = [finite("LatentAdam", "betas", beta) for beta in self.betas]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"LatentAdam: betas are {self.betas}; expected two from 0 up, < 1")

    def start(self, latents: Tensor) -> AdamState:
        """The state of rows [N, ...] that have made no step."""
        num_steps = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        # Of bfloat16 0.999 is 1, and a mean of squares would never move.
        zeros = torch.zeros_like(latents, dtype=accumulation_dtype(latents))
        return AdamState(zeros, zeros.clone(), num_steps)

    def step(
        self, latents: Tensor, grad: Tensor, state: AdamState, *, factor: float = 1.0
    ) -> tuple[Tensor, AdamState]:
        """Latents and state after a step; what was given is left as it is.

        Args:
            latents: [N, ...].
            grad: of each row's loss, of the same shape.
            state: of the same rows.
            factor: of the learning rate, for a schedule.
        """
        grad = grad.to(state.first.dtype)
        first = torch.lerp(state.first, grad, 1 - self.betas[0])
        second = torch.lerp(state.second, grad.square(), 1 - self.betas[1])
        num_steps = state.num_steps + 1
        column = num_steps.view(-1, *(1,) * (latents.dim() - 1)).to(first.dtype)
        mean = first / (1 - self.betas[0] ** column)
        root = (second / (1 - self.betas[1] ** column)).sqrt()
        moved = torch.addcdiv(
            latents.to(first.dtype), mean, root + self.eps, value=-factor * self.learning_rate
        )
        return moved.to(latents.dtype), AdamState(first, second, num_steps)
