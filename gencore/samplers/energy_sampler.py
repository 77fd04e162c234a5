"""What the samplers share whose chains carry the energy and its gradient from step to step."""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers.chain_sampler import ChainSampler, Info
from gencore.samplers.chains import check_positions, rows
from gencore.samplers.dense_mass import DenseMass, WhitenedEnergy
from gencore.samplers.energy import energy_and_grad

__all__ = ["EnergySampler", "MetropolisState"]


class MetropolisState(NamedTuple):
    """Where the chains are, with what the next transition needs to know about it."""

    position: Tensor
    """[N, ...]: one chain a row."""
    energy: Tensor
    """[N]: E(position), never below float32."""
    grad: Tensor
    """[N, ...]: ∇E(position)."""


class EnergySampler(ChainSampler[MetropolisState, Info]):
    """Unbiased transitions; the gradient of the state that one ended in is carried to the next."""

    inverse_mass: float | Tensor | DenseMass

    def init(self, x: Tensor) -> MetropolisState:
        """The state of chains at `x`, at the cost of one gradient.

        An infinite energy is allowed: such a chain flies freely, without a force, and accepts any
        proposal that lies where the energy is finite.

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
        with held_norms(self.energy):
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

    def _whitened_transition(
        self, mass: DenseMass, state: MetropolisState, key: Tensor, first_element: int, *,
        in_place: bool,
    ) -> tuple[MetropolisState, Info]:  # fmt: skip
        """The transition of y, from 0, that is that of x = x₀ + L y."""
        x = state.position
        name = type(self).__name__
        energy = WhitenedEnergy(name, self.energy, x, mass.factor_for(f"{name}.step", x))
        sampler: EnergySampler[Info] = replace(cast(Any, self), energy=energy, inverse_mass=1.0)
        start = MetropolisState(torch.zeros_like(x), state.energy, energy.whitened(state.grad))
        after, info = sampler._transition(start, key, first_element, in_place=False)
        has_moved = (rows(after.position) != 0).any(1).reshape(-1, *(1,) * (x.dim() - 1))
        # Chains that have not keep their gradient to the last bit, as their position.
        grad = torch.where(has_moved, energy.unwhitened(after.grad), state.grad)
        moved = MetropolisState(energy.position(after.position), after.energy, grad)
        if not in_place:
            return moved, info
        for tensor, value in zip(state, moved, strict=True):
            tensor.copy_(value)
        return state, info

    def _energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, grad = energy_and_grad(self.energy, x, owner=type(self).__name__)
        return energy.to(accumulation_dtype(x)), grad
