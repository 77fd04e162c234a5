"""The No-U-Turn sampler."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from torch import Tensor

from gencore.ops import nuts_leaf_, nuts_tree
from gencore.ops._support.checks import index
from gencore.ops.nuts_reference import LARGEST_DEPTH
from gencore.samplers.chains import first_chain
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.energy import Energy
from gencore.samplers.energy_sampler import EnergySampler, MetropolisState

__all__ = ["NUTS", "NutsInfo"]


class NutsInfo(NamedTuple):
    """What one transition did."""

    acceptance_rate: Tensor
    """[N]: the mean of min(1, e^(H₀ - H)) over the states that were added to the trajectory."""
    is_divergent: Tensor
    """[N], bool: whether the trajectory ended where it was not finite, or its H more than
    `max_energy_error` above H₀."""
    energy: Tensor
    """[N]: the energy after the transition."""
    num_leapfrog: Tensor
    """[N], int64: how many leapfrog steps the trajectory took."""
    tree_depth: Tensor
    """[N], int64: how often it was doubled."""


@dataclass(frozen=True)
class NUTS(EnergySampler[NutsInfo]):
    """The No-U-Turn sampler on an energy E: HMC that finds the length of each trajectory itself.

    A transition draws momenta p ~ N(0, 1/m⁻¹) and grows a trajectory of leapfrog steps of size ε,
    as `HMC` makes them, by doubling it ahead or back at random. It stops where a balanced subtree,
    of the states (x⁻, p⁻) to (x⁺, p⁺), has turned,

        (x⁺ − x⁻) · p⁻ ≤ 0   or   (x⁺ − x⁻) · p⁺ ≤ 0

    or so has the way from one of its halves to the nearest state of the other, as in Stan. It moves
    to a state drawn from the trajectory with probability ∝ e^(−H), biased towards the newest half.
    It costs a gradient for each leapfrog step of the longest trajectory in the batch: chains that
    have stopped wait for the others. States that are not finite end a trajectory and are flagged,
    never stored. `warm_up` finds the step size and the mass.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: ε > 0, a number or one per chain.
        max_tree_depth: how often a trajectory is doubled at most, 1 to 20: it has up to 2^depth − 1
            leapfrog steps.
        inverse_mass: m⁻¹ > 0, best the variance of each element; a number, one per chain [N], or
            whatever else broadcasts to the positions, such as a diagonal [1, ...], or a
            `DenseMass`.
        max_energy_error: a transition that meets an H above H₀ by more than that is divergent.

    Example:
        >>> import torch
        >>> sampler = NUTS(lambda x: 0.5 * x.square().sum(1), step_size=0.5)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, info = sampler.sample(
        ...     torch.zeros(4000, 2), 20, generator=generator, return_info=True
        ... )
        >>> round(x.var().item(), 1), info.num_leapfrog.double().mean().item() < 8
        (1.0, True)

    References:
        Hoffman and Gelman, "The No-U-Turn sampler", JMLR 2014; Betancourt, "A conceptual
        introduction to Hamiltonian Monte Carlo", 2017, A.3.2 and A.4; Phan, Pradhan and Jankowiak,
        "Composable effects for flexible and accelerated probabilistic programming in NumPyro",
        2019, algorithm 2.
    """

    energy: Energy
    step_size: float | Tensor
    max_tree_depth: int = 10
    _: KW_ONLY
    inverse_mass: float | Tensor | DenseMass = 1.0
    max_energy_error: float = 1000.0

    def __post_init__(self) -> None:
        if not 1 <= index("NUTS", "max_tree_depth", self.max_tree_depth) <= LARGEST_DEPTH:
            raise ValueError(
                f"NUTS: max_tree_depth is {self.max_tree_depth}; expected 1 to {LARGEST_DEPTH}"
            )

    def _transition(
        self, state: MetropolisState, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[MetropolisState, NutsInfo]:
        """Grow a tree for every chain, leaf by leaf, until all have stopped."""
        if isinstance(self.inverse_mass, DenseMass):
            return self._whitened_transition(
                self.inverse_mass, state, key, first_element, in_place=in_place
            )
        name = f"{type(self).__name__}.step"
        chain = first_chain(name, state.position, first_element)
        tree = nuts_tree(
            state.position, state.energy, state.grad, self.step_size, self.inverse_mass,
            max_tree_depth=self.max_tree_depth, key=key, first_element=first_element,
        )  # fmt: skip
        for leaf in range(2**self.max_tree_depth - 1):
            energy, grad = self._energy_and_grad(tree.position)
            nuts_leaf_(
                tree, energy, grad, leaf, self.step_size, self.inverse_mass,
                key=key, first_chain=chain, max_energy_error=self.max_energy_error,
            )  # fmt: skip
            if not bool(tree.is_running.any()):
                break
        (x, grad), energy = tree.drawn[1], tree.energies[1]
        rate = (tree.weights[3] / tree.counts[0]).to(energy.dtype)
        info = NutsInfo(rate, tree.is_divergent, energy, *tree.counts)
        return MetropolisState(x, energy, grad), info

    def _needs_host(self) -> str | None:
        return "the host asks after every leaf whether a tree still grows"

    def _no_info(self, state: MetropolisState) -> NutsInfo:
        none = state.energy.new_empty((0, *state.energy.shape))
        return NutsInfo(none, none.bool(), none, none.long(), none.long())
