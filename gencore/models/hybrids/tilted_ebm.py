"""An energy that corrects a density in data space (Yan 2022, §3.3.2)."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gencore.models.flows.flow import Flow
from gencore.models.hybrids.exponential_tilting import (
    BALANCED_LANGEVIN,
    ExponentialTilting,
)
from gencore.objectives.contrastive import ChainKernel
from gencore.samplers.energy import Energy

__all__ = ["TiltedEBM"]


@dataclass(frozen=True)
class TiltedEnergy:
    """x ↦ E(x) − log q(x)."""

    energy: nn.Module
    base: Flow

    def __call__(self, x: Tensor) -> Tensor:
        value: Tensor = self.energy(x)
        return value - self.base.log_prob(x)


class TiltedEBM(ExponentialTilting):
    r"""A flow's density q times exp(−E_θ), with chains in data space.

    .. math:: p_\theta(x) = \frac{q(x)\, e^{-E_\theta(x)}}{Z_\theta} \qquad (3.4)

    Chains have to cross between the modes of the data here. Where q is a flow,
    :class:`gencore.models.FlowBackboneEBM` is the same density with chains in its latent space.

    Args:
        base: the flow q, without a context; it is frozen.
        energy: E_θ, [N, ...] → [N].
        kernel: makes the sampler of an energy; Langevin dynamics with ε = 0.01 if not given.
        num_steps: of a chain.
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)².

    Raises:
        ValueError: for a flow with a context, or a negative number of steps.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (3.4), (3.5).

    Example:
        >>> import torch
        >>> from gencore.models import CouplingFlow, TiltedEBM
        >>> from gencore.nn import MLPEnergy
        >>> ebm = TiltedEBM(CouplingFlow(2, hidden_widths=(8,)), MLPEnergy(2), num_steps=3)
        >>> ebm(torch.randn(16, 2), ebm.start(16)).loss.backward()
        >>> ebm.sample(4).shape
        torch.Size([4, 2])
    """

    base: Flow

    def __init__(
        self,
        base: Flow,
        energy: nn.Module,
        *,
        kernel: ChainKernel = BALANCED_LANGEVIN,
        num_steps: int = 60,
        energy_penalty: float = 0.1,
    ) -> None:
        super().__init__(
            base, energy, kernel=kernel, num_steps=num_steps, energy_penalty=energy_penalty
        )

    @property
    def chain_energy(self) -> Energy:
        return TiltedEnergy(self.energy, self.base)

    def start(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        with torch.no_grad():
            return self.base.sample(num, generator=generator, key=key, first=first)

    def _data(self, state: Tensor) -> Tensor:
        return state
