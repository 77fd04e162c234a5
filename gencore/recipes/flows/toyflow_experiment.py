"""Normalizing flows on densities of the plane, by maximum likelihood."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from gencore.data import Density
from gencore.models import (
    IAF,
    MAF,
    NICE,
    CouplingFlow,
    Flow,
    PlanarFlow,
    RadialFlow,
    ResidualFlow,
    SplineFlow,
)
from gencore.recipes.flows.toyflow import ToyFlowRecipe
from gencore.recipes.plane_experiment import PlaneExperiment, in_chunks
from gencore.train import Diverged, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FLOWS", "ToyFlowExperiment"]


# Name → the flow of points of the plane with that many layers, their networks of these widths.
FLOWS: dict[str, Callable[[int, tuple[int, ...]], Flow]] = {
    "nice": lambda layers, widths: NICE(2, num_layers=layers, hidden_widths=widths),
    "realnvp": lambda layers, widths: CouplingFlow(2, num_layers=layers, hidden_widths=widths),
    "maf": lambda layers, widths: MAF(2, num_layers=layers, hidden_widths=widths),
    "iaf": lambda layers, widths: IAF(2, num_layers=layers, hidden_widths=widths),
    "planar": lambda layers, _: PlanarFlow(2, num_layers=layers, explicit="density"),
    "radial": lambda layers, _: RadialFlow(2, num_layers=layers, explicit="density"),
    "spline": lambda layers, widths: SplineFlow(2, num_layers=layers, hidden_widths=widths),
    "residual": lambda layers, widths: ResidualFlow(2, num_blocks=layers, hidden_widths=widths),
}


class _LogLikelihood(nn.Module):
    """The mean log-likelihood as a forward pass, which data-parallel training wraps."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x).mean()


class ToyFlowExperiment(PlaneExperiment):
    """A flow in training on the likelihood of fresh points."""

    def __init__(self, recipe: ToyFlowRecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        self.flow = FLOWS[recipe.model](recipe.num_layers, recipe.hidden_widths)
        optimizer = torch.optim.Adam(self.flow.parameters(), recipe.learning_rate, fused=True)
        self.scheduler = LinearLR(
            optimizer, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps
        )
        # Only the loss goes through the wrapped model, which averages gradients over ranks.
        self.model, self.optimizer = fabric.setup(_LogLikelihood(self.flow), optimizer)
        self.state: Mapping[str, StateObject] = {
            "model": self.flow, "optimizer": self.optimizer, "scheduler": self.scheduler,
        }  # fmt: skip

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """Move the weights towards a higher likelihood of the points."""
        fabric = self.fabric
        loss = -self.model(batch)
        mean = fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        if not mean.isfinite():
            raise Diverged(
                f"the negative log-likelihood is {mean.item()}",
                advice="a lower learning_rate or max_grad_norm, or more warmup_steps",
            )
        self.optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.recipe.max_grad_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.scheduler.step()
        return {"negative_log_likelihood": mean}

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the flow."""
        return self.flow.sample(num, generator=generator)

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {"flow": in_chunks(self.flow.log_prob)}
