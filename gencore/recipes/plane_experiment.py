"""What recipes on densities of the plane share: fresh points, measures on a grid, the figure."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencore.data import Density
from gencore.metrics import SquareGrid
from gencore.recipes.plane import PlaneRecipe
from gencore.train import Batch, Experiment
from gencore.train.batches import rank_part
from gencore.train.chunks import in_chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["TEST_KEY", "DensityBatches", "PlaneExperiment", "on_points"]

# Points whose log-densities are computed at once.
_CHUNK = 4096
# Keys of batches hold 63 random bits, so this one of the test points meets none of them.
TEST_KEY = (0x7E57, 0)
# The measures' square is this much larger than what holds the data, since a model's mass may stray.
_MARGIN = 1.5


class DensityBatches:
    """Fresh points for every step, a pure function of seed and step.

    Args:
        density: what they are drawn from.
        batch_size: points in a step, over all ranks.
        seed: of the points.
        rank: this process, of
        world_size: processes; must divide `batch_size`.
        device: where the points are needed.

    Example:
        >>> from gencore.data import load_density
        >>> batches = DensityBatches(load_density("grid9"), 4, seed=0)
        >>> bool((batches[7].x == batches[7].x).all()), bool((batches[7].x == batches[8].x).any())
        (True, False)
    """

    def __init__(
        self,
        density: Density,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self._density, self._seed, self._device = density, seed, device
        self._batch_size = batch_size
        self._part, self._first = rank_part(batch_size, rank, world_size)

    def __getitem__(self, step: int) -> Batch:
        """This rank's points [B / ranks, 2] of step `step`, counted from 0."""
        # The pair as entropy: with seed + step, neighbouring seeds would share their points.
        entropy = np.random.SeedSequence([self._seed, step]).generate_state(1, np.uint64)
        key = torch.tensor([int(entropy[0] >> np.uint64(1)), 0])
        x = self._density.sample(self._part, key=key, first=self._first).to(self._device)
        start = step * self._batch_size + self._first
        index = torch.arange(start, start + self._part, device=self._device)
        return Batch(x, None, index, self._first)


class PlaneExperiment(Experiment):
    """A model in training on a density of the plane, measured against it.

    Args:
        recipe: the options.
        fabric: the run's processes.
        density: of the data.
    """

    titles: ClassVar[Mapping[str, str]] = {}
    """What the figure calls a log-density, where that is not its name."""

    def __init__(self, recipe: PlaneRecipe, fabric: "Fabric", density: Density) -> None:
        self.fabric = fabric
        self.density = density
        self.grid = SquareGrid(_MARGIN * density.extent, recipe.grid_size)

    @abstractmethod
    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The log-densities that the model stands for, by name, of points [N, 2], without a graph.

        One that the model itself gives, and no integral over the grid, is called "flow".
        """

    def evaluate(self, num: int) -> dict[str, float]:
        """Log-likelihoods of `num` fresh test points, and divergences on the grid, in nats.

        `true` is the data's density, the others are those of `log_densities`. `negative_entropy` is
        the likelihood that no model can exceed on average, and `mass/flow` should be 1.
        """
        test = self.density.sample(num, key=torch.tensor(TEST_KEY)).to(self.fabric.device)
        points = self.grid.points(self.fabric.device)
        true = self.density.log_prob(points)
        measures = {
            "negative_entropy": -self.grid.entropy(true),
            "log_likelihood/true": self.density.log_prob(test).mean().item(),
        }
        for name, log_prob in self.log_densities().items():
            on_grid = log_prob(points)
            measures[f"log_likelihood/{name}"] = log_prob(test).mean().item()
            measures[f"kl/{name}"] = self.grid.kl_divergence(true, on_grid)
            if name == "flow":
                measures["mass/flow"] = math.exp(self.grid.log_integral(on_grid))
        return measures

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """The data's density, those of the model and the samples, side by side."""
        from gencore.train.figures import save_plane_panels

        # The square that holds the data, not the larger one of the measures.
        grid = SquareGrid(self.density.extent, self.grid.size)
        points = grid.points(self.fabric.device)
        size = (grid.size, grid.size)
        panels = {"data": self.density.log_prob(points).exp().reshape(size)}
        for name, log_prob in self.log_densities().items():
            panels[self.titles.get(name, name)] = log_prob(points).exp().reshape(size)
        save_plane_panels({**panels, "samples": samples}, grid.half_width, path)


def on_points(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of many points, without a graph and in bounded memory."""
    return in_chunks(function, _CHUNK)
