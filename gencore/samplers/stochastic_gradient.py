"""The loop that samplers share whose gradient may be a noisy estimate, as one of a minibatch."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from gencore.ops import split_key
from gencore.samplers.chains import check_positions, elements_before
from gencore.samplers.unadjusted import UnadjustedSampler

__all__ = ["StepSize", "StochasticGradientSampler", "StochasticGradientState"]

StepSize = float | Tensor | Callable[[int], float]
"""A number, a tensor with one entry a chain, or a schedule: the step size of step 0, 1, …"""


class StochasticGradientState(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[N, ...]: one chain a row."""
    momentum: Tensor | None
    """[N, ...], or None for the dynamics that have none."""
    num_steps: int
    """How many steps led here: where a schedule of step sizes is."""


class StochasticGradientSampler(UnadjustedSampler[StochasticGradientState]):
    """Chains that move along a gradient which need not be exact, and reject nothing.

    The energy is called anew in each step, so that it may be an unbiased estimate, like the sum
    over a minibatch scaled to the whole of the data. The draws of the chains themselves come from
    their key alone.
    """

    step_size: StepSize

    @abstractmethod
    def _move(
        self, state: StochasticGradientState, grad: Tensor, step_size: float | Tensor,
        in_place: bool, **draws: Any,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Position and momentum after a step; `in_place` overwrites those of `state`.

        `draws` are the key and the first element of the step's noise."""

    def init(
        self,
        x: Tensor,
        *,
        key: Tensor | None = None,
        first: int = 0,
        first_element: int | None = None,
    ) -> StochasticGradientState:
        """The state of chains that start at `x`, with momenta where the dynamics have them.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            key: int64 [seed, offset] of the momenta; drawn where it is missing and needed.
            first: number of chains before this part of the batch.
            first_element: the same as the number of their elements.

        Example:
            >>> import torch
            >>> from gencore.samplers import SGLD
            >>> sampler = SGLD(lambda x: 0.5 * x.square().sum(1), step_size=0.1)
            >>> sampler.init(torch.zeros(1, 2))
            StochasticGradientState(position=tensor([[0., 0.]]), momentum=None, num_steps=0)
        """
        name = f"{type(self).__name__}.init"
        check_positions(name, x)
        first_element = elements_before(name, x, first, first_element)
        x = x.detach().clone()
        return StochasticGradientState(x, self._momentum(x, key, first_element), 0)

    def _momentum(self, x: Tensor, key: Tensor | None, first_element: int) -> Tensor | None:
        """Momenta of chains at `x`, for the dynamics that have some."""
        return None

    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[StochasticGradientState, tuple[Tensor, ...]]:
        first_key, *keys = split_key(key, num_steps + 1)
        return self.init(x, key=first_key, first_element=first_element), tuple(keys)

    def _needs_host(self) -> str | None:
        is_number = isinstance(self.step_size, Tensor) or not callable(self.step_size)
        return None if is_number else "its step sizes follow a schedule"

    def _moved(
        self, state: StochasticGradientState, grad: Tensor, key: Tensor, first_element: int, *,
        in_place: bool,
    ) -> StochasticGradientState:  # fmt: skip
        step_size = self.step_size
        if callable(step_size) and not isinstance(step_size, Tensor):
            step_size = step_size(state.num_steps)
        moved = self._move(state, grad, step_size, in_place, key=key, first_element=first_element)
        return StochasticGradientState(*moved, state.num_steps + 1)
