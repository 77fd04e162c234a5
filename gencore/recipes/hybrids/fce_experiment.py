"""Flow contrastive estimation on densities of the plane (Gao 2021, §4.2.4.1)."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.models import CouplingFlow, EnergyDensity, Flow, FlowContrastiveEBM
from gencore.nn import ActNorm, MLPEnergy
from gencore.recipes.hybrids.fce import FCERecipe
from gencore.recipes.hybrids.flow_players import FlowPlayers
from gencore.recipes.plane_experiment import TEST_KEY, PlaneExperiment, on_points
from gencore.samplers import HMC
from gencore.train import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FCEExperiment", "gaussian_noise", "normalised", "plane_measures"]

# Points from which the Gaussian noise takes its moments, and the key that draws them.
_MOMENT_POINTS = 10_000
_MOMENT_KEY = (0x4D0, 0)
# Chains of the energy that has no flow to sample it.
_CHAINS = partial(HMC, step_size=0.1, num_leapfrog=10)
_CHAIN_STEPS = 100


class FCEExperiment(PlaneExperiment):
    """An energy and a flow in training on fresh points, and their two densities."""

    titles: ClassVar[Mapping[str, str]] = {"ebm": "energy"}

    def __init__(self, recipe: FCERecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        energy = MLPEnergy(2, recipe.energy_widths, recipe.activation)
        flow = (
            gaussian_noise(density)
            if recipe.objective == "nce"
            else CouplingFlow(
                2, num_layers=recipe.num_layers, hidden_widths=recipe.hidden_widths,
                activation=recipe.activation, mixing="permutation",
            )
        )  # fmt: skip
        model = FlowContrastiveEBM(EnergyDensity(energy, 0.0, learned=True), flow)
        self.players = FlowPlayers(recipe, fabric, model.to(fabric.device))
        self.state = self.players.state

    @property
    def model(self) -> FlowContrastiveEBM:
        """The two with averaged weights, if they are averaged."""
        return FlowContrastiveEBM(self.players.averaged_density, self.players.averaged_flow)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the energy or of the flow."""
        return self.players.step(batch)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the flow, or of chains where an energy has learned from Gaussian
        noise."""
        if self.recipe.objective == "nce":
            return self.model.sample(
                num, kernel=_CHAINS, num_steps=_CHAIN_STEPS, generator=generator
            )
        return self.model.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """`ebm` is −E less the logarithm of its integral over the grid, and `flow` that of the
        flow."""
        model, both = self.model, {}
        if self.recipe.objective != "mle":
            both["ebm"] = normalised(self, on_points(model.log_prob))
        if self.recipe.objective != "nce":
            both["flow"] = on_points(model.flow.log_prob)
        return both

    def evaluate(self, num: int) -> dict[str, float]:
        """As `PlaneExperiment`, with the mass of the energy's density as it has learned it, which
        nothing holds at 1, and the mean squares of the errors of log-densities at `num` points of
        the data, the energy's with its learned c."""
        return {**super().evaluate(num), **plane_measures(self, self.model, num)}


def normalised(
    experiment: PlaneExperiment, log_prob: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """A log-density less the logarithm of its integral over the experiment's grid."""
    log_mass = experiment.grid.log_integral(
        log_prob(experiment.grid.points(experiment.fabric.device))
    )
    return lambda x: log_prob(x) - log_mass


def plane_measures(
    experiment: PlaneExperiment, model: FlowContrastiveEBM, num: int
) -> dict[str, float]:
    """`mass/ebm`, ∫ p over the grid with the learned c, and `log_mse/…`, E_p (log p̂ − log p)²."""
    device, measures = experiment.fabric.device, {}
    test = experiment.density.sample(num, key=torch.tensor(TEST_KEY)).to(device)
    true = experiment.density.log_prob(test)
    for name, log_prob in experiment.log_densities().items():
        if name == "ebm":
            log_prob = on_points(model.log_prob)
            on_grid = log_prob(experiment.grid.points(device))
            measures["mass/ebm"] = math.exp(experiment.grid.log_integral(on_grid))
        measures[f"log_mse/{name}"] = (log_prob(test) - true).square().mean().item()
    return measures


def gaussian_noise(density: Density) -> Flow:
    """Independent Gaussians with the means and the variances of the data, as a flow."""
    transform = ActNorm(2)
    with torch.no_grad():  # the layer takes its scale from the first data that it sees
        transform(density.sample(_MOMENT_POINTS, key=torch.tensor(_MOMENT_KEY)))
    return Flow(transform, [2])
