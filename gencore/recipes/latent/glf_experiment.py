"""Generative latent flow and the autoencoders that it is compared with, in training."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.metrics import ClassifierFeatures
from gencore.models import (
    WAEMMD,
    FrozenGenerator,
    GenerativeLatentFlow,
    LatentGenerator,
    RegularisedAutoencoder,
    to_unit_ball,
)
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.nn import PerceptualDistance
from gencore.ops import random_key
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.latent.bounds import bound_sums
from gencore.recipes.latent.glf import GLFRecipe
from gencore.recipes.latent.latent_models import (
    classifier_distance,
    make_adversary,
    make_autoencoder,
    make_decoder,
    make_flow,
    make_second_vae,
    make_vae,
)
from gencore.recipes.latent.latent_training import (
    CodeByCode,
    FlowAfterwards,
    Game,
    OneLoss,
    Training,
    VAEAfterwards,
    optimise,
)
from gencore.recipes.latent.latents_of_images import make_latents
from gencore.recipes.untrained import warn_if_untrained
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks, in_chunks
from gencore.train.done_steps import DoneSteps

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GLFExperiment"]

# Images that are sampled or coded at once, which bounds the memory.
_CHUNK = 512
_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 10


class GLFExperiment(ImageSamplesExperiment):
    """An autoencoder with a density of its codes in training."""

    recipe: GLFRecipe

    def __init__(self, recipe: GLFRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        self._done = DoneSteps()
        self.training = self._make_training()
        self.state: Mapping[str, StateObject] = {"steps": self._done, **self.training.state}

    def _make_training(self) -> Training:
        recipe, fabric, shape = self.recipe, self.fabric, self.image_shape
        device = fabric.device
        if recipe.batch_size < 2 * fabric.world_size:
            raise ValueError(
                f"GLFRecipe: batch_size is {recipe.batch_size} with {fabric.world_size} processes; "
                "expected at least 2 images on each, as the networks normalise over a batch"
            )
        first = partial(optimise, recipe, fabric, steps=recipe.first_steps)
        second = partial(
            optimise,
            recipe,
            fabric,
            first_step=recipe.first_steps,
            steps=max(recipe.steps - recipe.first_steps, 1),
        )
        if recipe.model in ("vae", "vae-flow-prior"):
            return OneLoss(optimise(recipe, fabric, make_vae(recipe, shape).to(device)))
        if recipe.model == "two-stage-vae":
            vaes = make_vae(recipe, shape).to(device), make_second_vae(recipe).to(device)
            return VAEAfterwards(
                first(vaes[0]),
                second(vaes[1]),
                recipe.first_steps,
            )
        if recipe.model == "glo":
            decoder = make_decoder(recipe, shape).to(device)
            start = to_unit_ball(torch.randn(len(self.dataset.images), recipe.latent_size))
            latents = make_latents(
                fabric, start, learning_rate=recipe.latent_learning_rate, project=to_unit_ball
            )
            return CodeByCode(recipe, optimise(recipe, fabric, decoder), latents)
        distance = self._perceptual_distance() if recipe.model == "perceptual" else None
        autoencoder = make_autoencoder(recipe, shape, distance).to(device)
        if recipe.model == "wae-mmd":
            wae = WAEMMD(
                autoencoder, divergence_weight=recipe.divergence_weight, prior_std=recipe.prior_std
            )
            return OneLoss(optimise(recipe, fabric, wae))
        if recipe.model == "wae-gan":
            rate = recipe.adversary_learning_rate
            return Game(
                recipe,
                optimise(recipe, fabric, autoencoder),
                optimise(recipe, fabric, make_adversary(recipe).to(device), learning_rate=rate),
            )
        if recipe.model == "rae-gmm":
            rae = RegularisedAutoencoder(
                autoencoder, code_penalty=recipe.code_penalty, num_components=recipe.components
            )
            return OneLoss(optimise(recipe, fabric, rae.to(device)))
        flow = make_flow(recipe).to(device)
        if recipe.stages == 2:
            return FlowAfterwards(
                first(autoencoder),
                second(flow, method="log_prob"),
                recipe.first_steps,
            )
        glf = GenerativeLatentFlow(
            autoencoder,
            flow,
            regularised=recipe.model == "regularised",
            recon_weight=recipe.recon_weight,
        )
        return OneLoss(optimise(recipe, fabric, glf))

    def _perceptual_distance(self) -> PerceptualDistance:
        """In the features of a classifier of the training images. Where there are none, to draw
        samples of a run, the checkpoint has its weights."""
        images, labels = self.dataset.images, self.dataset.labels
        if labels is None or len(labels.unique()) < 2:
            raise ValueError(
                "model is 'perceptual', but its distance is that of the features of a classifier, "
                f"which needs labels of two classes or more; {self.dataset.name!r} has none"
            )
        if images.is_meta:
            return classifier_distance(ClassifierFeatures(images.shape[1], len(labels.unique())))
        # The seed differs from that of the classifier which measures samples.
        return classifier_distance(ClassifierFeatures.fit(images, labels, seed=1))

    @property
    def model(self) -> LatentGenerator:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        return self.training.model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step; after the last one the mixture of codes is fitted, if there is one."""
        if self._done.number == 0:
            self._warn_if_untrained()
        scalars = self.training.step(batch, self._done.number)
        self._done.number += 1
        if self.recipe.model == "rae-gmm":
            model = self.model
            assert isinstance(model, RegularisedAutoencoder)
            model.mixture.fitted.fill_(False)  # what a run of fewer steps has fitted is outdated
            if self._done.number == self.recipe.steps:
                codes = in_chunks(lambda x: model.codes(self._floats(x)).cpu(), _CHUNK)(
                    self.dataset.images
                )
                model.mixture.fit(codes, seed=self.recipe.seed)
        return scalars

    def _warn_if_untrained(self) -> None:
        recipe = self.recipe
        if recipe.model == "two-stage-vae":
            what, first = "the second VAE is not trained", "the first VAE's"
        elif recipe.stages == 2:
            what, first = "the flow is not trained", "the autoencoder's"
        else:
            return
        warn_if_untrained(
            what, steps=recipe.steps, first_steps=recipe.first_steps, option="first_steps",
            first_are=first,
        )  # fmt: skip

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of noise from the model's prior."""
        key = random_key(generator, device=self.fabric.device)
        model = self.model
        parts = [
            model.sample(part.stop - part.start, key=key, first=part.start)
            for part in chunks(num, _CHUNK)
        ]
        return torch.cat(parts).clamp(0, 1)

    def latent_generator(self) -> tuple[nn.Module, tuple[int, ...]]:
        """The model as a frozen module from noise u ~ N(0, I), [N, U], to images in [0, 1], and the
        shape (U,) of one u: what a model of latents corrects."""
        if self.recipe.model == "rae-gmm":
            raise ValueError(
                "glf: the model rae-gmm has no latents that a model can correct: its noise chooses "
                "a component of the mixture, which no gradient moves"
            )
        generator = FrozenGenerator(self.model)
        return generator, (generator.noise_size,)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Measures need two images of each kind, and figures test images."""
        super().prepare(num_samples, num_evaluate)
        if num_samples:
            _ = self.test

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances from the held-out test images, and the mean squared error of pixels in
        up to `num` reconstructions of these; of VAEs bounds of their log p(x), in nats an image,
        with one latent and with `bound_samples`."""
        measures = super().evaluate(num)
        images = self.test.images[torch.randperm(len(self.test))[:num]]
        decoded = in_chunks(self._reconstruct, _CHUNK)(images)
        error = (decoded - to_float(images, 0, 1)).square().mean().item()
        return {**measures, **self._bounds(images), "squared_error/test": error}

    def _bounds(self, images: Tensor) -> dict[str, float]:
        model = self.model
        if not isinstance(model, ImportanceBounds):
            return {}
        key = random_key(device=self.fabric.device)
        totals = dict.fromkeys((1, self.recipe.bound_samples), 0.0)
        for part in chunks(len(images), _CHUNK):
            x = self._floats(images[part])
            for num, total in bound_sums(model, x, totals, key=key, first=part.start).items():
                totals[num] += total
        return {f"bound_{num}/test": total / len(images) for num, total in totals.items()}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Images along lines in noise between two samples; and test images above their
        reconstructions."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        model, columns = self.model, _FIGURE_COLUMNS
        start, end = model.sample_noise(2 * _FIGURE_ROWS).chunk(2)
        lines = model.interpolate(start, end, columns).flatten(0, 1)
        save_image_grid(lines, folder / "interpolation.png", columns=columns)
        chosen = torch.randperm(len(self.test))[: 2 * columns]
        rows = [
            row
            for x in self.test.images[chosen].split(columns)
            for row in (to_float(x, 0, 1), self._reconstruct(x))
        ]
        save_image_grid(torch.cat(rows), folder / "reconstructions.png", columns=columns)

    def _floats(self, images: Tensor) -> Tensor:
        return to_float(images.to(self.fabric.device), 0, 1)

    def _reconstruct(self, images: Tensor) -> Tensor:
        return self.model.reconstruct(self._floats(images)).cpu()
