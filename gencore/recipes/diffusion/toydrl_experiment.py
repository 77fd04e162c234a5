"""Diffusion recovery likelihood on densities of the plane (Gao 2021, §2.3.4)."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.metrics import SquareGrid, energy_distance
from gencore.models import (
    DiffusionRecoveryEBM,
    NoiseSchedule,
)
from gencore.nn import TimeMLPEnergy
from gencore.ops import random_key
from gencore.recipes.diffusion.toydrl import ToyDRLRecipe
from gencore.recipes.energy_gap import check_energy_gap
from gencore.recipes.plane_experiment import PlaneExperiment, on_points
from gencore.train import Batch, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ToyDRLExperiment"]

# Data points whose Gaussians make up the density of a diffused level.
_NUM_CENTRES = 1024


class ToyDRLExperiment(PlaneExperiment):
    """A `DiffusionRecoveryEBM` in training on fresh points."""

    def __init__(self, recipe: ToyDRLRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        self.ebm = _model(recipe)
        optimizer = torch.optim.Adam(self.ebm.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer, ema_warmup=True)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def averaged(self) -> DiffusionRecoveryEBM:
        """The model with averaged weights, if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, DiffusionRecoveryEBM)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Diffuse the points, undo a step of the diffusion of each, and move the weights."""
        key = random_key(device=self.fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            terms = self.optimisation.model(part.x, key=key, first=part.first)
            return dict(zip(("loss", "energy_data", "energy_samples"), terms[:3], strict=True))

        def check(scalars: Mapping[str, Tensor]) -> None:
            check_energy_gap(
                *scalars.values(), max_gap=self.recipe.max_gap,
                advice="a lower learning_rate, max_grad_norm or step_factor, or spectral_norm",
            )  # fmt: skip

        return self.optimisation.step(batch, loss, check=check)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2], by way of all levels from noise."""
        return self.averaged.sample(num, generator=generator)

    def evaluate(self, num: int) -> dict[str, float]:
        """As every recipe on the plane, and the energy distances of samples from test points.

        `noise` is that of the standard normals which the samples start from, which they have to
        beat, and `data` that of fresh points of the data.
        """
        generator = torch.Generator(self.fabric.device).manual_seed(0)
        candidates = {
            "samples": self.sample(num, generator).cpu(),
            "noise": torch.randn(num, 2, generator=torch.Generator().manual_seed(1)),
            "data": self.density.sample(num, generator=torch.Generator().manual_seed(2)),
        }
        test = self.density.sample(num, generator=torch.Generator().manual_seed(3))
        distances = {
            f"energy_distance/{name}": energy_distance(points, test)
            for name, points in candidates.items()
        }
        return {**super().evaluate(num), **distances}

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """`ebm` is exp(−E)/Z of the data's level, with Z integrated over the grid."""
        return {"ebm": self.level_log_density(0)}

    def level_log_density(self, t: int) -> Callable[[Tensor], Tensor]:
        """log p(x_t) = −E(y_t, t) − log Z of points [N, 2] of level t, without a graph."""
        ebm = self.averaged
        energy, scale = ebm.level_energy(t), ebm.level_scale(t)
        of_points = on_points(lambda x: energy(scale * x))
        log_z = self.grid.log_integral(-of_points(self.grid.points(self.fabric.device)))
        return lambda x: -of_points(x) - log_z

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A column a level from noise to data: its true density, exp(−E)/Z, and the states of that
        level on the way to samples, of which the last are those given."""
        from gencore.train.figures import save_plane_panels

        grid = SquareGrid(self.density.extent, self.grid.size)
        points = grid.points(self.fabric.device)
        size = (grid.size, grid.size)
        generator = torch.Generator(self.fabric.device).manual_seed(0)
        states = self.averaged.sample(len(samples), return_trajectory=True, generator=generator)
        panels = {}
        for t in reversed(range(self.recipe.levels)):
            shown = samples if t == 0 else states[self.recipe.levels - t]
            panels[f"data, level {t}"] = self._true_log_density(t, points).exp().reshape(size)
            model = self.level_log_density(t)(points)
            panels[f"exp(-E)/Z, level {t}"] = model.exp().reshape(size)
            panels[f"samples, level {t}"] = shown
        save_plane_panels(panels, grid.half_width, path, rows=3)

    def _true_log_density(self, t: int, points: Tensor) -> Tensor:
        """log p(x_t) of the diffused data: exact at level 0, elsewhere a mean over data points."""
        if t == 0:
            return self.density.log_prob(points)
        scale = self.ebm.schedule.mean_scales[t].item()
        x = self.density.sample(_NUM_CENTRES, generator=torch.Generator().manual_seed(0))
        variance = 1 - scale**2

        def log_prob(part: Tensor) -> Tensor:
            squares = torch.cdist(part, scale * x.to(part)).square() / variance
            return torch.logsumexp(-0.5 * squares, 1) - math.log(
                2 * math.pi * variance * _NUM_CENTRES
            )

        return on_points(log_prob)(points)


def _model(recipe: ToyDRLRecipe) -> DiffusionRecoveryEBM:
    schedule = NoiseSchedule.linear(
        recipe.levels, first=recipe.first_variance, last=recipe.last_variance
    )
    stds = schedule.variances.sqrt()
    return DiffusionRecoveryEBM(
        TimeMLPEnergy(
            2,
            recipe.hidden_widths,
            input_scale=recipe.input_scale,
            spectral_norm=recipe.spectral_norm,
        ),
        (2,),
        schedule,
        num_steps=recipe.chain_steps,
        step_factor=recipe.step_factor,
        is_output_per_step=recipe.spectral_norm,
        level_weights=(stds[0] / stds).tolist(),
    )
