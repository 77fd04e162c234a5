"""Hamiltonian Monte Carlo."""

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from gencore.ops import philox_words
from gencore.ops._support.checks import index, number
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.energy import Energy
from gencore.samplers.hamiltonian import HamiltonianSampler, Leapfrog

__all__ = ["HMC"]

_JITTER = 2**62
"""The element of a transition's stream that its jitter takes, beyond momenta and decisions."""


@dataclass(frozen=True)
class HMC(HamiltonianSampler):
    """Hamiltonian Monte Carlo on an energy E: its chains sample p(x) ∝ exp(−E(x)) without bias.

    A transition draws momenta p ~ N(0, 1/m⁻¹), follows the flow of

        H(x, p) = E(x) + ½ Σ m⁻¹ p²

    for L leapfrog steps of size ε, each half a kick, a drift, half a kick,

        p ← p − ½ε ∇E(x),   x ← x + ε m⁻¹ p,   p ← p − ½ε ∇E(x)

    and accepts where it ends with probability min(1, e^(−ΔH)). It costs L gradients. Proposals
    that are not finite are rejected and flagged, never stored. `warm_up` finds the step size and
    the mass.

    With a jitter j the step sizes of a transition are ε(1 + ju), with one u ~ U(−1, 1) for all
    chains: drawn apart from their states, it leaves the density invariant, and no length of ε L is
    the period of an axis for long.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: ε > 0, a number or one per chain.
        num_leapfrog: L ≥ 1. On a Gaussian the flow is periodic: a length εL near half a period of
            one of its axes, π times the standard deviation, leaves that axis hardly mixed.
        step_size_jitter: 0 ≤ j < 1.
        inverse_mass: m⁻¹ > 0, best the variance of each element; a number, one per chain [N], or
            whatever else broadcasts to the positions, such as a diagonal [1, ...], or a
            `DenseMass`.
        max_energy_error: a transition with ΔH above it is counted as divergent.

    Example:
        >>> import torch
        >>> sampler = HMC(lambda x: 0.5 * x.square().sum(1), step_size=0.2, num_leapfrog=8)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, info = sampler.sample(
        ...     torch.zeros(4000, 2), 20, generator=generator, return_info=True
        ... )
        >>> round(x.var().item(), 1), round(info.acceptance_rate.mean().item(), 1)
        (1.0, 1.0)

    References:
        Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", 1987; Neal, "MCMC using
        Hamiltonian dynamics", 2011, §5.3.2; Mackenzie, "An improved hybrid Monte Carlo method",
        1989 (trajectories of random length).
    """

    energy: Energy
    step_size: float | Tensor
    num_leapfrog: int
    _: KW_ONLY
    inverse_mass: float | Tensor | DenseMass = 1.0
    max_energy_error: float = 1000.0
    step_size_jitter: float = 0.0

    def __post_init__(self) -> None:
        if index("HMC", "num_leapfrog", self.num_leapfrog) < 1:
            raise ValueError("HMC: num_leapfrog is 0; expected 1 or more")
        if not number("HMC", "step_size_jitter", self.step_size_jitter) < 1.0:
            raise ValueError(
                f"HMC: step_size_jitter is {self.step_size_jitter}; expected a number in [0, 1)"
            )

    @property
    def leapfrog(self) -> Leapfrog:
        return Leapfrog(self.step_size, self.num_leapfrog, self.inverse_mass)

    def _leapfrog_of(self, key: Tensor) -> Leapfrog | None:
        if self.step_size_jitter == 0.0:
            return None
        word = philox_words((1,), key, first_element=_JITTER)[0]
        factor = 1.0 + self.step_size_jitter * ((word.double() + 0.5) * 2.0**-31 - 1.0)
        return self.leapfrog._replace(step_size=self.step_size * factor)
