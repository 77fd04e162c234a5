"""Energies and their flows on densities of the plane (Yan 2022, §2.4.5)."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.models import DivergenceError, FlowEBM, ShortRunEBM, check_divergence
from gencore.nn import MLPEnergy
from gencore.ops import random_key
from gencore.recipes.ebm.densities import DensitiesRecipe
from gencore.recipes.plane_experiment import PlaneExperiment, on_points
from gencore.samplers import FlowError
from gencore.train import Batch, Diverged, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DensitiesExperiment"]


class DensitiesExperiment(PlaneExperiment):
    """An energy in training on fresh points, and the two densities it stands for."""

    titles: ClassVar[Mapping[str, str]] = {"ebm": "exp(-E)/Z"}

    def __init__(self, recipe: DensitiesRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        self.ebm = _model(recipe)
        optimizer = torch.optim.Adam(self.ebm.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def averaged(self) -> FlowEBM | ShortRunEBM:
        """The model with averaged weights, if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, FlowEBM | ShortRunEBM)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Draw samples, or follow the data back to the noise, and move the weights."""
        start_key, chain_key = (random_key(device=self.fabric.device) for _ in range(2))

        def loss(part: Batch) -> dict[str, Tensor]:
            start = self.ebm.start(len(part), key=start_key, first=part.first)
            terms = self.optimisation.model(part.x, start, key=chain_key, first=part.first)
            return dict(zip(("loss", "energy_data", "energy_samples"), terms[:3], strict=True))

        def check(scalars: Mapping[str, Tensor]) -> None:
            check_divergence(*scalars.values(), max_gap=self.recipe.max_gap)

        try:
            return self.optimisation.step(batch, loss, check=check)
        except (DivergenceError, FlowError) as error:
            raise Diverged(str(error), advice="a lower learning_rate or a shorter time") from error

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the sampler."""
        return self.averaged.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """`flow` is that of the samples (2.19), which a Langevin sampler lacks; `ebm` exp(−E)/Z
        (2.12) with Z integrated over the grid."""
        ebm = self.averaged
        energy = on_points(ebm.energy)
        log_z = self.grid.log_integral(-energy(self.grid.points(self.fabric.device)))
        densities: dict[str, Callable[[Tensor], Tensor]] = {}
        if isinstance(ebm, FlowEBM):
            densities["flow"] = on_points(ebm.flow.log_prob)
        densities["ebm"] = lambda x: -energy(x) - log_z
        return densities


def _model(recipe: DensitiesRecipe) -> FlowEBM | ShortRunEBM:
    energy = MLPEnergy(2, recipe.hidden_widths)
    if recipe.sampler == "langevin":
        step_size = recipe.time / recipe.chain_steps
        return ShortRunEBM(
            energy,
            (2,),
            num_steps=recipe.chain_steps,
            step_size=step_size,
            noise_scale=math.sqrt(2 * step_size),
            generator_weight=1.0 if recipe.objective == "ml+gen" else 0.0,
        )
    return FlowEBM(
        energy,
        (2,),
        time=recipe.time,
        num_steps=recipe.chain_steps if recipe.sampler == "euler" else None,
        objective=recipe.objective,
        tolerance=recipe.tolerance,
        trace=recipe.trace,
    )
