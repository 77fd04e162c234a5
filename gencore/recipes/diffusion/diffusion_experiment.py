"""The diffusion model on images (Sohl-Dickstein et al. 2015; Ho et al. 2020)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import ImageDataset, to_float
from gencore.metrics import full_gaussian_bits, independent_gaussian_bits
from gencore.models import DiffusionBound, GaussianDiffusion, NoiseSchedule
from gencore.nn import DenoisingUNet
from gencore.ops import random_key
from gencore.recipes.diffusion.diffusion import DiffusionRecipe
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.level_bits import level_bits
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DiffusionExperiment", "make_network"]

# Images that pass through the network at once without a graph, which bounds the memory.
_CHUNK = 256
# Beyond this many dimensions the full covariance, and minutes of factorising it, are left out.
_MAX_GAUSSIAN_DIMS = 4096

_FIGURE_ROWS = 8
_FIGURE_COLUMNS = 10


class DiffusionExperiment(ImageSamplesExperiment):
    """A `GaussianDiffusion` in training on images scaled to [−1, 1]."""

    recipe: DiffusionRecipe

    def __init__(self, recipe: DiffusionRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        schedule = NoiseSchedule.linear(
            recipe.levels, first=recipe.first_variance, last=recipe.last_variance
        )
        model = GaussianDiffusion(
            make_network(recipe, self.image_shape),
            self.image_shape,
            schedule,
            predicts=recipe.predicts,
            loss=recipe.loss,
            variance=recipe.variance,
            bins=256,
            clamp=(-1.0, 1.0),
        )
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, model, optimizer, ema_warmup=True)
        self.chain = _even_levels(recipe.levels, recipe.chain_steps)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def averaged(self) -> GaussianDiffusion:
        """The model with averaged weights."""
        model = self.optimisation.averaged
        assert isinstance(model, GaussianDiffusion)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Diffuse the images to levels of their own and move the weights to better predictions."""
        key = random_key(device=self.fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            x = to_float(part.x, -1, 1)
            return {"loss": self.optimisation.model(x, key=key, first=part.first)}

        return self.optimisation.step(batch, loss)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images from the averaged weights, by the recipe's chain."""
        key = random_key(generator, self.fabric.device)
        parts = [
            self.averaged.sample(
                part.stop - part.start, levels=self.chain, eta=self.recipe.eta,
                key=key, first=part.start,
            )
            for part in chunks(num, _CHUNK)
        ]  # fmt: skip
        return ((torch.cat(parts) + 1) / 2).clamp(0, 1)

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances of samples, and upper bounds of the bits per dimension of up to `num`
        held-out test images and of training images.

        The bound is that of the recipe's chain, with its terms: `prior`, of the noise at the last
        level; `steps`; and `reconstruction`, of the grey levels given the last step's input.
        `optimal_variances` is the bound with the variances that are best for training images.
        Beside them stand the bits of two Gaussians fitted to all training images, of independent
        pixels and, up to 4,096 dimensions, of all covariances.
        """
        measures = super().evaluate(num)
        train, test = (
            to_float(part.images[torch.randperm(len(part))[:num]], -1, 1)
            for part in (self.dataset, self.test)
        )
        bound = self._bound(test)
        measures["bits_per_dim/test"] = self._bits(bound.total)
        for name, term in (
            ("prior", -bound.prior),
            ("steps", -bound.steps.sum(1)),
            ("reconstruction", bound.reconstruction),
        ):
            measures[f"bits_per_dim/{name}"] = self._bits(term)
        variances = self._optimal_variances(train)
        measures["bits_per_dim/optimal_variances"] = self._bits(self._bound(test, variances).total)
        measures["bits_per_dim/train"] = self._bits(self._bound(train).total)
        images, held_out = self.dataset.images, self.test.images
        measures["bits_per_dim/independent_gaussian"] = independent_gaussian_bits(images, held_out)
        if images[0].numel() <= _MAX_GAUSSIAN_DIMS:
            measures["bits_per_dim/full_gaussian"] = full_gaussian_bits(images, held_out)
        return measures

    def figures(self, folder: Path) -> None:
        """Samples on their way from noise, a row each."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        path = self.averaged.sample(
            _FIGURE_ROWS, levels=self.chain, eta=self.recipe.eta, return_trajectory=True
        )
        shown = torch.linspace(0, len(path) - 1, _FIGURE_COLUMNS).round().long()
        rows = path[shown].transpose(0, 1).flatten(0, 1)
        save_image_grid(
            ((rows + 1) / 2).clamp(0, 1), folder / "denoising.png", columns=_FIGURE_COLUMNS
        )

    @torch.no_grad()
    def _bound(self, x: Tensor, variances: Tensor | None = None) -> DiffusionBound:
        device = self.fabric.device
        key = random_key(device=device)
        parts = [
            self.averaged.bound(
                x[part].to(device), levels=self.chain, variances=variances,
                key=key, first=part.start,
            )
            for part in chunks(len(x), _CHUNK)
        ]  # fmt: skip
        return DiffusionBound(*(torch.cat(terms) for terms in zip(*parts, strict=True)))

    def _optimal_variances(self, x: Tensor) -> Tensor:
        device = self.fabric.device
        sums = [
            len(x[part]) * self.averaged.optimal_variances(x[part].to(device), levels=self.chain)
            for part in chunks(len(x), _CHUNK)
        ]
        return torch.stack(sums).sum(0) / len(x)

    def _bits(self, log_prob: Tensor) -> float:
        return level_bits(log_prob.double().mean(), self.image_shape).item()


def make_network(recipe: DiffusionRecipe, shape: Sequence[int]) -> DenoisingUNet:
    """The network that the recipe describes, for images of `shape` [C, H, W]."""
    channels, *sides = shape
    multipliers = recipe.multipliers
    if multipliers is None:
        multipliers = (1, 2) if min(sides) < 16 else (1, 2, 2)
    network = DenoisingUNet(
        channels,
        width=recipe.width,
        multipliers=multipliers,
        num_blocks=recipe.num_blocks,
        attention_scales=recipe.attention_scales,
        dropout=recipe.dropout,
        out_channels=2 * channels if recipe.variance == "learned" else channels,
    )
    if any(side % network.factor for side in sides):
        raise ValueError(
            f"DiffusionRecipe: the images are {sides[0]}x{sides[1]}; the network needs sides that "
            f"are multiples of {network.factor}: give fewer multipliers, or set image_size"
        )
    return network


def _even_levels(last: int, num_steps: int | None) -> list[int]:
    """Levels from 0 to the last, of which `num_steps` steps of about the same length are made."""
    num_steps = last if num_steps is None else min(num_steps, last)
    return [round(last * place / num_steps) for place in range(num_steps + 1)]
