"""Generators of images and their adversaries in training."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.metrics import gan_test_train, tweaked_inception_score
from gencore.models import ConvAutoencoderEnergy
from gencore.nn import (
    DCGANDiscriminator,
    DCGANGenerator,
    EquivariantConvDiscriminator,
    ProjectionDiscriminator,
)
from gencore.ops import philox_normal, random_key
from gencore.recipes.adversarial.adversarial_training import (
    AdversarialTraining,
    Networks,
    make_adversary,
)
from gencore.recipes.adversarial.gan import GANRecipe
from gencore.recipes.classes import Classes
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.train import Batch
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GANExperiment"]

_CHUNK = 256
_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 11


class GANExperiment(ImageSamplesExperiment):
    """A generator of images in training; images and samples are in [−1, 1] for the adversary."""

    recipe: GANRecipe

    def __init__(self, recipe: GANRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        conditional = recipe.class_conditional
        self.classes = Classes.of(recipe.data, dataset, fabric.device, conditional)
        shape = tuple(self.image_shape)
        generator = DCGANGenerator(
            recipe.latent_size, shape, width=recipe.width,
            num_classes=self.classes.context_size if conditional else None,
            normalization="conditional weight" if conditional
            else "batch" if recipe.batch_norm else "none",
        )  # fmt: skip
        networks = Networks(
            self._discriminator,
            lambda: EquivariantConvDiscriminator(shape, widths=self._widths(1)),
            lambda: ConvAutoencoderEnergy(
                shape, widths=self._widths(), batch_norm=recipe.discriminator_batch_norm
            ),
        )
        self.training = AdversarialTraining(
            recipe, fabric, generator, make_adversary(recipe, networks)
        )
        self.state = self.training.state

    def _discriminator(self) -> nn.Module:
        recipe = self.recipe
        network = DCGANDiscriminator(
            tuple(self.image_shape), width=recipe.width,
            batch_norm=recipe.discriminator_batch_norm,
        )  # fmt: skip
        if not recipe.class_conditional:
            return network
        return ProjectionDiscriminator(
            network.features, network.num_features, self.classes.context_size
        )

    def _widths(self, more: int = 0) -> tuple[int, ...]:
        """Channels of as many scales as the sides can be halved without going below 4, and of
        `more`."""
        side, num = min(self.image_shape[1:]), 0
        while all(each % 2 ** (num + 1) == 0 for each in self.image_shape[1:]) and (
            side >> (num + 1) >= 4
        ):
            num += 1
        return tuple(self.recipe.width << scale for scale in range(max(num, 1) + more))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        batch = replace(batch, label=self.classes.numbers(batch.label))
        return self.training.step(batch, lambda images: to_float(images, -1, 1))

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of normal noise; of a conditional generator in the order of their classes, of
        which all have as many images, give or take one."""
        return self._images(self._noise(num, generator), self.classes.sample_labels(num))

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A grid of samples; of a conditional generator a row for each class."""
        from gencore.train.figures import save_image_grid

        rows, columns = self.classes.rows(samples)
        save_image_grid(rows, path, columns=columns, above=self.shown_data)

    def _noise(self, num: int, generator: Generator | None = None) -> Tensor:
        key = random_key(generator, device=self.fabric.device)
        return philox_normal((num, self.recipe.latent_size), key)

    def _images(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Images in [0, 1]."""
        network, parts = self.training.averaged, []
        numbers = self.classes.numbers(labels)
        for part in chunks(len(noise), _CHUNK):
            given = () if numbers is None else (numbers[part],)
            parts.append(network(noise[part], *given))
        return ((torch.cat(parts) + 1) / 2).clamp(0, 1)

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances of samples, and where the data have labels the tweaked inception score
        by a small classifier of them, in nats, beside that of test images. Of a conditional
        generator the accuracies of GAN-test and GAN-train, and of real images."""
        measures = super().evaluate(num)
        classifier = self.classifier
        if classifier is None:
            return measures
        samples = self.sample(num).cpu()
        for name, part in (("samples", samples), ("test", self.test.images[:num])):
            logits = classifier.head(classifier(part))
            measures[f"tweaked_inception_score/{name}"] = tweaked_inception_score(
                logits, min_log_prob=-10.0
            )
        images, labels = self.dataset.images, self.dataset.labels
        of_samples = self.classes.sample_labels(len(images))
        if of_samples is not None and labels is not None and self.test.labels is not None:
            with torch.no_grad():
                generated = self._images(self._noise(len(images)), of_samples).cpu()
            scores = gan_test_train(
                (images, labels), (self.test.images, self.test.labels),
                (generated, of_samples.cpu()),
            )  # fmt: skip
            measures |= {f"accuracy/{name}": each for name, each in scores._asdict().items()}
        return measures

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Images along lines in noise between two samples, of a conditional generator a class a
        row."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        start, end = self._noise(2 * _FIGURE_ROWS).chunk(2)
        t = torch.linspace(0, 1, _FIGURE_COLUMNS, device=start.device)[:, None]
        noise = torch.lerp(start[:, None], end[:, None], t).flatten(0, 1)
        labels = self.classes.sample_labels(_FIGURE_ROWS)
        if labels is not None:
            labels = labels.repeat_interleave(_FIGURE_COLUMNS)
        lines = self._images(noise, labels)
        save_image_grid(lines, folder / "interpolation.png", columns=_FIGURE_COLUMNS)
