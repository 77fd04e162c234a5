"""The Markov chain that HMC and MALA are settings of: leapfrog proposals, Metropolis decisions."""

from abc import abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from gencore.ops import (
    leapfrog_end,
    leapfrog_start,
    leapfrog_step_,
    metropolis_accept,
    metropolis_accept_,
    mlp_hmc_chain,
)
from gencore.ops.metropolis import FIRST_DECISION
from gencore.samplers.chains import first_chain
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.energy import gradient_alone, network_of
from gencore.samplers.energy_sampler import EnergySampler, MetropolisState

__all__ = ["HamiltonianSampler", "MetropolisInfo"]


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
    inverse_mass: float | Tensor | DenseMass


class HamiltonianSampler(EnergySampler[MetropolisInfo]):
    """Transitions of chains that propose by leapfrog and decide by Metropolis.

    On a `gencore.nn.MLPEnergy`, `sample` is a single kernel with the same draws. A transition of L
    leapfrog steps costs L gradients of the energy.
    """

    max_energy_error: float

    @property
    @abstractmethod
    def leapfrog(self) -> Leapfrog:
        """The integrator that makes a proposal."""

    def _leapfrog_of(self, key: Tensor) -> Leapfrog | None:
        """The integrator of the transition of this key, where it is drawn anew for each."""
        return None

    def _needs_host(self) -> str | None:
        return None

    def _at_once(
        self, state: MetropolisState, num_steps: int, thin: int, return_trajectory: bool,
        key: Tensor, first_element: int,
    ) -> Tensor | None:  # fmt: skip
        network = self._network(state) if self._leapfrog_of(key) is None else None
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
        chain = first_chain(name, state.position, first_element)
        step_size, num_steps, inverse_mass = self._leapfrog_of(key) or self.leapfrog
        if isinstance(inverse_mass, DenseMass):
            return self._whitened_transition(
                inverse_mass, state, key, first_element, in_place=in_place
            )
        x, momentum, kinetic = leapfrog_start(
            state.position, state.grad, step_size, inverse_mass, key=key,
            first_element=first_element,
        )  # fmt: skip
        for _ in range(num_steps - 1):
            grad = gradient_alone(self.energy, x, owner=type(self).__name__)
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

    def _no_info(self, state: MetropolisState) -> MetropolisInfo:
        none = state.energy.new_empty((0, *state.energy.shape))
        return MetropolisInfo(none.bool(), none, none.bool(), none)

    def _network(self, state: MetropolisState) -> dict[str, Any] | None:
        """The energy and the settings of a whole-chain kernel, where they have one."""
        x, (step_size, num_steps, inverse_mass) = state.position, self.leapfrog
        network = network_of(self.energy, x)
        if isinstance(inverse_mass, DenseMass):
            return None
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
