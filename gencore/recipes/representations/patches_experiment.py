"""The siamese network of relative patches in training, its measures and nearest patches."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from gencore.data import ImageDataset
from gencore.models import PatchPairs, RelativePatches, draw_patch_pairs, patch_encoder
from gencore.ops import random_key
from gencore.recipes.representations.patches import PatchesRecipe
from gencore.train import Batch, ImageExperiment, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["PatchesExperiment"]

# Pairs that are measured at once, which bounds the memory.
_CHUNK = 256
# Rows of the figure, and the nearest patches in each.
_FIGURE_ROWS = 8
_FIGURE_NEAREST = 7


class PatchesExperiment(ImageExperiment):
    """A `RelativePatches` in training, on a new pair of patches of each image of a batch."""

    recipe: PatchesRecipe

    def __init__(self, recipe: PatchesRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        shape = (self.image_shape[0], recipe.patch_size, recipe.patch_size)
        if not dataset.images.is_meta:  # what does not fit is told before the first step
            self._pairs(dataset.images[:1], random_key(torch.Generator()), 0)
        encoder = patch_encoder(shape, recipe.code_size, channels=recipe.channels)
        model = RelativePatches(encoder, recipe.code_size).to(fabric.device)
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, model, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def model(self) -> RelativePatches:
        """The network, with averaged weights if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, RelativePatches)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards less cross-entropy."""
        key = random_key(device=self.fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            pairs = self._pairs(part.x, key, part.first)
            logits = self.optimisation.model(pairs.first, pairs.second)
            right = (logits.argmax(1) == pairs.position).float()
            return {
                "loss": functional.cross_entropy(logits, pairs.position),
                "accuracy": right.mean(),
            }

        return self.optimisation.step(batch, loss)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of `num` pairs of patches of test images: how many positions are guessed, of which chance
        is an eighth, and the cross-entropy in nats, of which it is log 8 = 2.08."""
        key = random_key(device=self.fabric.device)
        right = loss = 0.0
        for part in chunks(num, _CHUNK):
            chosen = torch.arange(part.start, part.stop) % len(self.test)
            images = self.test.images[chosen].to(self.fabric.device)
            pairs = self._pairs(images, key, part.start)
            logits = self.model(pairs.first, pairs.second)
            right += (logits.argmax(1) == pairs.position).sum().item()
            loss += functional.cross_entropy(logits, pairs.position, reduction="sum").item()
        return {"accuracy": right / num, "loss/test": loss / num}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Patches of test images, each before the patches of training images whose codes have the
        smallest angles with its own."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        asked = self._all_patches(self.test.images)
        asked = asked[torch.randperm(len(asked))[:_FIGURE_ROWS]]
        known = self._all_patches(self.dataset.images[:1000])
        codes = (functional.normalize(self._codes(patches), dim=1) for patches in (asked, known))
        query, key = codes
        nearest = (query @ key.T).topk(_FIGURE_NEAREST, dim=1).indices
        rows = torch.cat([asked[:, None], known[nearest]], 1).flatten(0, 1)
        save_image_grid((rows + 1) / 2, folder / "nearest.png", columns=1 + _FIGURE_NEAREST)

    def _pairs(self, images: Tensor, key: Tensor, first: int) -> PatchPairs:
        recipe = self.recipe
        return draw_patch_pairs(
            images, patch_size=recipe.patch_size, gap=recipe.gap, jitter=recipe.jitter,
            colour=recipe.colour, key=key, first=first,
        )  # fmt: skip

    def _all_patches(self, images: Tensor) -> Tensor:
        """Both patches of a pair of each image, [2N, C, P, P], on the CPU."""
        pairs = self._pairs(images, random_key(), 0)
        return torch.cat([pairs.first, pairs.second])

    def _codes(self, patches: Tensor) -> Tensor:
        parts = (patches[part].to(self.fabric.device) for part in chunks(len(patches), _CHUNK))
        return torch.cat([self.model.encode(part).cpu() for part in parts])
