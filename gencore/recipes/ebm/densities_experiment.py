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
from gencore.recipes.plane_experiment import PlaneExperiment, in_chunks
from gencore.samplers import FlowError
from gencore.train import Diverged, StateObject

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
        # Only the loss goes through the wrapped model, which averages gradients over ranks.
        self.model, self.optimizer = fabric.setup(self.ebm, optimizer)
        self.state: Mapping[str, StateObject] = {"model": self.ebm, "optimizer": self.optimizer}

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """Draw samples, or follow the data back to the noise, and move the weights."""
        fabric, num = self.fabric, len(batch)
        first = fabric.global_rank * num
        start_key, chain_key = (random_key(device=fabric.device) for _ in range(2))
        start = self.ebm.start(num, key=start_key, first=first)
        try:
            terms = self.model(batch, start, key=chain_key, first=first)
            scalars = fabric.all_reduce(
                tuple(term.detach() for term in terms[:3]), reduce_op="mean"
            )
            check_divergence(*scalars, max_gap=self.recipe.max_gap)
        except (DivergenceError, FlowError) as error:
            raise Diverged(str(error), advice="a lower learning_rate or a shorter time") from error
        self.optimizer.zero_grad()
        fabric.backward(terms.loss)
        self.optimizer.step()
        loss, energy_data, energy_samples = scalars
        return {"loss": loss, "energy_data": energy_data, "energy_samples": energy_samples}

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the sampler."""
        return self.ebm.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """`flow` is that of the samples (2.19), which a Langevin sampler lacks; `ebm` exp(−E)/Z
        (2.12) with Z integrated over the grid."""
        energy = in_chunks(self.ebm.energy)
        log_z = self.grid.log_integral(-energy(self.grid.points(self.fabric.device)))
        densities: dict[str, Callable[[Tensor], Tensor]] = {}
        if isinstance(self.ebm, FlowEBM):
            densities["flow"] = in_chunks(self.ebm.flow.log_prob)
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
