"""The loop of every sampler that advances a state by one transition a key."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast, overload

import torch
from torch import Generator, Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers.chains import (
    check_positions,
    check_sample,
    elements_before,
    warn_if_not_finite,
)
from gencore.samplers.cuda_graph import check_device, graphed
from gencore.samplers.energy import Energy, standing_still

__all__ = ["ChainSampler"]


class _State(Protocol):
    """Where the chains are: a NamedTuple with their positions."""

    @property
    def position(self) -> Tensor: ...
    def __iter__(self) -> Iterator[Any]: ...


State = TypeVar("State", bound=_State)
Info = TypeVar("Info", bound=tuple[Tensor, ...])


class ChainSampler(ABC, Generic[State, Info]):
    """A sampler of batches of chains at three levels: `init` and `step` are functions of states,
    for loops of your own; `sample` is the loop that may work in place.

    A subclass says how chains start and what a transition does. A transition returns what it has
    seen, and `_info` makes the info of it where somebody asks for it.
    """

    energy: Energy

    # Whether `return_info` averages over all transitions instead of listing those that are kept.
    _averages_info: ClassVar[bool] = False
    # Whether a transition draws the key by itself where `step` gets none.
    _draws_key: ClassVar[bool] = False
    # What may help chains that became non-finite.
    _advice: ClassVar[str] = "a smaller step_size"

    @abstractmethod
    def init(self, x: Tensor) -> State:
        """The state of chains that start at `x` [N, ...]."""

    @abstractmethod
    def _transition(
        self, state: State, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[State, Any]:
        """The next state, and what was seen on the way; `in_place` allows to overwrite `state`.

        It is called with gradients enabled where the chain is to be differentiable."""

    @abstractmethod
    def _no_info(self, state: State) -> Info:
        """The info [0, N] of no transitions."""

    def _advance(
        self, state: State, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[State, Any]:
        """As `_transition`, where nobody asks for the info: what was seen may be less of it."""
        return self._transition(state, key, first_element, in_place=in_place)

    def _info(self, state: State, seen: Any) -> Info:
        """The info of a transition that led to `state`."""
        return cast(Info, seen)

    def _witness(self, seen: Any) -> Tensor | None:
        """Numbers [N] of a transition that are not finite where the chain is lost. They are added
        up, since NaN or infinity stays in a sum: one check at the end covers all transitions."""
        return None

    def _is_finite(self, state: State) -> Tensor | None:
        """Which chains [N] ended where everything is finite; None for a sampler that rejects."""
        return None

    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[State, tuple[Tensor, ...]]:
        """The state of chains at `x`, and the key of each transition."""
        return self.init(x), split_key(key, num_steps)

    def _collect(self, infos: list[Info]) -> Info:
        """What `return_info` returns of the infos that were kept, at least one."""
        return cast(Any, type(infos[0]))(*map(torch.stack, zip(*infos, strict=True)))

    def _at_once(
        self, state: State, num_steps: int, thin: int, return_trajectory: bool, key: Tensor,
        first_element: int,
    ) -> Tensor | None:  # fmt: skip
        """The result of all transitions, where a single kernel makes them."""
        return None

    def _position(self, state: State) -> Tensor:
        """The chains that are asked for."""
        return state.position

    def _needs_host(self) -> str | None:
        """Why a CUDA graph cannot hold a transition, if it cannot."""
        return "its transition does not work in place"

    def _has_no_gradient(self) -> str | None:
        """Why chains cannot be differentiable, if they cannot."""
        return "only Langevin builds a graph through its steps"

    def _captured(
        self,
        move: Callable[[State, Tensor], tuple[State, Info | None]],
        state: State,
        total: Tensor,
        key: Tensor,
    ) -> Callable[[State, Tensor], tuple[State, Info | None]]:
        """`move`, which changes `state` and `total` in place, as a CUDA graph."""
        tensors = [total, *(value for value in tuple(state) if isinstance(value, Tensor))]
        start, static_key = [value.clone() for value in tensors], key.clone()
        result: list[tuple[State, Info | None]] = []

        def step() -> None:
            result[:] = [move(state, static_key)]

        def restore() -> None:
            for tensor, value in zip(tensors, start, strict=True):
                tensor.copy_(value)

        replay = graphed(f"{type(self).__name__}.sample", step, restore, key.device)

        def replayed(_: State, step_key: Tensor) -> tuple[State, Info | None]:
            static_key.copy_(step_key)
            replay()
            return result[0]

        return replayed

    def step(
        self,
        state: State,
        *,
        key: Tensor | None = None,
        first: int = 0,
        first_element: int | None = None,
    ) -> tuple[State, Info]:
        """One transition of every chain.

        Args:
            state: where the chains are; left unchanged.
            key: int64 [seed, offset], one of `split_key`; drawn where it is missing.
            first: number of chains before this part of the batch, which makes the draws those of
                the whole.
            first_element: the same as the number of their elements.

        Raises:
            ValueError: if `first_element` is no multiple of the elements of a chain, for a sampler
                that decides by the chain, or is given beside `first`.

        Example:
            >>> from gencore.samplers import HMC
            >>> sampler = HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.1, num_leapfrog=10)
            >>> state, info = sampler.step(sampler.init(torch.zeros(100, 2)))
            >>> bool((info.acceptance_rate > 0.9).all())
            True
        """
        name = f"{type(self).__name__}.step"
        check_positions(name, state.position)
        first_element = elements_before(name, self._position(state), first, first_element)
        if key is None and not self._draws_key:
            key = random_key(device=state.position.device)
        with torch.no_grad(), held_norms(self.energy):
            moved, seen = self._transition(state, cast(Tensor, key), first_element, in_place=False)
            return moved, self._info(moved, seen)

    @overload
    def sample(
        self, x: Tensor, num_steps: int, *, return_trajectory: bool = ..., thin: int = ...,
        return_info: Literal[False] = ..., differentiable: bool = ..., cuda_graph: bool = ...,
        generator: Generator | None = ..., key: Tensor | None = ..., first: int = ...,
        first_element: int | None = ...,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def sample(
        self, x: Tensor, num_steps: int, *, return_trajectory: bool = ..., thin: int = ...,
        return_info: Literal[True], differentiable: bool = ..., cuda_graph: bool = ...,
        generator: Generator | None = ..., key: Tensor | None = ..., first: int = ...,
        first_element: int | None = ...,
    ) -> tuple[Tensor, Info]: ...  # fmt: skip
    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = False,
        thin: int = 1,
        return_info: bool = False,
        differentiable: bool = False,
        cuda_graph: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_element: int | None = None,
    ) -> Tensor | tuple[Tensor, Info]:
        """Run every chain for `num_steps` transitions.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of transitions.
            return_trajectory: return the states along the way instead of the final ones.
            thin: with `return_trajectory`, keep the states after transitions `thin`,
                `2 * thin`, ..., `num_steps`, and with `return_info` what these did.
            return_info: return what the transitions did as well.
            differentiable: build a graph through all steps, to `x` and to the parameters of the
                energy (memory grows with `num_steps`); `Langevin` alone can.
            cuda_graph: capture a transition in a CUDA graph and replay it, which pays in many
                transitions of an energy that takes the device less time than the host needs to
                launch it. The energy is called four times in all and must not wait for the device;
                what it does on the host (a counter, a choice by Python's `random`) is not
                repeated. No effect where a whole chain is one kernel. Not with `differentiable`.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; the transitions use `split_key(key, num_steps)`, those of
                samplers that draw momenta first one more.
            first: number of chains of the processes before this one, which makes the draws those
                of a single process with all chains.
            first_element: the same as the number of their elements.

        Returns:
            Final states [N, ...], or the trajectory [num_steps / thin, N, ...]; with `return_info`
            also the sampler's info, as tensors [num_steps / thin, N] (`ParallelTempering`: averages
            over all transitions).

        Raises:
            ValueError: for starts that `init` refuses, if `num_steps` is negative or `thin` does
                not divide it, if the energies do not have shape [N], for `first_element` as in
                `step`, for `differentiable` with a sampler that cannot, or for `cuda_graph` off a
                CUDA device or with a sampler whose transition the host directs.
            RuntimeError: if the transition cannot be captured in a CUDA graph; it says why.

        Warns:
            NonFiniteWarning: if chains of a sampler that rejects nothing met an energy that is not
                finite, or became non-finite.

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
        first_element = elements_before(f"{name}.sample", x, first, first_element)
        if differentiable:
            self._check_differentiable(cuda_graph)
        if cuda_graph:
            check_device(f"{name}.sample", x.device)
            if reason := self._needs_host():
                raise ValueError(f"{name}.sample: cuda_graph=True is not possible: {reason}")
        if key is None:
            key = random_key(generator, device=x.device)
        with (
            torch.set_grad_enabled(differentiable),
            held_norms(self.energy),
            standing_still(self.energy),
        ):
            state, keys = self._start(x, key, num_steps, first_element)
            if num_steps > 0 and not (return_info or differentiable):
                options = (num_steps, thin, return_trajectory, key, first_element)
                result = self._at_once(state, *options)
                if result is not None:
                    end = result[-1] if return_trajectory else result
                    self._warn(cast(Any, state)._replace(position=end), num_steps)
                    return result
            # A chain that is differentiable keeps its states, another one copies them.
            path: list[Tensor] = []
            num_copies = num_steps // thin if return_trajectory and not differentiable else 0
            trajectory = x.new_empty((num_copies, *x.shape))
            infos: list[Info] = []
            total = torch.zeros(len(x), dtype=accumulation_dtype(x), device=x.device)

            def move(state: State, step_key: Tensor) -> tuple[State, Info | None]:
                transition = self._transition if return_info else self._advance
                state, seen = transition(
                    state, step_key, first_element, in_place=not differentiable
                )
                if (witness := self._witness(seen)) is not None:
                    total.add_(witness)
                return state, self._info(state, seen) if return_info else None

            advance = self._captured(move, state, total, keys[0]) if cuda_graph and keys else move
            for number, step_key in enumerate(keys, start=1):
                state, info = advance(state, step_key)
                is_kept = number % thin == 0
                if return_trajectory and is_kept and differentiable:
                    path.append(self._position(state))
                elif return_trajectory and is_kept:
                    trajectory[number // thin - 1].copy_(self._position(state))
                if info is not None and (is_kept or self._averages_info):
                    # Copies: parts of an info may be overwritten by the next transition.
                    infos.append(cast(Any, type(info))(*map(torch.clone, info)))
        self._warn(state, num_steps, total)
        if return_trajectory:
            final = torch.stack(path) if path else trajectory
        else:
            final = self._position(state)
        if not return_info:
            return final
        return final, self._collect(infos) if infos else self._no_info(state)

    def _check_differentiable(self, cuda_graph: bool) -> None:
        name = f"{type(self).__name__}.sample"
        if reason := self._has_no_gradient():
            raise ValueError(f"{name}: differentiable=True is not possible: {reason}")
        if cuda_graph:
            raise ValueError(f"{name}: a CUDA graph cannot be differentiable")
        if torch.is_inference_mode_enabled():
            raise ValueError(f"{name}: nothing is differentiable in torch.inference_mode")

    def _warn(self, state: State, num_steps: int, total: Tensor | None = None) -> None:
        """Warn of chains that are not finite, or whose sum of witnesses is not."""
        is_finite = self._is_finite(state)
        if is_finite is not None:
            if total is not None:
                is_finite = is_finite & total.isfinite()
            warn_if_not_finite(type(self).__name__, is_finite, num_steps, self._advice)
