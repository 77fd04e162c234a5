"""Generators of images and their adversaries in training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.metrics import (
    frechet_at_infinity,
    gan_test_train,
    gaussian_moments,
    independent_gaussian_bits,
    tweaked_inception_score,
)
from gencore.models import fit_likelihood_around
from gencore.nn import ConvEncoder, DCGANGenerator
from gencore.ops import philox_normal, random_key
from gencore.recipes.adversarial.adversarial_training import (
    AdversarialTraining,
    Networks,
    make_adversary,
)
from gencore.recipes.adversarial.dcgan_adversaries import dcgan_adversaries, scale_widths
from gencore.recipes.adversarial.gan import GANRecipe
from gencore.recipes.adversarial.growing_networks import GrowingNetworks
from gencore.recipes.adversarial.mlp_networks import mlp_adversaries, mlp_generator
from gencore.recipes.classes import Classes
from gencore.recipes.dequantised_bits import mean_dequantised_bits
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GANExperiment"]

_CHUNK = 256
_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 11


class _HalfRange(nn.Module):
    """A generator of images in [−½, ½]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.generator(z)
        return images / 2


def _signed(images: Tensor) -> Tensor:
    return to_float(images, -1, 1)


def _scores(discriminator: nn.Module) -> Networks:
    """A discriminator of images, which has no counterparts of sets or energies."""

    def refuse() -> NoReturn:
        raise TypeError("these networks judge single images alone")

    return Networks(lambda: discriminator, refuse, refuse)


class GANExperiment(ImageSamplesExperiment):
    """A generator of images in training; images and samples are in [−1, 1] for the adversary."""

    recipe: GANRecipe

    def __init__(self, recipe: GANRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        conditional = recipe.class_conditional
        self.classes = Classes.of(recipe.data, dataset, fabric.device, conditional)
        self._growing = self._make_growing() if recipe.networks == "progressive" else None
        generator: nn.Module
        if self._growing is not None:
            generator, networks = self._growing.generator, _scores(self._growing.discriminator)
        else:
            make = self._perceptrons if recipe.networks == "mlp" else self._dcgan
            generator, networks = make()
        self.training = AdversarialTraining(
            recipe, fabric, generator, make_adversary(recipe, networks)
        )
        self.state: Mapping[str, StateObject] = self.training.state
        if self._growing is not None:
            self.state = {"images_seen": self._growing.seen, **self.state}

    def _perceptrons(self) -> tuple[nn.Module, Networks]:
        recipe, shape = self.recipe, tuple(self.image_shape)
        generator = mlp_generator(
            recipe.latent_size, recipe.generator_widths, shape, batch_norm=recipe.batch_norm
        )
        return generator, mlp_adversaries(
            shape, recipe.discriminator_widths, batch_norm=recipe.discriminator_batch_norm,
            dropout=recipe.dropout,
        )  # fmt: skip

    def _dcgan(self) -> tuple[nn.Module, Networks]:
        recipe, shape = self.recipe, tuple(self.image_shape)
        conditional = recipe.class_conditional
        generator = DCGANGenerator(
            recipe.latent_size, shape, width=recipe.width,
            num_classes=self.classes.context_size if conditional else None,
            normalization="conditional weight" if conditional
            else "batch" if recipe.batch_norm else "none",
        )  # fmt: skip
        return generator, dcgan_adversaries(
            shape, recipe.width, batch_norm=recipe.discriminator_batch_norm,
            num_classes=self.classes.context_size if conditional else None,
        )  # fmt: skip

    def _make_growing(self) -> GrowingNetworks:
        recipe = self.recipe
        return GrowingNetworks(
            recipe.latent_size, tuple(self.image_shape), width=recipe.width,
            phase_images=recipe.phase_images, minibatch_std=recipe.minibatch_std,
        )  # fmt: skip

    def step(self, batch: Batch) -> dict[str, Tensor]:
        batch = replace(batch, label=self.classes.numbers(batch.label))
        if self._growing is None:
            return self.training.step(batch, _signed)
        seen, scale_images = self._growing.seen, self._growing.discriminator.scale_images
        level, alpha = seen.growth
        scalars = self.training.step(batch, lambda images: scale_images(_signed(images)))
        seen.number += self.recipe.batch_size * self.recipe.discriminator_steps
        return {**scalars, "level": torch.tensor(level - 1 + alpha)}

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

    def more_candidates(self, num: int) -> dict[str, Tensor]:
        """Images of a Metropolis-Hastings GAN, if asked for, whose chains start at test images."""
        if not self.recipe.num_proposals:
            return {}
        starts = self.test.images[torch.arange(num) % len(self.test)].to(self.fabric.device)
        images = self.training.metropolis_hastings(to_float(starts, -1, 1))
        return {"metropolis_hastings": ((images + 1) / 2).clamp(0, 1).cpu()}

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances of samples, and where the data have labels the tweaked inception score
        by a small classifier of them, in nats, beside that of test images. From ten times as many
        samples as the classifier has features, also the distance on these without the bias of the
        number of samples, `samples_at_infinity`. Of a conditional generator the accuracies of
        GAN-test and GAN-train, and of real images. With `encoder_steps` bits per dimension of test
        and training images, from above, of an encoder and a noise level that are trained around the
        frozen generator, and those of independent Gaussians."""
        measures = {**super().evaluate(num), **self._bits(num)}
        classifier = self.classifier
        if classifier is None:
            return measures
        samples = self.sample(num).cpu()
        for name, part in (("samples", samples), ("test", self.test.images[:num])):
            logits = classifier.head(classifier(part))
            measures[f"tweaked_inception_score/{name}"] = tweaked_inception_score(
                logits, min_log_prob=-10.0
            )
        reference = gaussian_moments(self.test.images, classifier)
        if num >= 10 * len(reference.mean):
            measures["frechet_classifier/samples_at_infinity"] = frechet_at_infinity(
                samples, reference, classifier, generator=Generator().manual_seed(0)
            ).value
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

    def _bits(self, num: int) -> dict[str, float]:
        recipe = self.recipe
        if not recipe.encoder_steps:
            return {}
        train, test = self.dataset.images, self.test.images
        model = fit_likelihood_around(
            _HalfRange(self.training.averaged),
            ConvEncoder(
                self.image_shape,
                2 * recipe.latent_size,
                widths=scale_widths(tuple(self.image_shape), recipe.width),
            ),
            train.to(self.fabric.device),
            recipe.latent_size,
            steps=recipe.encoder_steps,
            batch_size=recipe.batch_size,
        )
        measures = {"bits_per_dim/independent_gaussian": independent_gaussian_bits(train, test)}
        for name, part in (("test", test), ("train", train)):
            chosen = part[torch.randperm(len(part))[:num]].to(self.fabric.device)
            bits = mean_dequantised_bits(model, chosen, recipe.importance_samples)
            measures[f"bits_per_dim/{name}"] = bits
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
