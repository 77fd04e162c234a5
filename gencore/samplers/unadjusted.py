"""The transition that samplers share which follow a gradient and reject nothing."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.nn.held_norms import held_norms
from gencore.samplers.chain_sampler import ChainSampler, State
from gencore.samplers.chains import rows
from gencore.samplers.energy import energies, energy_and_grad, gradient_alone

__all__ = ["LangevinInfo", "UnadjustedSampler"]


class LangevinInfo(NamedTuple):
    """What one step saw. It has no acceptance: the dynamics are unadjusted."""

    energy: Tensor
    """[N]: the energy at the position that the step left."""
    grad_norm: Tensor
    """[N]: the Euclidean norm of the energy's gradient there, before it is clamped."""
    is_finite: Tensor
    """[N], bool: whether that energy and the new position are finite."""


class UnadjustedSampler(ChainSampler[State, LangevinInfo]):
    """Chains that move along the gradient of the energy, one call of it a step.

    Chains that meet NaN or infinity are never repaired: `step` flags them, `sample` returns them
    as they are and warns.
    """

    @abstractmethod
    def _moved(
        self, state: State, grad: Tensor, key: Tensor, first_element: int, *, in_place: bool
    ) -> State:
        """The state after a step; `in_place` overwrites `state`."""

    def _transition(
        self, state: State, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[State, tuple[Tensor, Tensor]]:
        energy, grad = energy_and_grad(
            self.energy, state.position,
            create_graph=torch.is_grad_enabled(), owner=type(self).__name__,
        )  # fmt: skip
        energy = energy.detach().clone()  # it may be a view of the positions, overwritten next
        return self._moved(state, grad, key, first_element, in_place=in_place), (energy, grad)

    def _advance(
        self, state: State, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[State, tuple[Tensor | None, Tensor]]:
        if torch.is_grad_enabled() or not self._has_gradient_alone():
            return self._transition(state, key, first_element, in_place=in_place)
        grad = gradient_alone(self.energy, state.position, owner=type(self).__name__)
        return self._moved(state, grad, key, first_element, in_place=in_place), (None, grad)

    def _has_gradient_alone(self) -> bool:
        return hasattr(self.energy, "gradient_alone")

    def _info(self, state: State, seen: Any) -> LangevinInfo:
        energy, grad = seen
        grad_norm = torch.linalg.vector_norm(rows(grad.detach()), dim=1)
        is_finite = energy.isfinite() & rows(state.position.detach()).isfinite().all(1)
        return LangevinInfo(energy, grad_norm, is_finite)

    def _no_info(self, state: State) -> LangevinInfo:
        none = state.position.new_empty((0, len(state.position)))
        return LangevinInfo(none, none, none.bool())

    def _witness(self, seen: Any) -> Tensor | None:
        energy: Tensor | None = seen[0]
        return energy

    def _is_finite(self, state: State) -> Tensor:
        is_finite = rows(state.position).isfinite().all(1)
        if self._has_gradient_alone():  # no energy was seen on the way
            with torch.no_grad(), held_norms(self.energy):
                is_finite &= energies(type(self).__name__, self.energy, state.position).isfinite()
        return is_finite
