"""The Metropolis-adjusted Langevin algorithm."""

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from gencore.ops._support.checks import number
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.energy import Energy
from gencore.samplers.hamiltonian import HamiltonianSampler, Leapfrog

__all__ = ["MALA"]


@dataclass(frozen=True)
class MALA(HamiltonianSampler):
    """The Metropolis-adjusted Langevin algorithm: Langevin steps, corrected to leave no bias.

    A transition proposes, with the step size a and fresh ξ ~ N(0, I),

        x' = x − a m⁻¹ ∇E(x) + √(2a m⁻¹) ξ

    and accepts with probability min(1, e^(E(x) − E(x')) q(x | x') / q(x' | x)), q the density of
    the proposal. It is HMC with one leapfrog step of size √(2a), whose e^(−ΔH) is that ratio
    (Neal 2011, §5.5.2), and costs one gradient.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: a > 0, a number or one per chain.
        inverse_mass: m⁻¹ > 0, a preconditioner; a number, one per chain [N], or whatever else
            broadcasts to the positions, such as a diagonal [1, ...]; or a `DenseMass`.
        max_energy_error: a transition with ΔH above it is counted as divergent.

    Example:
        >>> import torch
        >>> sampler = MALA(lambda x: 0.5 * x.square().sum(1), step_size=0.5)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = sampler.sample(torch.zeros(4000, 2), 50, generator=generator)
        >>> round(x.var().item(), 1)
        1.0

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", Bernoulli 1996; Neal, "MCMC using Hamiltonian dynamics", 2011.
    """

    energy: Energy
    step_size: float | Tensor
    _: KW_ONLY
    inverse_mass: float | Tensor | DenseMass = 1.0
    max_energy_error: float = 1000.0

    def __post_init__(self) -> None:
        if not isinstance(self.step_size, Tensor):  # the root below hides what was given
            number("MALA", "step_size", self.step_size)

    @property
    def leapfrog(self) -> Leapfrog:
        return Leapfrog((2 * self.step_size) ** 0.5, 1, self.inverse_mass)
