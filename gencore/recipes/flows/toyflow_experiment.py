"""Normalizing flows on densities of the plane, by maximum likelihood."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import Density
from gencore.models import (
    IAF,
    MAF,
    NICE,
    AutoregressiveSplineFlow,
    ContinuousFlow,
    CouplingFlow,
    Flow,
    MonotonicFlow,
    PlanarFlow,
    RadialFlow,
    ResidualFlow,
    SplineFlow,
)
from gencore.recipes.flows.toyflow import ToyFlowRecipe
from gencore.recipes.plane_experiment import PlaneExperiment, on_points
from gencore.train import Batch, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FLOWS", "ToyFlowExperiment"]


# Name → the flow of points of the plane with that many layers, their networks of these widths.
FLOWS: dict[str, Callable[[int, tuple[int, ...]], Flow]] = {
    "nice": lambda layers, widths: NICE(2, num_layers=layers, hidden_widths=widths),
    "realnvp": lambda layers, widths: CouplingFlow(
        2, num_layers=layers, hidden_widths=widths, mixing="permutation"
    ),
    "maf": lambda layers, widths: MAF(2, num_layers=layers, hidden_widths=widths, mixing="reverse"),
    "iaf": lambda layers, widths: IAF(2, num_layers=layers, hidden_widths=widths),
    "planar": lambda layers, _: PlanarFlow(2, num_layers=layers, explicit="density"),
    "radial": lambda layers, _: RadialFlow(2, num_layers=layers, explicit="density"),
    "spline": lambda layers, widths: SplineFlow(2, num_layers=layers, hidden_widths=widths),
    "autoregressive_spline": lambda layers, widths: AutoregressiveSplineFlow(
        2, num_layers=layers, hidden_widths=widths
    ),
    "residual": lambda layers, widths: ResidualFlow(2, num_blocks=layers, hidden_widths=widths),
    "ffjord": lambda _, widths: ContinuousFlow(2, hidden_widths=widths, rtol=1e-4, atol=1e-4),
    "umnn": lambda layers, widths: MonotonicFlow(2, num_layers=layers, hidden_widths=widths),
}


class ToyFlowExperiment(PlaneExperiment):
    """A flow in training on the likelihood of fresh points."""

    def __init__(self, recipe: ToyFlowRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        self.flow = FLOWS[recipe.model](recipe.num_layers, recipe.hidden_widths)
        optimizer = torch.optim.Adam(self.flow.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, self.flow, optimizer, method="log_prob")
        self.state: Mapping[str, StateObject] = self.optimisation.state

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards a higher likelihood of the points."""
        return self.optimisation.step(
            batch,
            lambda part: {"negative_log_likelihood": -self.optimisation.model(part.x).mean()},
        )

    @property
    def averaged(self) -> Flow:
        """The flow with averaged weights, if they are averaged."""
        flow = self.optimisation.averaged
        assert isinstance(flow, Flow)
        return flow

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the flow."""
        return self.averaged.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {"flow": on_points(self.averaged.log_prob)}
