"""Autoregressive models of binary images, by maximum likelihood."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor

from gencore.compression import DARNModel, ExactModel
from gencore.data import ImageDataset
from gencore.data.splits import Split
from gencore.models import DARN, NADE, DiscreteMADE, EoNADE, VectorModel
from gencore.models.autoregressive.uniforms import uniforms
from gencore.models.log_mean_exp import log_mean_exp
from gencore.ops import random_key
from gencore.recipes.autoregressive.nade import NADERecipe
from gencore.train import Batch, ImageExperiment, StateObject
from gencore.train.chunks import in_chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["NADEExperiment", "binarized"]

# Images of which a likelihood is computed at once.
_CHUNK = 100
# Keys of the bits that stochastic binarisation draws, the same in all runs.
_BINARIZATION_KEYS: Mapping[Split, tuple[int, int]] = {"train": (0xB175, 0), "test": (0xB175, 1)}

_FIGURE_ROWS = 8
_FIGURE_COMPLETIONS = 6
# Candidates for a completion, where the known half does not come first in the model's order.
_PARTICLES = 50


class NADEExperiment(ImageExperiment):
    """A model of binary vectors in training on the likelihood of images."""

    recipe: NADERecipe

    def __init__(self, recipe: NADERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        model = make_model(recipe, self.image_shape).to(fabric.device)
        optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.optimisation = recipe.optimisation(fabric, model, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def model(self) -> VectorModel:
        """The model with averaged weights, if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, VectorModel)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards a higher likelihood, or bound on it, of the images."""
        # Of orders and latents; models without draw nothing.
        draws = self.recipe.model in ("eonade", "darn")
        key = random_key(device=self.fabric.device) if draws else None

        def loss(part: Batch) -> dict[str, Tensor]:
            x = _bits(part.x)
            model = self.optimisation.model
            losses = model(x, key=key, first=part.first) if draws else model(x)
            return {"negative_log_likelihood": losses.mean()}

        return self.optimisation.step(batch, loss)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Binary images of the model, one pixel after another."""
        return self._images(self.model.sample(num, generator=generator))

    def image_model(self) -> ExactModel | DARNModel:
        """The model that compresses; a `ValueError` for several sets of masks, for colours, and for
        another order than the raster, which DARN alone may have."""
        channels, height, width = self.image_shape
        model, shape = self.model, (channels, height, width)
        return DARNModel(model, shape) if isinstance(model, DARN) else ExactModel(model, shape)

    def evaluate(self, num: int) -> dict[str, float]:
        """−log p in nats of up to `num` held-out test images, and of training images.

        EoNADE's is the mean over `num_orderings` random orders, beside that of the mean of p over
        them (the ensemble); that of several sets of masks is of the mean of p. DARN's is the
        variational bound, beside the importance-weighted bound of `importance_samples`. The test
        images also stand under independent pixels, each as often 1 as in the training images (with
        one image of each kind more, so that none is impossible).
        """
        train, test = self.dataset, self.test
        measures: dict[str, float] = {"num_samples": min(num, len(test))}
        names, log_probs = self._log_probs()
        for part_name, part in (("test", test), ("train", train)):
            chosen = part.subset(torch.randperm(len(part))[:num]).images
            x = _bits(chosen.to(self.fabric.device))
            nats = -in_chunks(log_probs, _CHUNK)(x).double().mean(0)
            for name, value in zip(names, nats.tolist(), strict=True):
                measures[f"{name}/{part_name}"] = value
        measures["nats/independent_pixels"] = _independent_nats(train.images, test.images)
        return measures

    def figures(self, folder: Path) -> None:
        """Held-out images (first column), their known upper half, and completions of it."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        test = self.test
        x = _bits(test.images[torch.randperm(len(test))[:_FIGURE_ROWS]]).to(self.fabric.device)
        height = self.image_shape[1]
        known = torch.zeros(tuple(self.image_shape), dtype=torch.bool, device=x.device)
        known[:, : height // 2] = True
        known = known.flatten()
        given, rows = x.repeat_interleave(_FIGURE_COMPLETIONS, 0), len(x)
        completed = self._complete(given, known).view(rows, _FIGURE_COMPLETIONS, -1)
        half = torch.where(known, x.float(), 0.5)
        images = torch.cat([x.float()[:, None], half[:, None], completed.float()], 1)
        columns = _FIGURE_COMPLETIONS + 2
        save_image_grid(
            self._images(images.flatten(0, 1)), folder / "completions.png", columns=columns
        )

    def _complete(self, given: Tensor, known: Tensor) -> Tensor:
        """Completions; exact where the known half comes first, else by importance."""
        recipe = self.recipe
        exact = recipe.model == "eonade" or (
            recipe.model != "darn"
            and recipe.order == "raster"
            and recipe.num_masks == 1
            and self.image_shape[0] == 1
        )
        particles = None if exact else _PARTICLES
        return self.model.sample(len(given), given=given, known=known, particles=particles)

    def _log_probs(self) -> tuple[tuple[str, ...], Callable[[Tensor], Tensor]]:
        """What measures images: K names, and log-probabilities or bounds [N, K] of bits."""
        model, recipe = self.model, self.recipe
        if isinstance(model, DARN):

            def bounds(x: Tensor) -> Tensor:
                tight = model.importance_bound(x, recipe.importance_samples)
                return torch.stack([model.elbo(x), tight], 1)

            return ("nats_bound", "nats_importance_bound"), bounds
        if isinstance(model, EoNADE):
            # The same orders for all images.
            orders = [torch.randperm(model.features) for _ in range(recipe.num_orderings)]

            def ensemble(x: Tensor) -> Tensor:
                each = torch.stack([model.log_prob(x, order[None]) for order in orders])
                return torch.stack([each.mean(0), log_mean_exp(each)], 1)

            return ("nats", "nats_ensemble"), ensemble
        return ("nats",), lambda x: model.log_prob(x)[:, None]

    def _images(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.image_shape).float()


def binarized(
    dataset: ImageDataset, binarization: Literal["threshold", "stochastic"], split: Split
) -> ImageDataset:
    """The images with levels 0 and 255 alone."""
    images = dataset.images
    if binarization == "threshold":
        ones = images >= 128
    else:
        key = torch.tensor(_BINARIZATION_KEYS[split])
        numbers = uniforms(len(images), images[0].numel(), key).view(images.shape)
        ones = numbers * 255 < images
    return replace(dataset, images=ones.to(torch.uint8) * 255)


def make_model(recipe: NADERecipe, shape: Sequence[int]) -> VectorModel:
    """The model that the recipe names, for images of `shape` [C, H, W]."""
    pixels = math.prod(shape)
    order = None
    if recipe.order == "random":
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(recipe.seed))
    widths = recipe.hidden_widths
    if recipe.model == "nade":
        return NADE(pixels, widths[0], order=order)
    if recipe.model == "eonade":
        return EoNADE(pixels, widths, order=order)
    if recipe.model == "darn":
        return DARN(pixels, recipe.latents, hidden_widths=recipe.deterministic_widths, order=order)
    return DiscreteMADE(
        pixels,
        widths,
        order="natural" if order is None else order,
        num_masks=recipe.num_masks,
        order_agnostic=recipe.order_agnostic,
        seed=recipe.seed,
    )


def _bits(images: Tensor) -> Tensor:
    """Bits [N, D] of images with levels 0 and 255."""
    return (images > 0).to(torch.uint8).flatten(1)


def _independent_nats(train: Tensor, test: Tensor) -> float:
    """−log p of test images whose pixels are 1 as often as those of the training images."""
    p = (_bits(train).double().sum(0) + 1) / (len(train) + 2)
    x = _bits(test).double()
    return -(x * p.log() + (1 - x) * torch.log1p(-p)).sum(1).mean().item()
