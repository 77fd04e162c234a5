"""Semi-supervised flow contrastive estimation on the plane (Gao 2021, §4.2.3, §4.2.4.4)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.data import Density
from gencore.metrics import SquareGrid
from gencore.models import CouplingFlow, EnergyClassifier, FlowContrastiveEBM
from gencore.nn import MLP
from gencore.objectives import virtual_adversarial_loss
from gencore.ops.random import stream_key
from gencore.recipes.hybrids.fce_experiment import gaussian_noise, normalised, plane_measures
from gencore.recipes.hybrids.flow_players import FlowPlayers
from gencore.recipes.hybrids.semifce import SemiFCERecipe
from gencore.recipes.plane_experiment import TEST_KEY, PlaneExperiment, on_points
from gencore.train import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SemiFCEExperiment"]

# The offset of the keys of labelled points, whose seeds are the runs'.
_LABELS = 0x1ABE1
# Points drawn at once in the search for labelled ones of every class, for each class.
_DRAWN = 64


class _Judgement(NamedTuple):
    log_p: Tensor
    label_loss: Tensor
    vat_loss: Tensor


class _LabelledDensity(nn.Module):
    """The classifier and its labelled points: all losses of the density's side in one call."""

    def __init__(self, density: EnergyClassifier, x: Tensor, label: Tensor, radius: float) -> None:
        super().__init__()
        self.density, self.radius = density, radius
        self.register_buffer("x", x)
        self.register_buffer("label", label)
        self.x: Tensor
        self.label: Tensor

    def forward(self, points: Tensor, vat: Tensor | None, key: Tensor, first: int) -> _Judgement:
        """log p of points, the cross-entropy of the labels, and the VAT loss of other points."""
        logits = self.density(torch.cat([points, self.x]))
        logits, of_labelled = logits.split([len(points), len(self.x)])
        vat_loss = logits.new_zeros(())
        if vat is not None:
            vat_loss = virtual_adversarial_loss(
                self.density, vat, self.radius, key=stream_key(key, "start"), first=first
            )
        label_loss = nn.functional.cross_entropy(of_labelled, self.label)
        return _Judgement(logits.logsumexp(1), label_loss, vat_loss)


class _LabelledPlayers(FlowPlayers):
    """The players, of whom the density learns from labels too."""

    recipe: SemiFCERecipe

    @property
    def averaged_density(self) -> EnergyClassifier:
        module = self.density.averaged
        assert isinstance(module, _LabelledDensity)
        return module.density

    def density_losses(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        recipe, x = self.recipe, part.x
        with torch.no_grad():
            terms = self.model.noise(x, key, part.first)
        judged: list[_Judgement] = []

        def log_prob(points: Tensor) -> Tensor:
            vat = x if recipe.vat_weight else None
            judged.append(self.density.model(points, vat, key, part.first))
            return judged[0].log_p

        contrast = self.model.density_value_of(x, terms, log_prob=log_prob)
        _, label_loss, vat_loss = judged[0]
        loss = recipe.label_weight * label_loss + recipe.vat_weight * vat_loss
        if recipe.objective != "supervised":
            loss = loss + contrast.loss
        return {
            "density_loss": loss,
            "contrast_loss": contrast.loss,
            "accuracy": contrast.accuracy,
            "flow_nll": -terms.data_log_q.mean(),
        }


class SemiFCEExperiment(PlaneExperiment):
    """Energies of classes in training, of which few points have labels."""

    def __init__(self, recipe: SemiFCERecipe, fabric: "Fabric", density: Density) -> None:
        super().__init__(recipe, fabric, density)
        self.recipe = recipe
        num_classes = density.num_components
        if num_classes < 2:
            raise ValueError(
                f"semifce: the density {recipe.density} has a single component; expected two or "
                "more, which are the classes"
            )
        energies = MLP(
            2, recipe.energy_widths, num_classes, activation=recipe.activation, zero_last=False
        )
        classifier = EnergyClassifier(energies, num_classes=num_classes)
        flow = (
            CouplingFlow(
                2, num_layers=recipe.num_layers, hidden_widths=recipe.hidden_widths,
                activation=recipe.activation, mixing="permutation",
            )
            if recipe.objective == "fce"
            else gaussian_noise(density)
        )  # fmt: skip
        model = FlowContrastiveEBM(classifier, flow).to(fabric.device)
        x, label = labelled_points(density, recipe.labels_per_class, recipe.seed)
        self.labelled = _LabelledDensity(classifier, x, label, recipe.vat_radius).to(fabric.device)
        self.players = _LabelledPlayers(
            recipe, fabric, model, density=self.labelled, method="forward"
        )
        self.state = self.players.state

    @property
    def model(self) -> FlowContrastiveEBM:
        """The two with averaged weights, if they are averaged."""
        return FlowContrastiveEBM(self.players.averaged_density, self.players.averaged_flow)

    @property
    def classifier(self) -> EnergyClassifier:
        """The classes' energies with averaged weights, if they are averaged."""
        return self.players.averaged_density

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the energies or of the flow."""
        return self.players.step(batch)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Points [num, 2] of the flow."""
        self._check_samples(num)
        return self.model.sample(num, generator=generator)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Only a flow draws samples."""
        self._check_samples(num_samples)

    def _check_samples(self, num: int) -> None:
        if num and self.recipe.objective != "fce":
            raise ValueError(
                f"semifce: the objective {self.recipe.objective} has no flow that draws samples; "
                "set num_samples to 0"
            )

    def log_densities(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """`ebm` is the mixture of the classes (4.16) less the logarithm of its integral over the
        grid, and `flow` that of the flow."""
        both: dict[str, Callable[[Tensor], Tensor]] = {}
        if self.recipe.objective != "supervised":
            both["ebm"] = normalised(self, on_points(self.classifier.log_prob))
        if self.recipe.objective == "fce":
            both["flow"] = on_points(self.model.flow.log_prob)
        return both

    def evaluate(self, num: int) -> dict[str, float]:
        """As the recipe `fce`, and the share of `num` fresh test points whose class is found."""
        key = torch.tensor(TEST_KEY)
        x, label = self.density.sample_labelled(num, key=key)
        found = on_points(self.classifier)(x.to(self.fabric.device)).argmax(1)
        accuracy = (found.cpu() == label).double().mean().item()
        return {
            **super().evaluate(num),
            **plane_measures(self, self.model, num),
            "classification_accuracy": accuracy,
        }

    def figures(self, folder: Path) -> None:
        """The posterior of the first class over the plane, with the labelled points."""
        from gencore.train.figures import save_decision_regions

        folder.mkdir(exist_ok=True)
        square, size = SquareGrid(self.density.extent, self.grid.size), self.grid.size
        posterior = on_points(self.classifier.log_posterior)(square.points(self.fabric.device))
        save_decision_regions(
            posterior.exp().reshape(size, size, -1), self.labelled.x, self.labelled.label,
            square.half_width, folder / "decision-regions.png",
        )  # fmt: skip


def labelled_points(density: Density, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """The first points of each component in a stream of its own: [K·n, 2], and their classes."""
    num, drawn = density.num_components, _DRAWN * per_class * density.num_components
    x, label = density.sample_labelled(drawn, key=torch.tensor([seed, _LABELS]))
    chosen = torch.cat([(label == k).nonzero()[:per_class, 0] for k in range(num)])
    return x[chosen], label[chosen]
