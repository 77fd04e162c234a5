"""Normalizing flows on densities of the plane, by maximum likelihood."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from gencore.data import Density, DensityName
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
from gencore.recipes.plane import PlaneExperiment, PlaneRecipe, in_chunks
from gencore.train import Diverged, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FLOWS", "FlowName", "ToyFlowExperiment", "ToyFlowRecipe"]

FlowName = Literal["nice", "realnvp", "maf", "iaf", "planar", "radial", "spline", "residual"]

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


@dataclass(kw_only=True)
class ToyFlowRecipe(PlaneRecipe):
    """Normalizing flows on the plane, each against a density that is known exactly.

    The objective of every model is the exact log-likelihood of the data. The defaults take about a
    minute on two CPU cores.
    """

    density: DensityName = "two_moons"
    """The density that the data are drawn from."""

    model: FlowName = "realnvp"
    """The flow; realnvp is that on vectors, with affine couplings (CouplingFlow)."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points in one step, over all devices together."""

    num_layers: int = 8
    """Layers of the flow; of residual the energies, each of two steps."""

    hidden_widths: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the networks inside, of all flows but planar and radial."""

    learning_rate: float = 2e-3
    """Learning rate of Adam after the warm-up."""

    warmup_steps: int = 50
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float = 10.0
    """Longer gradients of the loss are cut to this norm."""

    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_layers", "learning_rate", "warmup_steps", "max_grad_norm")
        self.check_widths("hidden_widths")

    def build(self, fabric: "Fabric", dataset: Density) -> "ToyFlowExperiment":
        return ToyFlowExperiment(self, fabric, dataset)


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
