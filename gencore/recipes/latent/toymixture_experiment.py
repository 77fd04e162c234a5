"""Mixtures of Gaussians on densities of the plane."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.models import GaussianMixture
from gencore.ops import random_key
from gencore.recipes.latent.toymixture import ToyMixtureRecipe
from gencore.recipes.plane_experiment import PlaneExperiment, on_points
from gencore.train import Batch, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ToyMixtureExperiment"]


class ToyMixtureExperiment(PlaneExperiment):
    """A mixture in training on the likelihood of fresh points."""

    def __init__(self, recipe: ToyMixtureRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        mixture = GaussianMixture(
            2, recipe.components, covariance=recipe.covariance, trainable=True
        )
        if recipe.start == "em":
            mixture.fit(density.sample(recipe.start_points, key=random_key()), seed=recipe.seed)
        mixture = mixture.to(fabric.device)
        optimizer = torch.optim.Adam(mixture.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, mixture, optimizer, method="log_prob")
        self.state: Mapping[str, StateObject] = self.optimisation.state

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the parameters towards a higher likelihood of the points."""
        return self.optimisation.step(
            batch,
            lambda part: {"negative_log_likelihood": -self.optimisation.model(part.x).mean()},
        )

    @property
    def averaged(self) -> GaussianMixture:
        """The mixture with averaged parameters, if they are averaged."""
        mixture = self.optimisation.averaged
        assert isinstance(mixture, GaussianMixture)
        return mixture

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the mixture."""
        return self.averaged.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {"mixture": on_points(self.averaged.log_prob)}
