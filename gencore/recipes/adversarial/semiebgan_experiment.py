"""A ladder network and a generator in training, with few labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.models import LadderAdversary
from gencore.nn import MLP, LadderNetwork
from gencore.objectives import EnergyGame
from gencore.ops import philox_normal, random_key
from gencore.ops.random import philox_uniform, stream_key
from gencore.recipes.adversarial.semiebgan import SemiEBGANRecipe
from gencore.train import Batch, ImageExperiment, Optimisation, StateObject
from gencore.train.done_steps import DoneSteps

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SemiEBGANExperiment", "labelled_rows"]

# The offset of the keys that choose labelled images, whose seeds are the runs'.
_LABELS = 0x1ABE1
_ADVICE = "lower learning rates, denoising_weights or margin, or max_grad_norm"


class SemiEBGANExperiment(ImageExperiment):
    """A step of the ladder network, and one of the generator as long as there is a margin."""

    recipe: SemiEBGANRecipe

    def __init__(self, recipe: SemiEBGANRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        if dataset.labels is None:
            raise ValueError(f"SemiEBGANRecipe: the images of {recipe.data!r} have no labels")
        if fabric.world_size > 1:
            raise ValueError(
                f"SemiEBGANRecipe: there are {fabric.world_size} processes; expected one, since "
                "layers are normalised over the whole batch"
            )
        self._classes = dataset.labels.unique()
        self._labelled: tuple[Tensor, Tensor] | None = None
        if not dataset.images.is_meta:  # else it only draws samples
            rows = labelled_rows(dataset.labels, recipe.labels_per_class, recipe.seed)
            places = torch.searchsorted(self._classes, dataset.labels[rows])
            self._labelled = self._vectors(dataset.images[rows]), places.to(fabric.device)
        pixels = self.image_shape.numel()
        weights = (0.0,) if recipe.objective == "supervised" else recipe.denoising_weights
        network = LadderNetwork(
            pixels, recipe.hidden_widths, len(self._classes), noise_std=recipe.noise_std,
            denoising_weights=weights,
        )  # fmt: skip
        game = EnergyGame(recipe.margin, recipe.margin_power)
        adversary = LadderAdversary(network, game, label_weight=recipe.label_weight)
        adversary.to(fabric.device)
        self.ladder = recipe.optimisation(
            fabric, adversary,
            torch.optim.Adam(adversary.parameters(), recipe.learning_rate, fused=True),
            ema_warmup=True, advice=_ADVICE,
        )  # fmt: skip
        generator = nn.Sequential(
            MLP(recipe.latent_size, recipe.generator_widths, pixels, activation="relu",
                zero_last=False),
            nn.Sigmoid(),
        ).to(fabric.device)  # fmt: skip
        self.generator = Optimisation(
            fabric, generator,
            torch.optim.Adam(
                generator.parameters(), recipe.generator_learning_rate, betas=(0.5, 0.999),
                fused=True,
            ),
            max_grad_norm=recipe.max_grad_norm, advice=_ADVICE,
        )  # fmt: skip
        self._done = DoneSteps()
        self.state: Mapping[str, StateObject] = {
            "done": self._done,
            **{f"ladder_{name}": part for name, part in self.ladder.state.items()},
            **{f"generator_{name}": part for name, part in self.generator.state.items()},
        }

    @property
    def classifier(self) -> LadderNetwork:
        """The ladder network with averaged weights, if they are averaged, in evaluation mode, with
        the moments of the training images."""
        adversary = self.ladder.averaged
        assert isinstance(adversary, LadderAdversary)
        network = adversary.network.eval()
        network.fit_moments(self._vectors(self.dataset.images))
        return network

    def step(self, batch: Batch) -> dict[str, Tensor]:
        adversary = self.ladder.module
        assert isinstance(adversary, LadderAdversary)
        margin = self.recipe.margin_at(self._done.number)
        self._done.number += 1
        key = random_key(device=self.fabric.device)
        if margin:
            adversary.game = EnergyGame(margin, self.recipe.margin_power)

        def ladder_loss(part: Batch) -> dict[str, Tensor]:
            fake = None
            if margin:
                with torch.no_grad(), self.fabric.autocast():
                    fake = self.generator.module(self._noise(len(part), key)).float()
            terms: dict[str, Tensor] = self.ladder.model(
                self._vectors(part.x), fake, labelled=self._labelled, key=key, first=part.first
            )
            return terms

        scalars = self.ladder.step(batch, ladder_loss)
        if not margin:
            return scalars
        adversary.requires_grad_(False)  # its gradients are its own step's

        def generator_loss(part: Batch) -> dict[str, Tensor]:
            own = random_key(device=self.fabric.device)
            fake = self.generator.model(self._noise(len(part), own))
            with self.fabric.autocast():
                of_samples = adversary.generator_loss(
                    fake, self._vectors(part.x), key=own, first=part.first
                )
            return {"generator_loss": of_samples}

        try:
            found = self.generator.step(batch, generator_loss)
        finally:
            adversary.requires_grad_(True)
        return {**scalars, "generator_loss": found["generator_loss"]}

    def _noise(self, num: int, key: Tensor) -> Tensor:
        return philox_normal((num, self.recipe.latent_size), stream_key(key, "latents"))

    def _vectors(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], [N, D]."""
        return to_float(images.to(self.fabric.device), 0, 1).flatten(1)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of the generator, as the end of the game left it."""
        self._check_samples(num)
        key = random_key(generator, device=self.fabric.device)
        pixels: Tensor = self.generator.module(self._noise(num, key))
        return pixels.reshape(num, *self.image_shape)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Only a game has samples, and the measures need test images."""
        self._check_samples(num_samples)
        if num_evaluate:
            _ = self.test

    def _check_samples(self, num: int) -> None:
        if num and self.recipe.objective != "ebgan":
            raise ValueError(
                f"semiebgan: the objective {self.recipe.objective} has no generator; set "
                "num_samples to 0"
            )

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """The share of up to `num` test images, and of the training images, labelled or not, whose
        class is not found."""
        chosen = self.test.subset(torch.randperm(len(self.test))[:num])
        measures: dict[str, float] = {"num_samples": len(chosen)}
        classifier = self.classifier
        for name, part in (("test", chosen), ("train", self.dataset)):
            if part.labels is None:
                raise ValueError(f"semiebgan: the {name} images have no labels")
            found = self._classes[classifier(self._vectors(part.images)).argmax(1).cpu()]
            wrong = found != part.labels.cpu()
            measures[f"classification_error/{name}"] = wrong.double().mean().item()
        return measures


def labelled_rows(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Rows of `per_class` images of each class, drawn by a seed, int64 [K·n].

    Raises:
        ValueError: a class has fewer.

    Example:
        >>> labels = torch.tensor([0, 1, 1, 0, 1, 0])
        >>> labels[labelled_rows(labels, 2, seed=0)]
        tensor([0, 0, 1, 1])
    """
    labels = labels.cpu()
    order = philox_uniform((len(labels),), torch.tensor([seed, _LABELS])).argsort()
    rows = []
    for each in labels.unique():
        of_class = order[labels[order] == each]
        if len(of_class) < per_class:
            raise ValueError(
                f"SemiEBGANRecipe: labels_per_class is {per_class}, but class {int(each)} has "
                f"{len(of_class)} images"
            )
        rows.append(of_class[:per_class])
    return torch.cat(rows)
