"""Parallel tempering: replicas of every chain at several temperatures, which change places."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.nn.held_norms import held_norms
from gencore.ops import (
    langevin_step,
    leapfrog_end,
    leapfrog_start,
    metropolis_accept,
    replica_swap_,
)
from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers.chain_sampler import ChainSampler
from gencore.samplers.chains import check_positions, first_chain, rows
from gencore.samplers.energy import Energy, energy_and_grad

__all__ = ["ParallelTempering", "TemperingInfo", "TemperingState"]

# A step draws from one key. Replica r takes its noise from region r of the stream, its decisions
# from region 256 + r, and the exchanges take theirs from the last: no batch fills a region.
_REGION = 2**52
_MOST_REPLICAS = 256


class TemperingState(NamedTuple):
    """Where the R replicas of N chains are."""

    position: Tensor
    """[R, N, ...]: row r has the inverse temperature β_r."""
    energy: Tensor
    """[R, N]: E(position), whatever the temperature, never below float32."""
    grad: Tensor
    """[R, N, ...]: ∇E(position)."""
    parity: int
    """Which pairs (r, r + 1) the next step tries to exchange: those with r ≡ parity mod 2."""


class TemperingInfo(NamedTuple):
    """What a step did, or several on average, in fractions of the chains."""

    swap_rate: Tensor
    """[R - 1]: exchanges of the pairs (r, r + 1) that were tried; NaN where none was."""
    move_rate: Tensor
    """[R]: accepted moves of each replica; 1 for the Langevin kernel."""


@dataclass(frozen=True)
class ParallelTempering(ChainSampler[TemperingState, TemperingInfo]):
    """Replicas at inverse temperatures 1 = β_0 > β_1 > …, so that the cold ones cross barriers.

    A step moves every replica once in its density exp(−β_r E), then tries to exchange neighbours:
    even pairs in one step, odd pairs in the next. Replica 0 samples exp(−E), and its chains cross
    barriers on the way through the hot ones. A step costs R gradients, in one call of the energy.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        inverse_temperatures: β, falling from 1; at least 0. Exchanges should succeed in 20 to 40 %
            of the tries, which a geometric sequence comes close to.
        step_size: a > 0 of the moves, a number or one a replica; hot ones bear larger steps.
        kernel: "mala", whose moves are exact, or "langevin", which has the bias of its step size.

    Raises:
        ValueError: for inverse temperatures, step sizes or a kernel that do not fit.

    Example:
        >>> energy = lambda x: 8 * (x.square() - 1).square().sum(1)  # wells at −1 and 1
        >>> sampler = ParallelTempering(energy, (1.0, 0.3, 0.1), step_size=(0.01, 0.03, 0.1))
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = sampler.sample(torch.ones(2000, 1), 200, generator=generator)
        >>> round((x > 0).float().mean().item(), 1)
        0.5

    References:
        Geyer, "Markov chain Monte Carlo maximum likelihood", 1991. Earl and Deem, "Parallel
        tempering: theory, applications, and new perspectives", 2005.
    """

    energy: Energy
    inverse_temperatures: Sequence[float]
    step_size: float | Sequence[float]
    _: KW_ONLY
    kernel: Literal["langevin", "mala"] = "mala"

    _averages_info = True

    def __post_init__(self) -> None:
        beta = _numbers("inverse_temperatures", self.inverse_temperatures)
        falls = all(left > right >= 0 for left, right in pairwise(beta))
        if not beta or beta[0] != 1.0 or not falls or len(beta) > _MOST_REPLICAS:
            raise ValueError(
                f"ParallelTempering: inverse_temperatures are {beta}; expected at most "
                f"{_MOST_REPLICAS} numbers that fall from 1 and are not negative"
            )
        given = self.step_size
        steps = _numbers("step_size", given)
        steps = steps * len(beta) if len(steps) == 1 else steps
        if len(steps) != len(beta) or not all(0 < a < math.inf for a in steps):
            raise ValueError(
                f"ParallelTempering: step_size is {given}; expected a positive number, or one for "
                f"each of the {len(beta)} inverse temperatures"
            )
        check_choice("ParallelTempering", "kernel", self.kernel, ("langevin", "mala"))
        object.__setattr__(self, "inverse_temperatures", beta)
        object.__setattr__(self, "step_size", steps)

    def init(self, x: Tensor) -> TemperingState:
        """All replicas of the chains at `x` [N, ...], at the cost of one gradient.

        Raises:
            ValueError: if an energy or a gradient there is not finite, or the energies do not have
                shape [N].

        Example:
            >>> sampler = ParallelTempering(lambda x: 0.5 * x.square().sum(1), (1.0, 0.5), 0.1)
            >>> sampler.init(torch.tensor([[1.0], [2.0]])).energy
            tensor([[0.5000, 2.0000],
                    [0.5000, 2.0000]])
        """
        check_positions("ParallelTempering.init", x)
        with held_norms(self.energy):
            energy, grad = energy_and_grad(self.energy, x, owner="ParallelTempering")
        wrong = int((~(energy.isfinite() & rows(grad).isfinite().all(1))).sum())
        if wrong:
            raise ValueError(
                f"ParallelTempering.init: {wrong} of {len(x)} chains start where the energy or its "
                "gradient is not finite"
            )
        position, energy, grad = (
            t.detach().expand(len(self.inverse_temperatures), *t.shape).contiguous().clone()
            for t in (x, energy.to(accumulation_dtype(x)), grad)
        )
        return TemperingState(position, energy, grad, 0)

    def _transition(
        self, state: TemperingState, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[TemperingState, TemperingInfo]:
        """Move every replica once, then exchange neighbours."""
        chain = first_chain("ParallelTempering.step", state.position[0], first_element)
        move = self._mala if self.kernel == "mala" else self._langevin
        position, energy, grad, move_rate = move(state, key, chain, first_element)
        replicas = len(position)
        beta = torch.tensor(self.inverse_temperatures, dtype=torch.float64)
        is_swapped = replica_swap_(
            position, energy, beta.to(position.device), state.parity, grad=grad, key=key,
            first_pair=2 * _MOST_REPLICAS * _REGION + (replicas - 1) * chain,
        )  # fmt: skip
        swap_rate = energy.new_full((replicas - 1,), math.nan)
        tried = slice(state.parity, None, 2)
        swap_rate[tried] = is_swapped[:-1][tried].to(energy.dtype).mean(1)
        moved = TemperingState(position, energy, grad, 1 - state.parity)
        return moved, TemperingInfo(swap_rate, move_rate)

    def _position(self, state: TemperingState) -> Tensor:
        """The cold replicas."""
        return state.position[0].clone()

    def _is_finite(self, state: TemperingState) -> Tensor:
        """A replica that is not finite stays so."""
        return (state.position.flatten(2).isfinite().all(2) & state.energy.isfinite()).all(0)

    def _collect(self, infos: list[TemperingInfo]) -> TemperingInfo:
        swaps, moves = (torch.stack(rates) for rates in zip(*infos, strict=True))
        return TemperingInfo(swaps.nanmean(0), moves.mean(0))

    def _no_info(self, state: TemperingState) -> TemperingInfo:
        none = state.energy.new_full((len(state.position),), math.nan)
        return TemperingInfo(none[1:], none)

    def _langevin(
        self, state: TemperingState, key: Tensor, chain: int, first_element: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x' = x − a β ∇E + √(2a) ξ, and the energy and gradient there."""
        position = torch.empty_like(state.position)
        for r, (beta, a) in enumerate(self._replicas):
            position[r] = langevin_step(
                state.position[r], state.grad[r], a * beta, math.sqrt(2 * a), key=key,
                first_element=r * _REGION + first_element,
            )  # fmt: skip
        energy, grad = self._energy_and_grad(position)
        return position, energy, grad, energy.new_ones(len(position))

    def _mala(
        self, state: TemperingState, key: Tensor, chain: int, first_element: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The Langevin step as a proposal: a leapfrog step of size √(2a) with the energy βE."""
        starts = [
            leapfrog_start(
                state.position[r], beta * state.grad[r], math.sqrt(2 * a), key=key,
                first_element=r * _REGION + first_element,
            )
            for r, (beta, a) in enumerate(self._replicas)
        ]  # fmt: skip
        proposal = torch.stack([start.position for start in starts])
        energy, grad = self._energy_and_grad(proposal)
        decided = []
        for r, (beta, a) in enumerate(self._replicas):
            end = leapfrog_end(starts[r].momentum, beta * grad[r], math.sqrt(2 * a))
            # What is kept of a gradient is E's, whatever the energies that decide.
            decided.append(
                metropolis_accept(
                    state.position[r], state.grad[r], beta * state.energy[r],
                    proposal[r], grad[r], beta * energy[r], starts[r].kinetic, end.kinetic,
                    key=key, first_chain=(_MOST_REPLICAS + r) * _REGION + chain,
                )
            )  # fmt: skip
        is_accepted = torch.stack([step.is_accepted for step in decided])
        return (
            torch.stack([step.position for step in decided]),
            torch.where(is_accepted, energy, state.energy),
            torch.stack([step.grad for step in decided]),
            is_accepted.to(energy.dtype).mean(1),
        )

    @property
    def _replicas(self) -> list[tuple[float, float]]:
        """The inverse temperature and the step size of each replica."""
        assert isinstance(self.step_size, Sequence)
        return list(zip(self.inverse_temperatures, self.step_size, strict=True))

    def _energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, grad = energy_and_grad(self.energy, x.flatten(0, 1), owner="ParallelTempering")
        wide = energy.to(accumulation_dtype(x)).clone()  # an energy may be a view of x
        return wide.view(x.shape[:2]), grad.reshape(x.shape).contiguous()


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    """A number, or those of a sequence, a tensor or an array."""
    try:
        return tuple(torch.as_tensor(given, dtype=torch.float64).flatten().tolist())
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"ParallelTempering: {name} must be numbers, got {type(given).__name__}"
        ) from None
