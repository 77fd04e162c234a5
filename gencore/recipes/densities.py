"""Energies and their flows on densities of the plane (Yan 2022, §2.4.5)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.models import DivergenceError, FlowEBM, FlowObjective, ShortRunEBM, check_divergence
from gencore.nn import MLPEnergy
from gencore.ops import random_key
from gencore.recipes.plane import PlaneExperiment, PlaneRecipe, in_chunks
from gencore.samplers import FlowError
from gencore.train import Diverged, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DensitiesExperiment", "DensitiesRecipe"]


@dataclass(kw_only=True)
class DensitiesRecipe(PlaneRecipe):
    """Energies on the plane: which learns the data, exp(−E)/Z or the flow of the samples?

    The defaults take about two minutes on two CPU cores. The experiments of Yan 2022 have four
    hidden layers of 256, batch_size 800, steps 3000 and the sampler "ode".
    """

    sampler: Literal["langevin", "ode", "euler"] = "euler"
    """From noise to samples: Langevin steps; the gradient flow without noise, exactly; or in Euler
    steps."""

    objective: FlowObjective = "ml"
    """The energies of data and samples; with the generator loss; or the likelihood of the flow."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points, and chains, in one step, over all devices together."""

    hidden_widths: tuple[int, ...] = (128, 128, 128)
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

    tunable = frozenset({"time", "chain_steps", "tolerance", "learning_rate", "max_gap"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("time", "chain_steps", "tolerance", "learning_rate", "max_gap")
        self.check_widths("hidden_widths")
        if self.sampler == "langevin" and self.objective == "flow_mle":
            raise ValueError(
                "DensitiesRecipe: Langevin samples have no known density, so the sampler langevin "
                'excludes the objective flow_mle; choose "ode" or "euler"'
            )

    def build(self, fabric: "Fabric", dataset: Density) -> "DensitiesExperiment":
        return DensitiesExperiment(self, fabric, dataset)


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
