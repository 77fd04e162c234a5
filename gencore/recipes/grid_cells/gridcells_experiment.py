"""Grid cells in training, measured on paths and as neuroscience measures response maps."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from gencore.data import PlaceLattice, free_walks, lattice_walks, rat_paths
from gencore.metrics import GRID_CELL_THRESHOLD, grid_scores, null_grid_rate
from gencore.models import GridCells, LieTransform, NetworkTransform, integrate_path
from gencore.recipes.grid_cells.gridcells import GridCellsRecipe, PathName
from gencore.train import Batch, Experiment, Optimisation, StateObject
from gencore.train.batches import rank_part
from gencore.train.optimisation import rate_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DirectionBatches", "GridCellsExperiment"]

# Seconds a step of a rat's path, in which it runs about as far as a lattice spacing.
_RAT_INTERVAL = 0.2
# Directions that speeds are averaged over.
_METRIC_DIRECTIONS = 12
_NULL_MAPS = 400


class DirectionBatches:
    """Directions evenly around the circle, turned in each step by a part of the gap between them.

    Args:
        batch_size: directions in a step, over all ranks.
        seed: of the turns.
        rank: this process, of
        world_size: processes; must divide `batch_size`.
        device: where they are needed.

    Example:
        >>> batches = DirectionBatches(4, seed=0)
        >>> (batches[7].x.diff() * 2 / math.pi).round(decimals=4)
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self._batch_size, self._seed, self._device = batch_size, seed, device
        self._part, self._first = rank_part(batch_size, rank, world_size)

    def __getitem__(self, step: int) -> Batch:
        """This rank's directions [B / ranks] of step `step`, in radians."""
        number = torch.arange(self._first, self._first + self._part)
        turn = np.random.default_rng([self._seed, step]).random()
        direction = (number + turn) * (2 * math.pi / self._batch_size)
        index = (step * self._batch_size + number).to(self._device)
        return Batch(direction.float().to(self._device), None, index, self._first)


