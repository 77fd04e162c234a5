"""The loop that samplers share whose gradient may be a noisy estimate, as one of a minibatch."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import random_key, split_key
from gencore.samplers.chain_sampler import ChainSampler
from gencore.samplers.chains import check_positions, rows
from gencore.samplers.energy import energy_and_grad
from gencore.samplers.langevin import LangevinInfo

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


class StochasticGradientSampler(ChainSampler[StochasticGradientState, LangevinInfo]):
    """Chains that move along a gradient which need not be exact, and reject nothing.

    The energy is called anew in each step, so that it may be an unbiased estimate, like the sum
    over a minibatch scaled to the whole of the data. The draws of the chains themselves come from
    their key alone.
    """

    step_size: StepSize

    @abstractmethod
    def _move(
        self,
        state: StochasticGradientState,
        grad: Tensor,
        step_size: float | Tensor,
        key: Tensor,
        first_element: int,
        *,
        in_place: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Position and momentum after a step; `in_place` overwrites those of `state`."""

    def init(
        self, x: Tensor, *, key: Tensor | None = None, first_element: int = 0
    ) -> StochasticGradientState:
        """The state of chains that start at `x` [N, ...]; `key` draws their momenta, if any.

        Example:
            >>> from gencore.samplers import SGLD
            >>> sampler = SGLD(lambda x: 0.5 * x.square().sum(1), step_size=0.1)
            >>> sampler.init(torch.zeros(1, 2))
            StochasticGradientState(position=tensor([[0., 0.]]), momentum=None, num_steps=0)
        """
        check_positions(f"{type(self).__name__}.init", x)
        return StochasticGradientState(x.detach().clone(), None, 0)

    def step(
        self, state: StochasticGradientState, *, key: Tensor | None = None, first_element: int = 0
    ) -> tuple[StochasticGradientState, LangevinInfo]:
        """One step of every chain; `key` is one of `split_key`, or drawn where it is missing.

        Example:
            >>> from gencore.samplers import SGHMC
            >>> sampler = SGHMC(lambda x: 0.5 * x.square().sum(1), step_size=0.1, friction=1.0)
            >>> state, info = sampler.step(sampler.init(torch.ones(3, 2)))
            >>> state.num_steps, info.energy
            (1, tensor([1., 1., 1.]))
        """
        if key is None:
            key = random_key(device=state.position.device)
        with torch.no_grad(), held_norms(self.energy):
            return self._transition(state, key, first_element, in_place=False)

    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[StochasticGradientState, tuple[Tensor, ...]]:
        first_key, *keys = split_key(key, num_steps + 1)
        return self.init(x, key=first_key, first_element=first_element), tuple(keys)

    def _needs_host(self) -> str | None:
        is_number = isinstance(self.step_size, Tensor) or not callable(self.step_size)
        return None if is_number else "its step sizes follow a schedule"

    def _transition(
        self,
        state: StochasticGradientState,
        key: Tensor,
        first_element: int,
        *,
        in_place: bool,
    ) -> tuple[StochasticGradientState, LangevinInfo]:
        energy, grad = energy_and_grad(self.energy, state.position, owner=type(self).__name__)
        step_size = self.step_size
        if callable(step_size) and not isinstance(step_size, Tensor):
            step_size = step_size(state.num_steps)
        energy = energy.clone()  # which may be a view of the positions that are overwritten next
        moved = self._move(state, grad, step_size, key, first_element, in_place=in_place)
        info = LangevinInfo(
            energy,
            torch.linalg.vector_norm(rows(grad), dim=1),
            energy.isfinite() & rows(moved[0]).isfinite().all(1),
        )
        return StochasticGradientState(*moved, state.num_steps + 1), info

    def _is_finite(
        self, state: StochasticGradientState, info: LangevinInfo, is_last: bool
    ) -> Tensor:
        return info.is_finite

    def _collect(self, infos: list[LangevinInfo], state: StochasticGradientState) -> LangevinInfo:
        if infos:
            return LangevinInfo(*map(torch.stack, zip(*infos, strict=True)))
        none = state.position.new_empty((0, len(state.position)))
        return LangevinInfo(none, none, none.bool())
