"""Energies and their flows on densities of the plane (Yan 2022, §2.4.5)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from gencore.data import Density, DensityName, load_density
from gencore.metrics import SquareGrid
from gencore.models import DivergenceError, FlowEBM, FlowObjective, ShortRunEBM, check_divergence
from gencore.nn import MLPEnergy
from gencore.ops import random_key
from gencore.samplers import FlowError
from gencore.train import Diverged, Experiment, Recipe, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DensitiesExperiment", "DensitiesRecipe", "DensityBatches"]

# Points whose log-densities are computed at once.
_CHUNK = 4096
# Keys of batches hold 63 random bits, so this one of the test points meets none of them.
_TEST_KEY = (0x7E57, 0)
# The measures' square is this much larger than what holds the data, since a model's mass may stray.
_MARGIN = 1.5


@dataclass(kw_only=True)
class DensitiesRecipe(Recipe):
    """Energies on the plane: which learns the data, exp(−E)/Z or the flow of the samples?

    The defaults take about two minutes on two CPU cores. The experiments of Yan 2022 have four
    hidden layers of 256, batch_size 800, steps 3000 and the sampler "ode".
    """

    density: DensityName = "grid9"
    """The density that the data are drawn from."""

    sampler: Literal["langevin", "ode", "euler"] = "euler"
    """From noise to samples: Langevin steps; the gradient flow without noise, exactly; or in Euler
    steps."""

    objective: FlowObjective = "ml"
    """The energies of data and samples; with the generator loss; or the likelihood of the flow."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points, and chains, in one step, over all devices together."""

    hidden: tuple[int, ...] = (128, 128, 128)
    """Widths of the hidden layers of the energy, a perceptron with swish activations."""

    time: float = 0.2
    """Length T of the flow; the Euler and Langevin steps together have the same length."""

    chain_steps: int = 20
    """Number of Euler or Langevin steps."""

    tolerance: float = 1e-5
    """Relative and absolute tolerance of the ODE's solver."""

    trace: Literal["exact", "hutchinson"] = "exact"
    """How the ODE's density gets the trace of the Hessian."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of data and samples differ by more."""

    grid_size: int = 100
    """Cells along a side of the grid that measures densities."""

    changeable = frozenset({"steps", "grid_size"})
    figure_samples = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("time", "chain_steps", "tolerance", "learning_rate", "max_gap", "grid_size"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"DensitiesRecipe: {name} is {getattr(self, name)}; expected positive"
                )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"DensitiesRecipe: hidden is {self.hidden}; expected a positive width for each "
                "hidden layer"
            )
        if self.sampler == "langevin" and self.objective == "flow_mle":
            raise ValueError(
                "DensitiesRecipe: Langevin samples have no known density, so the sampler langevin "
                'excludes the objective flow_mle; choose "ode" or "euler"'
            )

    def load_data(self) -> Density:
        return load_density(self.density)

    def batches(self, fabric: "Fabric", dataset: Density) -> "DensityBatches":
        return DensityBatches(
            dataset,
            self.batch_size,
            seed=self.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            device=fabric.device,
        )

    def build(self, fabric: "Fabric", dataset: Density) -> "DensitiesExperiment":
        return DensitiesExperiment(self, fabric, dataset)


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
        >>> batches = DensityBatches(load_density("grid9"), 4, seed=0)
        >>> bool((batches[7] == batches[7]).all()), bool((batches[7] == batches[8]).any())
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
        if batch_size % world_size:
            raise ValueError(
                f"DensityBatches: batch_size must be a multiple of the {world_size} processes that "
                f"share it, got {batch_size}"
            )
        self._density, self._seed, self._device = density, seed, device
        self._part = batch_size // world_size
        self._first = rank * self._part

    def __getitem__(self, step: int) -> Tensor:
        """This rank's points [B / ranks, 2] of step `step`, counted from 0."""
        # The pair as entropy: with seed + step, neighbouring seeds would share their points.
        entropy = np.random.SeedSequence([self._seed, step]).generate_state(1, np.uint64)
        key = torch.tensor([int(entropy[0] >> np.uint64(1)), 0])
        return self._density.sample(self._part, key=key, first=self._first).to(self._device)


class DensitiesExperiment(Experiment):
    """An energy in training on fresh points, and the two densities it stands for."""

    def __init__(self, recipe: DensitiesRecipe, fabric: "Fabric", density: Density) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.density = density
        self.grid = SquareGrid(_MARGIN * density.extent, recipe.grid_size)
        self.ebm = _model(recipe)
        optimizer = torch.optim.Adam(self.ebm.parameters(), lr=recipe.learning_rate)
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

    def evaluate(self, num: int) -> dict[str, float]:
        """Log-likelihoods of `num` fresh test points, and divergences on the grid, in nats.

        `true` is the data's density, `flow` that of the samples (2.19), `ebm` exp(−E)/Z (2.12) with
        Z integrated over the grid. A Langevin sampler has no `flow`. `negative_entropy` is the
        likelihood that no model can exceed on average, and `mass/flow` should be 1.
        """
        test = self.density.sample(num, key=torch.tensor(_TEST_KEY)).to(self.fabric.device)
        points = self.grid.points(self.fabric.device)
        true = self.density.log_prob(points)
        measures = {
            "negative_entropy": -self.grid.entropy(true),
            "log_likelihood/true": self.density.log_prob(test).mean().item(),
        }
        for name, log_prob in self._log_densities().items():
            on_grid = log_prob(points)
            measures[f"log_likelihood/{name}"] = log_prob(test).mean().item()
            measures[f"kl/{name}"] = self.grid.kl_divergence(true, on_grid)
            if name == "flow":
                measures["mass/flow"] = math.exp(self.grid.log_integral(on_grid))
        return measures

    def save_figure(self, samples: Tensor, path: Path) -> None:
        """The data's density, those of the model and the samples, side by side."""
        from gencore.train.figures import save_plane_panels

        # The square that holds the data, not the larger one of the measures.
        grid = SquareGrid(self.density.extent, self.recipe.grid_size)
        points = grid.points(self.fabric.device)
        size = (grid.size, grid.size)
        panels = {"data": self.density.log_prob(points).exp().reshape(size)}
        for name, log_prob in self._log_densities().items():
            panels[_TITLES[name]] = log_prob(points).exp().reshape(size)
        save_plane_panels({**panels, "samples": samples}, grid.half_width, path)

    def _log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The log-densities that the model stands for."""
        energy = _in_chunks(self.ebm.energy)
        log_z = self.grid.log_integral(-energy(self.grid.points(self.fabric.device)))
        densities: dict[str, Callable[[Tensor], Tensor]] = {}
        if isinstance(self.ebm, FlowEBM):
            densities["flow"] = _in_chunks(self.ebm.flow.log_prob)
        densities["ebm"] = lambda x: -energy(x) - log_z
        return densities


_TITLES = {"flow": "flow", "ebm": "exp(-E)/Z"}


def _model(recipe: DensitiesRecipe) -> FlowEBM | ShortRunEBM:
    energy = MLPEnergy(2, recipe.hidden)
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


def _in_chunks(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function of many points, without a graph and in bounded memory."""

    @torch.no_grad()
    def call(x: Tensor) -> Tensor:
        return torch.cat([function(part) for part in x.split(_CHUNK)])

    return call
