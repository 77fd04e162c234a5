"""The Markov chain that HMC and MALA are settings of: leapfrog proposals, Metropolis decisions."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops import (
    leapfrog_end,
    leapfrog_start,
    leapfrog_step_,
    metropolis_accept,
    metropolis_accept_,
    mlp_hmc_chain,
    random_key,
    split_key,
)
from gencore.ops.checks import accumulation_dtype, index
from gencore.ops.metropolis import FIRST_DECISION
from gencore.samplers.chain_sampler import ChainSampler
from gencore.samplers.chains import check_positions, first_chain, rows
from gencore.samplers.energy import Energy, energy_and_grad, network_of

__all__ = ["HamiltonianSampler", "MetropolisInfo", "MetropolisState"]


class MetropolisState(NamedTuple):
    """Where the chains are, with what the next transition needs to know about it."""

    position: Tensor
    """[N, ...]: one chain a row."""
    energy: Tensor
    """[N]: E(position), never below float32."""
    grad: Tensor
    """[N, ...]: ∇E(position)."""


class MetropolisInfo(NamedTuple):
    """What one transition did."""

    is_accepted: Tensor
    """[N], bool: whether the chain moved to its proposal."""
    acceptance_rate: Tensor
    """[N]: the probability min(1, exp(-ΔH)) with which it would."""
    is_divergent: Tensor
    """[N], bool: whether the proposal was not finite, or its ΔH above `max_energy_error`."""
    energy: Tensor
    """[N]: the energy after the transition."""


class Leapfrog(NamedTuple):
    """The integrator of a sampler's proposals."""

    step_size: float | Tensor
    num_steps: int
    inverse_mass: float | Tensor


