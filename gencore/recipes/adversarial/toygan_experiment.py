"""Generators and their adversaries on densities of the plane."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import Density, SpotDensity
from gencore.metrics import energy_distance, mode_coverage
from gencore.models import AutoencoderEnergy
from gencore.nn import MLP, EquivariantMLP
from gencore.ops import philox_normal, random_key
from gencore.recipes.adversarial.adversarial_training import (
    AdversarialTraining,
    Networks,
    make_adversary,
)
from gencore.recipes.adversarial.toygan import ToyGANRecipe
from gencore.recipes.plane_experiment import TEST_KEY, PlaneExperiment
from gencore.train import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ToyGANExperiment"]


class ToyGANExperiment(PlaneExperiment):
    """A generator of points in training."""

    def __init__(self, recipe: ToyGANRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        widths = recipe.hidden_widths
        generator = MLP(recipe.latent_size, widths, 2, activation="relu", zero_last=False)
        networks = Networks(
            lambda: MLP(2, widths, 1, activation="relu", zero_last=False),
            lambda: EquivariantMLP(2, widths, activation="relu"),
            lambda: AutoencoderEnergy(
                MLP(2, widths[:1], recipe.code_size, activation="relu", zero_last=False),
                MLP(recipe.code_size, widths[:1], 2, activation="relu", zero_last=False),
            ),
        )
        self.training = AdversarialTraining(
            recipe, fabric, generator, make_adversary(recipe, networks)
        )
        self.state = self.training.state

    def step(self, batch: Batch) -> dict[str, Tensor]:
        return self.training.step(batch, lambda points: points)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the generator."""
        key = random_key(generator, device=self.fabric.device)
        points: Tensor = self.training.averaged(philox_normal((num, self.recipe.latent_size), key))
        return points

    def evaluate(self, num: int) -> dict[str, float]:
        """The energy distance of `num` samples from as many fresh points, and that of other points,
        `energy_distance/data`. Of a density of spots the spots that have a sample within
        `quality_radius` standard deviations, the part of the samples that lie so near to one, and
        the KL divergence of their counts from equal ones, in nats. With `num_proposals` the same of
        a Metropolis-Hastings GAN, `…/metropolis_hastings`, whose chains start at other points."""
        samples = self.sample(num, Generator(self.fabric.device).manual_seed(0)).cpu()
        test = self.density.sample(num, key=torch.tensor(TEST_KEY)).cpu()
        data = self.density.sample(num, generator=Generator().manual_seed(1)).cpu()
        measures = {
            "energy_distance/samples": energy_distance(samples, test),
            "energy_distance/data": energy_distance(data, test),
        }
        measures |= self._coverage(samples)
        if self.recipe.num_proposals:
            held_out = self.density.sample(num, generator=Generator().manual_seed(2))
            chains = self.training.metropolis_hastings(
                held_out.to(self.fabric.device), Generator(self.fabric.device).manual_seed(0)
            ).cpu()
            name = "metropolis_hastings"
            measures[f"energy_distance/{name}"] = energy_distance(chains, test)
            measures |= {f"{key}/{name}": value for key, value in self._coverage(chains).items()}
        return measures

    def _coverage(self, samples: Tensor) -> dict[str, float]:
        if not isinstance(self.density, SpotDensity):
            return {}
        radius = self.recipe.quality_radius * self.density.std
        coverage = mode_coverage(samples, self.density.centres.to(samples), radius)
        return {
            "modes": float(coverage.num_modes),
            "high_quality": coverage.high_quality,
            "kl_to_uniform": coverage.kl_to_uniform,
        }

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """None: a generator has no density that one could compute."""
        return {}
