"""The loop of every sampler that advances a state by one transition a key."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, overload

import torch
from torch import Generator, Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import random_key
from gencore.samplers.chains import check_sample, warn_if_not_finite
from gencore.samplers.cuda_graph import check_device, graphed
from gencore.samplers.energy import Energy

__all__ = ["ChainSampler"]


class _State(Protocol):
    """Where the chains are: a NamedTuple with their positions."""

    @property
    def position(self) -> Tensor: ...
    def __iter__(self) -> Iterator[Any]: ...


State = TypeVar("State", bound=_State)
Info = TypeVar("Info", bound=tuple[Tensor, ...])


class ChainSampler(ABC, Generic[State, Info]):
    """A sampler of batches of chains; a subclass says how they start and what a transition does."""

    energy: Energy

    # Whether `return_info` averages over all transitions instead of listing those that are kept.
    _averages_info: ClassVar[bool] = False

    @abstractmethod
    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[State, tuple[Tensor, ...]]:
        """The state of chains at `x`, and the key of each transition."""

    @abstractmethod
    def _transition(
        self, state: State, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[State, Info]:
        """The next state, and what led to it; `in_place` allows to overwrite `state`."""

    @abstractmethod
    def _collect(self, infos: list[Info], state: State) -> Info:
        """What `return_info` returns of the infos that were kept, which may be none."""

    def _at_once(
        self, state: State, num_steps: int, thin: int, return_trajectory: bool, key: Tensor,
        first_element: int,
    ) -> Tensor | None:  # fmt: skip
        """The result of all transitions, where a single kernel makes them."""
        return None

    def _position(self, state: State) -> Tensor:
        """The chains that are asked for."""
        return state.position

    def _is_finite(self, state: State, info: Info, is_last: bool) -> Tensor | None:
        """Which chains [N] a transition left finite; those it did not are warned of at the end."""
        return None

    def _needs_host(self) -> str | None:
        """Why a CUDA graph cannot hold a transition, if it cannot."""
        return "its transition does not work in place"

    def _captured(
        self, state: State, key: Tensor, first_element: int
    ) -> Callable[[Tensor], tuple[State, Info]]:
        """`_transition` in place as a CUDA graph, a function of the key."""
        tensors = [value for value in tuple(state) if isinstance(value, Tensor)]
        start, static_key = [value.clone() for value in tensors], key.clone()
        result: list[tuple[State, Info]] = []

        def step() -> None:
            result[:] = [self._transition(state, static_key, first_element, in_place=True)]

        def restore() -> None:
            for tensor, value in zip(tensors, start, strict=True):
                tensor.copy_(value)

        replay = graphed(f"{type(self).__name__}.sample", step, restore, key.device)

        def replayed(step_key: Tensor) -> tuple[State, Info]:
            static_key.copy_(step_key)
            replay()
            return result[0]

        return replayed

    @overload
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = ...,
        thin: int = ...,
        return_info: Literal[False] = ...,
        cuda_graph: bool = ...,
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
        cuda_graph: bool = ...,
        generator: Generator | None = ...,
        key: Tensor | None = ...,
        first_element: int = ...,
    ) -> tuple[Tensor, Info]: ...
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = False,
        thin: int = 1,
        return_info: bool = False,
        cuda_graph: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor | tuple[Tensor, Info]:
        """Run every chain for `num_steps` transitions.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of transitions.
            return_trajectory: return the states along the way instead of the final ones.
            thin: with `return_trajectory`, keep the states after transitions `thin`,
                `2 * thin`, ..., `num_steps`, and with `return_info` what these did.
            return_info: return what the transitions did as well.
            cuda_graph: capture a transition in a CUDA graph and replay it, which pays in many
                transitions of an energy that takes the device less time than the host needs to
                launch it. The energy must not wait for the device; what it does on the host is not
                repeated. No effect where a whole chain is one kernel.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; the transitions use `split_key(key, num_steps)`, those of
                samplers that draw momenta first one more.
            first_element: number of elements in the chains of the processes before this one, which
                makes the draws those of a single process with all chains.

        Returns:
            Final states [N, ...], or the trajectory [num_steps / thin, N, ...]; with `return_info`
            also the sampler's info, as tensors [num_steps / thin, N] (`ParallelTempering`: averages
            over all transitions).

        Raises:
            ValueError: for starts that `init` refuses, if `num_steps` is negative or `thin` does
                not divide it, if `first_element` is no multiple of the elements of a chain, or for
                `cuda_graph` off a CUDA device or with a sampler whose transition the host directs.
            RuntimeError: if the transition cannot be captured in a CUDA graph; it says why.

        Warns:
            NonFiniteWarning: if chains of a sampler that rejects nothing became non-finite.

        Example:
            >>> from gencore.samplers import HMC
            >>> sampler = HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.2, num_leapfrog=8)
            >>> generator = torch.Generator().manual_seed(0)
            >>> x = sampler.sample(torch.zeros(4000, 2), 20, generator=generator)
            >>> round(x.var().item(), 1)
            1.0
        """
        name = type(self).__name__
        keeps = return_trajectory or (return_info and not self._averages_info)
        check_sample(name, x, num_steps, thin, keeps)
        if cuda_graph:
            check_device(f"{name}.sample", x.device)
            if reason := self._needs_host():
                raise ValueError(f"{name}.sample: cuda_graph=True is not possible: {reason}")
        if key is None:
            key = random_key(generator, device=x.device)
        state, keys = self._start(x, key, num_steps, first_element)
        if num_steps > 0 and not return_info:
            options = (num_steps, thin, return_trajectory, key, first_element)
            with torch.no_grad():
                result = self._at_once(state, *options)
            if result is not None:
                return result
        trajectory = x.new_empty((num_steps // thin, *x.shape)) if return_trajectory else None
        infos: list[Info] = []
        is_finite: Tensor | None = None
        with torch.no_grad(), held_norms(self.energy):
            graph = self._captured(state, keys[0], first_element) if cuda_graph and keys else None
            for number, step_key in enumerate(keys, start=1):
                if graph is not None:
                    state, info = graph(step_key)
                else:
                    state, info = self._transition(state, step_key, first_element, in_place=True)
                now = self._is_finite(state, info, number == num_steps)
                if now is not None:
                    is_finite = now.clone() if is_finite is None else is_finite & now
                is_kept = number % thin == 0
                if trajectory is not None and is_kept:
                    trajectory[number // thin - 1].copy_(self._position(state))
                if return_info and (is_kept or self._averages_info):
                    # Copies: parts of an info may be overwritten by the next transition.
                    infos.append(type(info)(*map(torch.clone, info)))
        if is_finite is not None:
            warn_if_not_finite(name, is_finite, num_steps, "a smaller step_size")
        final = self._position(state) if trajectory is None else trajectory
        return (final, self._collect(infos, state)) if return_info else final