class HamiltonianSampler(ChainSampler[MetropolisState, MetropolisInfo]):
    """Transitions of chains that propose by leapfrog and decide by Metropolis, at three levels.

    `init` and `step` are functions of states, for loops of your own; `sample` is the loop that
    works in place, and on a `gencore.nn.MLPEnergy` a single kernel with the same draws. A
    transition of L leapfrog steps costs L gradients of the energy: that of the state it ended in
    is carried to the next.
    """

    energy: Energy
    max_energy_error: float

    @property
    @abstractmethod
    def leapfrog(self) -> Leapfrog:
        """The integrator that makes a proposal."""

    def init(self, x: Tensor) -> MetropolisState:
        """The state of chains at `x`, at the cost of one gradient.

        An infinite energy is allowed: such a chain flies freely, without a force, until a
        proposal lies where the energy is finite, and that one is accepted.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.

        Raises:
            ValueError: if an energy is NaN or −∞, or an element of a start, or of the gradient
                where the energy is finite, is not finite; it says in how many chains. Also if
                the energies do not have shape [N].

        Example:
            >>> from gencore.samplers import HMC
            >>> sampler = HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.1, num_leapfrog=10)
            >>> sampler.init(torch.tensor([[3.0, 4.0]]))  # doctest: +NORMALIZE_WHITESPACE
            MetropolisState(position=tensor([[3., 4.]]), energy=tensor([12.5000]),
                            grad=tensor([[3., 4.]]))
        """
        name = f"{type(self).__name__}.init"
        check_positions(name, x)
        x = x.detach().clone(memory_format=torch.contiguous_format)
        energy, grad = self._energy_and_grad(x)
        is_outside = energy == torch.inf
        wrong = {
            "an energy that is NaN or -inf": ~(energy.isfinite() | is_outside),
            "an element that is not finite": ~rows(x).isfinite().all(1),
            "a gradient that is not finite": ~rows(grad).isfinite().all(1) & ~is_outside,
        }
        for what, chains in wrong.items():
            if num := int(chains.sum()):
                raise ValueError(
                    f"{name}: {num} of {len(x)} chains start with {what}; expected starts "
                    "of finite gradient and of an energy that is finite or +inf"
                )
        is_outside = is_outside.reshape(-1, *(1,) * (x.dim() - 1))
        # Copies, since `sample` writes to them: an energy may return a view of x or of a constant.
        return MetropolisState(x, energy.clone(), grad.masked_fill(is_outside, 0.0).contiguous())

    def step(
        self, state: MetropolisState, *, key: Tensor | None = None, first_element: int = 0
    ) -> tuple[MetropolisState, MetropolisInfo]:
        """One transition of every chain; `key` is one of `split_key`, or drawn where it is missing.

        Args:
            state: where the chains are; left unchanged.
            key: int64 [seed, draw] of the momenta and the decisions.
            first_element: number of elements in the chains before this part of the batch.

        Raises:
            ValueError: if `first_element` is no multiple of the elements of a chain.

        Example:
            >>> from gencore.samplers import HMC
            >>> sampler = HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.1, num_leapfrog=10)
            >>> state, info = sampler.step(sampler.init(torch.zeros(100, 2)))
            >>> bool((info.acceptance_rate > 0.9).all())
            True
        """
        if key is None:
            key = random_key(device=state.position.device)
        with torch.no_grad():
            return self._transition(state, key, first_element, in_place=False)

    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[MetropolisState, tuple[Tensor, ...]]:
        return self.init(x), split_key(key, num_steps)

    def _needs_host(self) -> str | None:
        return None

    def _at_once(
        self, state: MetropolisState, num_steps: int, thin: int, return_trajectory: bool,
        key: Tensor, first_element: int,
    ) -> Tensor | None:  # fmt: skip
        network = self._network(state)
        if network is None:
            return None
        return mlp_hmc_chain(
            state.position, **network, num_steps=num_steps, key=key,
            return_trajectory=return_trajectory, thin=thin, first_element=first_element,
        ).position  # fmt: skip

    def _transition(
        self, state: MetropolisState, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[MetropolisState, MetropolisInfo]:
        """Propose by leapfrog from fresh momenta, and decide; `in_place` overwrites `state`."""
        name = f"{type(self).__name__}.step"
        chain = first_chain(name, state.position, index(name, "first_element", first_element))
        step_size, num_steps, inverse_mass = self.leapfrog
        x, momentum, kinetic = leapfrog_start(
            state.position, state.grad, step_size, inverse_mass, key=key,
            first_element=first_element,
        )  # fmt: skip
        energy, grad = self._energy_and_grad(x)
        for _ in range(num_steps - 1):
            leapfrog_step_(x, momentum, grad, step_size, inverse_mass)
            energy, grad = self._energy_and_grad(x)
        end = leapfrog_end(momentum, grad, step_size, inverse_mass)
        accept = metropolis_accept_ if in_place else metropolis_accept
        decided = accept(
            state.position, state.grad, state.energy, x, grad, energy, kinetic, end.kinetic,
            key=key, first_chain=FIRST_DECISION + chain, max_energy_error=self.max_energy_error,
        )  # fmt: skip
        return (
            MetropolisState(decided.position, decided.energy, decided.grad),
            MetropolisInfo(
                decided.is_accepted, decided.acceptance_rate, decided.is_divergent, decided.energy
            ),
        )

    def _collect(self, infos: list[MetropolisInfo], state: MetropolisState) -> MetropolisInfo:
        if infos:
            return MetropolisInfo(*map(torch.stack, zip(*infos, strict=True)))
        none = state.energy.new_empty((0, *state.energy.shape))
        return MetropolisInfo(none.bool(), none, none.bool(), none)

    def _network(self, state: MetropolisState) -> dict[str, Any] | None:
        """The energy and the settings of a whole-chain kernel, where they have one."""
        x, (step_size, num_steps, inverse_mass) = state.position, self.leapfrog
        network = network_of(self.energy, x)
        if isinstance(inverse_mass, Tensor) and inverse_mass.dim() > 0:
            is_diagonal = inverse_mass.shape == (1, x.shape[-1])
            inverse_mass = inverse_mass.reshape(-1)
        else:
            is_diagonal = True
        if network is None or not is_diagonal or not bool(state.energy.isfinite().all()):
            return None
        return {
            **network,
            "step_size": step_size,
            "num_leapfrog": num_steps,
            "inverse_mass": inverse_mass,
            "max_energy_error": self.max_energy_error,
        }

    def _energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, grad = energy_and_grad(self.energy, x)
        return energy.to(accumulation_dtype(x)), grad
