"""Autoregressive models of images in training, by maximum likelihood."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from gencore.compression import ChainModel, ClassConditionalModel, CodingModel, ExactModel
from gencore.data import ImageDataset
from gencore.models import AutoregressiveImageModel
from gencore.recipes.autoregressive_images import AutoregressiveRecipe
from gencore.recipes.level_bits import level_bits
from gencore.recipes.levels_experiment import LevelsExperiment
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["AutoregressiveExperiment"]

# Images that pass through the network at once without a graph, which bounds the memory.
_CHUNK = 128

_FIGURE_IMAGES = 8
_FIGURE_COMPLETIONS = 6


class AutoregressiveExperiment(LevelsExperiment):
    """A model in training on the likelihood of levels; a subclass makes it."""

    recipe: AutoregressiveRecipe

    def __init__(
        self, recipe: AutoregressiveRecipe, fabric: "Fabric", dataset: ImageDataset
    ) -> None:
        super().__init__(recipe, fabric, dataset, class_conditional=recipe.class_conditional)
        model = self.make_model().to(fabric.device)
        self.optimisation = recipe.optimisation(
            fabric, model, _optimizer(recipe, model), ema_warmup=True, method="log_prob",
            advice="a lower learning_rate or max_grad_norm, or more warmup_steps",
        )  # fmt: skip
        self.optimisation.averaged.eval()
        self.state: Mapping[str, StateObject] = self.optimisation.state

    def make_model(self) -> AutoregressiveImageModel:
        """The model that the recipe names, which may start from the training images."""
        raise NotImplementedError

    @property
    def model(self) -> AutoregressiveImageModel:
        """The model with averaged weights."""
        model = self.optimisation.averaged
        assert isinstance(model, AutoregressiveImageModel)
        return model

    def image_model(self) -> CodingModel | ChainModel:
        """The model with averaged weights; one of classes says those of the images."""
        model = self.coding_model()
        contexts = self.classes.context(self.classes.labels)
        if contexts is None:
            return model
        assert isinstance(model, AutoregressiveImageModel | ExactModel)
        return ClassConditionalModel(model, contexts, self.classes.labels.tolist())

    def coding_model(self) -> CodingModel | ChainModel:
        """The model that codes images, given their classes if it is conditional; here the model
        itself, which is compiled."""
        return self.model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards a higher likelihood."""

        def loss(part: Batch) -> dict[str, Tensor]:
            log_prob = self.optimisation.model(part.x, self.classes.context(part.label))
            return {"bits_per_dim": self._bits(log_prob).mean()}

        return self.optimisation.step(batch, loss)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of the averaged weights; of a conditional model in the order of their classes, of
        which all have as many images, give or take one."""
        context = self.classes.context(self.classes.sample_labels(num))
        parts = [
            self.model.sample(
                part.stop - part.start,
                None if context is None else context[part],
                method=self.recipe.method,
                generator=generator,
            )
            for part in chunks(num, _CHUNK)
        ]
        return self.shown(torch.cat(parts))

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A grid of samples; of a conditional model a row for each class."""
        from gencore.train.figures import save_image_grid

        rows, columns = self.classes.rows(samples)
        save_image_grid(rows, path, columns=columns, above=self.shown_data)

    def evaluate(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` held-out test images, and of training images, of the
        levels that the recipe's bits leave; of a conditional model given the images' classes.

        Beside them stand those of the test images under two Gaussians fitted to all training
        images, whose noise within a level makes them bounds from above.
        """
        train, test = self.dataset, self.test
        measures: dict[str, float] = {"num_samples": min(num, len(test))}
        for name, part in (("test", test), ("train", train)):
            chosen = part.subset(torch.randperm(len(part))[:num])
            measures[f"bits_per_dim/{name}"] = self._mean_bits(chosen)
        for name, bits in self.gaussian_bits().items():
            measures[f"bits_per_dim/{name}"] = bits
        return measures

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images, those of a conditional model of known classes."""
        if num_samples or num_evaluate:
            self.classes.context(self.test.labels)

    def figures(self, folder: Path) -> None:
        """Completions of held-out images of which the upper half is known: in each row an image,
        what is known of it, and completions."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        test, count = self.test, _FIGURE_COMPLETIONS
        images = test.subset(torch.randperm(len(test))[:_FIGURE_IMAGES])
        levels = images.images.to(self.fabric.device, torch.int64)
        known = torch.zeros(self.image_shape[1:], dtype=torch.bool, device=levels.device)
        known[: max(self.image_shape[1] // 2, 1)] = True
        context = self.classes.context(images.labels)
        completions = self.model.sample(
            count * len(levels),
            None if context is None else context.repeat_interleave(count, 0),
            method=self.recipe.method,
            given=levels.repeat_interleave(count, 0),
            known=known,
        )
        originals = self.shown(levels)
        occluded = originals.where(known, 0.5)
        rows = [
            originals.unsqueeze(1),
            occluded.unsqueeze(1),
            self.shown(completions).unflatten(0, (len(levels), count)),
        ]
        grid = torch.cat(rows, 1).flatten(0, 1)
        save_image_grid(grid, folder / "completions.png", columns=2 + count)

    def _bits(self, log_prob: Tensor) -> Tensor:
        return level_bits(log_prob, self.image_shape)

    @torch.no_grad()
    def _mean_bits(self, data: ImageDataset) -> float:
        context = self.classes.context(data.labels)
        bits = [
            self._bits(
                self.model.log_prob(
                    data.images[part].to(self.fabric.device),
                    None if context is None else context[part],
                ).double()
            )
            for part in chunks(len(data), _CHUNK)
        ]
        return torch.cat(bits).mean().item()


def _optimizer(recipe: AutoregressiveRecipe, model: AutoregressiveImageModel) -> Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(model.parameters(), recipe.learning_rate)
    return torch.optim.RMSprop(model.parameters(), recipe.learning_rate)
