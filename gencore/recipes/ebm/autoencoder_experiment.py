"""Auto-encoders whose reconstruction error is an energy (Mathieu 2017, §2.1.2.1)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.metrics import detection_scores, independent_pixels
from gencore.models import AutoencoderEBM, AutoencoderEnergy
from gencore.nn import KSparse, WinnerTakeAll
from gencore.ops import random_key
from gencore.recipes.ebm.autoencoder import AutoencoderRecipe
from gencore.train import Batch, ImageExperiment, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["AutoencoderExperiment"]

_FIGURE_COLUMNS = 12


class AutoencoderExperiment(ImageExperiment):
    """A `AutoencoderEBM` of one layer each way in training, on pixels in [0, 1]."""

    recipe: AutoencoderRecipe

    def __init__(self, recipe: AutoencoderRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        pixels = math.prod(self.image_shape)
        if recipe.variant == "bottleneck" and recipe.code_size >= pixels:
            raise ValueError(
                f"code_size is {recipe.code_size}; expected fewer than the {pixels} numbers of an "
                "image, or a bottleneck is none"
            )
        energy = AutoencoderEnergy(
            nn.Linear(pixels, recipe.code_size),
            nn.Linear(recipe.code_size, pixels),
            activation=_activation(recipe),
        )
        variant = recipe.variant
        self.autoencoder = AutoencoderEBM(
            energy,
            sparsity_weight=recipe.sparsity_weight if variant == "sparse" else 0.0,
            contraction_weight=recipe.contraction_weight if variant == "contractive" else 0.0,
            noise_std=recipe.noise_std if variant == "denoising" else 0.0,
            num_probes=recipe.num_probes,
        )
        self.autoencoder.normalise_decoder()
        optimizer = torch.optim.Adam(
            self.autoencoder.parameters(), lr=recipe.learning_rate, fused=True
        )
        self.optimisation = recipe.optimisation(fabric, self.autoencoder, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def energy(self) -> AutoencoderEnergy:
        """The energy with averaged weights, of flattened images [N, D] in [0, 1]."""
        model = self.optimisation.averaged
        assert isinstance(model, AutoencoderEBM)
        return model.energy

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights, and scale what the components of a code add to an image."""
        key = random_key(device=self.fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            x = to_float(part.x, 0, 1).flatten(1)
            terms = self.optimisation.model(x, key=key, first=part.first)
            return {"loss": terms.loss.mean(), "energy": terms.energy.mean()}

        scalars = self.optimisation.step(batch, loss)
        self.autoencoder.normalise_decoder()
        return scalars

    def evaluate(self, num: int) -> dict[str, float]:
        """Energies a pixel of up to `num` held-out test images, the share of their code that is not
        zero, and the area under the ROC curve of telling other images by their energy.

        The others are `uniform_noise`; `independent_pixels`, which have the brightness of training
        images at each place and no correlation; and `inverted`, test images with black for white.
        """
        chosen = self.test.subset(torch.randperm(len(self.test))[:num]).images
        images = to_float(chosen, 0, 1)
        middle = images.shape[-1] // 2
        others = {
            "uniform_noise": torch.rand(images.shape),
            "independent_pixels": independent_pixels(self.dataset.images, len(images)) / 255,
            "inverted": 1 - images,
            "halves": torch.cat([images[..., :middle], images.roll(1, 0)[..., middle:]], -1),
        }
        energies = self._energies(images)
        with torch.no_grad():
            codes = self.energy.encode(images.to(self.fabric.device).flatten(1))
        measures: dict[str, float] = {
            "num_samples": len(images),
            "energy_per_pixel": energies.mean().item() / math.prod(self.image_shape),
            "active_share": (codes != 0).double().mean().item(),
        }
        for name, other in others.items():
            measures[f"auroc/{name}"] = detection_scores(energies, self._energies(other)).auroc
        return measures

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Measures need test images."""
        if num_evaluate:
            _ = self.test

    def figures(self, folder: Path) -> None:
        """What each component of a code adds to an image, from white to black, with the components
        in use most first."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        energy = self.energy
        weight = energy.decoder.weight
        assert isinstance(weight, Tensor)
        images = to_float(self.dataset.images[:1000].to(self.fabric.device), 0, 1).flatten(1)
        with torch.no_grad():
            order = energy.encode(images).abs().mean(0).argsort(descending=True)
            parts = weight.T[order].reshape(-1, *self.image_shape)
        scale = parts.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        save_image_grid(
            (0.5 + 0.5 * parts / scale).cpu(), folder / "components.png", columns=_FIGURE_COLUMNS
        )

    @torch.no_grad()
    def _energies(self, images: Tensor) -> Tensor:
        energies: Tensor = self.energy(images.to(self.fabric.device).flatten(1))
        return energies.cpu()


def _activation(recipe: AutoencoderRecipe) -> nn.Module:
    if recipe.variant == "k-sparse":
        return KSparse(recipe.active)
    if recipe.variant == "winner-take-all":
        return WinnerTakeAll()
    # Bounded, so that a contractive encoder cannot escape into its tails, as its paper has it.
    return {"sparse": nn.ReLU(), "contractive": nn.Sigmoid(), "denoising": nn.Sigmoid()}.get(
        recipe.variant, nn.Identity()
    )
