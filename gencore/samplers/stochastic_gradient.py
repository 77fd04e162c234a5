"""The loop that samplers share whose gradient may be a noisy estimate, as one of a minibatch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, overload

import torch
from torch import Generator, Tensor

from gencore.ops import random_key, split_key
from gencore.samplers.chains import check_sample, rows
from gencore.samplers.energy import Energy, energy_and_grad
from gencore.samplers.langevin import LangevinInfo, warn_if_not_finite

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


class StochasticGradientSampler(ABC):
    """Chains that move along a gradient which need not be exact, and reject nothing.

    The energy is called anew in each step, so that it may be an unbiased estimate, like the sum
    over a minibatch scaled to the whole of the data. The draws of the chains themselves come from
    their key alone.
    """

    energy: Energy
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
        with torch.no_grad():
            return self._transition(state, key, first_element, in_place=False)

    @overload
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = ...,
        thin: int = ...,
        return_info: Literal[False] = ...,
        generator: Generator | None = ...,
        key: Tensor | None = ...,
        first_element: int = ...,
    ) -> Tensor: ...
    @overload
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = ...,
        thin: int = ...,
        return_info: Literal[True],
        generator: Generator | None = ...,
        key: Tensor | None = ...,
        first_element: int = ...,
    ) -> tuple[Tensor, LangevinInfo]: ...
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = False,
        thin: int = 1,
        return_info: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor | tuple[Tensor, LangevinInfo]:
        """Run every chain for `num_steps` steps.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of steps, each with one gradient of the energy.
            return_trajectory: return the states along the way instead of the final ones.
            thin: with `return_trajectory`, keep the states after steps `thin`, `2 * thin`, ...,
                `num_steps`, and with `return_info` what these saw.
            return_info: return what the steps saw as well.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; momenta and steps use `split_key(key, num_steps + 1)`.
            first_element: number of elements in the chains of the processes before this one, which
                makes the noise that of a single process with all chains.

        Returns:
            Final states [N, ...], or the trajectory [num_steps / thin, N, ...]; with `return_info`
            also a `LangevinInfo` of tensors [num_steps / thin, N].

        Raises:
            ValueError: if `num_steps` is negative or `thin` does not divide it, if `x` has no
                dimension for the chains, or if the energies do not have shape [N].

        Warns:
            NonFiniteWarning: if an energy along the way or a final state is not finite.

        Example:
            >>> from gencore.samplers import SGLD, polynomial_decay
            >>> sampler = SGLD(lambda x: 0.5 * x.square().sum(1), polynomial_decay(0.3, 1.0, 0.5))
            >>> generator = torch.Generator().manual_seed(0)
            >>> x = sampler.sample(torch.zeros(4000, 2), 100, generator=generator)
            >>> round(x.var().item(), 1)
            1.0
        """
        name = type(self).__name__
        check_sample(name, x, num_steps, thin, return_trajectory or return_info)
        if key is None:
            key = random_key(generator, device=x.device)
        first_key, *keys = split_key(key, num_steps + 1)
        state = self.init(x, key=first_key, first_element=first_element)
        num_kept = num_steps // thin
        trajectory = x.new_empty((num_kept, *x.shape)) if return_trajectory else None
        infos: list[LangevinInfo] = []
        is_finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
        with torch.no_grad():
            for number, step_key in enumerate(keys, start=1):
                state, info = self._transition(state, step_key, first_element, in_place=True)
                is_finite &= info.is_finite
                if number % thin:
                    continue
                if trajectory is not None:
                    trajectory[number // thin - 1].copy_(state.position)
                if return_info:
                    infos.append(info)
        warn_if_not_finite(name, is_finite, num_steps, "a smaller step_size")
        result = state.position if trajectory is None else trajectory
        return (result, _stacked(infos, x)) if return_info else result

    def _transition(
        self,
        state: StochasticGradientState,
        key: Tensor,
        first_element: int,
        *,
        in_place: bool,
    ) -> tuple[StochasticGradientState, LangevinInfo]:
        energy, grad = energy_and_grad(self.energy, state.position)
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


def _stacked(infos: list[LangevinInfo], x: Tensor) -> LangevinInfo:
    if infos:
        return LangevinInfo(*map(torch.stack, zip(*infos, strict=True)))
    none = x.new_empty((0, len(x)))
    return LangevinInfo(none, none, none.bool())