class GridCellsExperiment(Experiment):
    """Grid cells in training."""

    def __init__(self, recipe: GridCellsRecipe, fabric: "Fabric", lattice: PlaceLattice) -> None:
        self.recipe, self.fabric, self.lattice = recipe, fabric, lattice
        max_step = recipe.max_step * lattice.spacing
        sizes = (recipe.num_modules, recipe.module_size)
        transform: nn.Module
        if recipe.transform == "lie":
            transform = LieTransform(
                *sizes, num_directions=recipe.num_directions, order=recipe.order, skew=recipe.skew,
                unit=max_step,
            )  # fmt: skip
        else:
            transform = NetworkTransform(*sizes, hidden=recipe.hidden, unit=max_step)
        cells = GridCells(
            lattice, transform, *sizes,
            sigma=recipe.sigma, excitatory=recipe.excitatory, max_step=max_step,
        ).to(fabric.device)  # fmt: skip
        rest = [value for name, value in cells.named_parameters() if name != "code"]
        optimizer = torch.optim.Adam(
            [{"params": [cells.code]}, {"params": rest}], recipe.learning_rate, fused=True
        )
        self.optimisation = Optimisation(
            fabric,
            cells,
            optimizer,
            scheduler=LambdaLR(optimizer, [self._code_rate, self._rate]),
            max_grad_norm=recipe.max_grad_norm,
            ema_decay=recipe.ema_decay,
            accumulate=recipe.accumulate,
            method="loss",
            advice="a lower learning_rate or max_grad_norm, or more warmup_steps",
        )
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def cells(self) -> GridCells:
        """The cells, with averaged weights if they are averaged."""
        cells = self.optimisation.averaged
        assert isinstance(cells, GridCells)
        return cells

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the vectors, matrices and readout down the loss, and hold their constraints."""
        recipe = self.recipe

        def loss(part: Batch) -> dict[str, Tensor]:
            other = 2 * math.pi * part.uniform(())
            terms = self.optimisation.model(
                part.x,
                part.uniform((recipe.samples, 5)),
                other,
                transformation_weight=recipe.transformation_weight,
                isotropy_weight=recipe.isotropy_weight,
                readout_weight=recipe.readout_weight,
            )
            return {name: value.mean() for name, value in terms._asdict().items()}

        scalars = self.optimisation.step(batch, loss)
        for cells in {self.optimisation.module, self.cells}:
            assert isinstance(cells, GridCells)
            cells.project_()
        return scalars

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """On `num` paths of each kind, whose steps were not learned as paths: the mean distance of
        the decoded place after the last step from the true one, in centimetres, by code and by
        readout, and with re-encoding (by code). Of all units: gridness, the share of grid cells and
        that of maps without structure, the spacing of grid cells; and the modules' metrics μ."""
        measures: dict[str, float] = {}
        for name in self.recipe.paths:
            path = self.paths(name, num)
            for label, by, reencode in (
                ("", "code", False), ("_readout", "readout", False), ("_reencoded", "code", True),
            ):  # fmt: skip
                found = integrate_path(self.cells, path, by=by, reencode=reencode)  # type: ignore[arg-type]
                error = (found[:, -1] - path[:, -1]).norm(dim=-1).mean().item()
                measures[f"error_cm/{name}{label}"] = 100 * error
        maps, pixel = self.maps(), self.lattice.spacing
        scores = grid_scores(maps, pixel)
        is_grid = scores.gridness >= GRID_CELL_THRESHOLD
        known = scores.gridness[~scores.gridness.isnan()]
        measures["gridness/without_rings"] = 1 - len(known) / len(maps)
        if len(known):
            measures["gridness/mean"] = known.mean().item()
        measures["gridness/grid_cells"] = is_grid.float().mean().item()
        measures["gridness/null_rate"] = null_grid_rate(maps, pixel, num=_NULL_MAPS)
        if is_grid.any():
            measures["gridness/spacing"] = scores.spacing[is_grid].mean().item()
        metric = self.metric()
        for statistic in ("min", "mean", "max"):
            measures[f"metric/{statistic}"] = getattr(metric, statistic)().item()
        return measures

    def paths(self, name: PathName, num: int) -> Tensor:
        """Paths [num, path_steps + 1, 2] that training has not seen."""
        steps = self.recipe.path_steps
        if name == "rat":
            path = rat_paths(num, steps, interval=_RAT_INTERVAL, side=self.lattice.side)
        else:
            walks = lattice_walks if name == "lattice" else free_walks
            path = walks(self.lattice, num, steps, max_step=self.recipe.max_step)
        return path.to(self.fabric.device)

    def maps(self) -> Tensor:
        """Response maps of the units, module after module, [K·M, n, n]."""
        size = self.lattice.size
        return self.cells.code.detach().flatten(1).mT.reshape(-1, size, size)

    def metric(self) -> Tensor:
        """μ_k of the modules, mean over places and directions, [K], in 1/metre."""
        direction = torch.arange(_METRIC_DIRECTIONS, device=self.fabric.device)
        return self.cells.metric(direction * (2 * math.pi / _METRIC_DIRECTIONS)).mean((0, 1))

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """A rat's paths come from a package."""
        if num_evaluate and "rat" in self.recipe.paths:
            rat_paths(1, self.recipe.path_steps, interval=_RAT_INTERVAL,
                      generator=torch.Generator())  # fmt: skip

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """The response maps of all units, a row a module, their autocorrelograms, and a path."""
        from gencore.recipes.grid_cells.gridcells_figures import save_maps, save_path

        folder.mkdir(exist_ok=True)
        save_maps(self.maps(), folder / "maps.png", columns=self.recipe.module_size)
        save_maps(
            self.maps(), folder / "autocorrelograms.png", columns=self.recipe.module_size,
            correlated=True,
        )  # fmt: skip
        path = self.paths("free", 1)
        found = integrate_path(self.cells, path)
        save_path(path[0].cpu(), found[0].cpu(), self.lattice.side, folder / "path.png")

    def _rate(self, step: int) -> float:
        recipe = self.recipe
        factor = rate_factor(recipe.schedule, warmup_steps=recipe.warmup_steps, steps=recipe.steps)(
            step
        )
        if recipe.freeze_step is None or recipe.halve_every is None:
            return factor
        return factor * 0.5 ** (max(step - recipe.freeze_step, 0) // recipe.halve_every)

    def _code_rate(self, step: int) -> float:
        """That of the vectors of places, 0 once they stay."""
        frozen = self.recipe.freeze_step is not None and step >= self.recipe.freeze_step
        return 0.0 if frozen else self._rate(step)
