"""V1's simple cells, on pairs of images of which the second one is moved."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gencore.data import (
    ImageDataset,
    MovingPair,
    deformed_pairs,
    difference_of_gaussians,
    flying_pairs,
    to_float,
)
from gencore.data.images.pixels import luma
from gencore.data.video.moving_pairs import DEFORMING_NUMBERS, FLYING_NUMBERS
from gencore.models import (
    DisplacementObjective,
    RotationMotion,
    SimpleCells,
    TableMotion,
    TaylorMotion,
    TightFrame,
    descend_displacements,
)
from gencore.models.visual_cortex.motion_matrices import MotionModule
from gencore.recipes.latent.latents_of_images import LatentsState, make_latents
from gencore.recipes.visual_cortex.v1 import V1Recipe
from gencore.recipes.visual_cortex.v1_measures import measure_cells, measure_motion, show_cells
from gencore.train import Batch, ImageExperiment, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["V1Experiment"]

# Of middle frequencies, which of photographs in [-1, 1] are weak.
_BAND_PASS_GAIN = 7.0
_DESCENT_STEPS = 100
# Images that tell which cells are in use.
_MEASURED = 64


class V1Experiment(ImageExperiment):
    """V1's simple cells in training."""

    recipe: V1Recipe

    def __init__(self, recipe: V1Recipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        self.side = self._check_sides()
        model = SimpleCells(
            TightFrame(
                recipe.num_blocks, recipe.block_size,
                patch_size=recipe.patch_size, stride=recipe.stride,
            ),
            self._motion(),
        ).to(fabric.device)  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate)
        self.optimisation = recipe.optimisation(fabric, model, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state
        if not recipe.supervised:
            patches = (self.side - recipe.patch_size) // recipe.stride + 1
            # Small random values, as the source has them.
            start = 0.1 * torch.randn(len(dataset), 2, patches, patches)
            self.displacements = make_latents(fabric, start, learning_rate=recipe.inference_rate)
            # The motions of the whole run, a row an image.
            self._numbers = torch.rand(len(dataset), self.num_numbers)
            self.state = {**self.state, "displacements": LatentsState(self.displacements)}

    @property
    def model(self) -> SimpleCells:
        """The cells, with averaged weights if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, SimpleCells)
        return model

    def moving(self, images: Tensor, numbers: Tensor) -> MovingPair:
        """Pairs of grey images in [0, 1], with what the motion has brought in cut off."""
        recipe = self.recipe
        grey = luma(to_float(images, 0, 1))
        if recipe.pairs == "deformed":
            pair = deformed_pairs(grey, numbers, max_displacement=recipe.max_displacement)
        else:
            # Objects look like the image, turned by half a turn.
            pair = flying_pairs(
                grey, grey.flip(2, 3), numbers, max_displacement=recipe.max_displacement
            )
        return pair

    def seen(self, pair: MovingPair) -> tuple[Tensor, Tensor, Tensor]:
        """Both images as the cells see them, without margins, and δ at their patches."""
        recipe = self.recipe
        images = [2 * image - 1 for image in pair[:2]]
        if recipe.band_pass:
            images = [_BAND_PASS_GAIN * difference_of_gaussians(image) for image in images]
        shown = pair._replace(first=images[0], second=images[1])
        first, second, field, _ = shown.cropped(recipe.margin)
        frame = self.model.frame
        return first, second, frame.interior(frame.at_centres(field))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Infer displacements, if they are not given, and move the weights."""
        recipe = self.recipe
        scalars = {}
        if not recipe.supervised:
            first, second, truth = self._fixed_pairs(batch)
            objective = self._objective(first, second)
            rate = self.optimisation.optimizer.param_groups[0]["lr"] / recipe.learning_rate
            found = self.displacements.descend(
                objective, batch.index, num_steps=recipe.inference_steps, factor=rate
            )
            scalars["aee"] = (found - truth).norm(dim=1).mean()

        def loss(part: Batch) -> dict[str, Tensor]:
            if recipe.supervised:
                numbers = part.uniform((self.num_numbers,))
                first, second, displacement = self.seen(self.moving(part.x, numbers))
            else:
                first, second, _ = self._fixed_pairs(part)
                displacement = self.displacements(part.index)
            terms = self.optimisation.model(first, second, displacement)
            rotation, reconstruction = terms.rotation.mean(), terms.reconstruction.mean()
            return {
                "loss": rotation + recipe.reconstruction_weight * reconstruction,
                "rotation": rotation,
                "reconstruction": reconstruction,
            }

        return {**self.optimisation.step(batch, loss), **scalars}

    def infer(self, first: Tensor, second: Tensor) -> Tensor:
        """Displacements as cells of this kind infer them: the best of a lattice, or by descent."""
        if isinstance(self.model.motion, TableMotion):
            return self.model.infer(first, second)
        patches = (self.side - self.recipe.patch_size) // self.recipe.stride + 1
        start = first.new_zeros(len(first), 2, patches, patches)
        return descend_displacements(
            self._objective(first, second), start, num_steps=_DESCENT_STEPS
        )

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of `num` held-out pairs: average end-point errors in pixels at the patches, of the cells,
        of no displacement, of random ones, and of TV-L1 and Lucas and Kanade; mean squared errors
        of reconstruction and of five animated frames. Of the cells: their Gabor fits, and phases
        within pairs.
        """
        images = self.test.subset(torch.arange(num) % len(self.test)).images
        numbers = torch.rand(num, self.num_numbers)
        shown = images[:_MEASURED], numbers[:_MEASURED]
        first = self.seen(self.moving(*(part.to(self.fabric.device) for part in shown)))[0]
        return {**measure_motion(self, images, numbers), **measure_cells(self.model, first)}

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """The filters, those of a sub-vector side by side; held-out pairs with their true and
        inferred displacements; and animations."""
        folder.mkdir(exist_ok=True)
        show_cells(self, folder)

    def _fixed_pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        numbers = self._numbers[batch.index.cpu()].to(batch.x.device)
        return self.seen(self.moving(batch.x, numbers))

    def _objective(self, first: Tensor, second: Tensor) -> DisplacementObjective:
        recipe = self.recipe
        return DisplacementObjective(
            self.model, first, second, smoothness=recipe.smoothness, warping=recipe.warping
        )

    @property
    def num_numbers(self) -> int:
        """Uniform numbers that the motion of a pair is made of."""
        return DEFORMING_NUMBERS if self.recipe.pairs == "deformed" else FLYING_NUMBERS

    def _motion(self) -> MotionModule:
        recipe = self.recipe
        blocks, units, largest = recipe.num_blocks, recipe.block_size, recipe.max_displacement
        if recipe.matrices == "taylor":
            return TaylorMotion(blocks, units, unit=largest)
        if recipe.matrices == "rotation":
            # Up to a quarter of a turn at the largest displacement.
            return RotationMotion(math.pi / 2 / largest * (2 * torch.rand(blocks, 2) - 1))
        return TableMotion(
            blocks, units, max_displacement=largest, step=recipe.displacement_step,
            mixing_radius=recipe.mixing_radius, mixing_step=recipe.mixing_step,
        )  # fmt: skip

    def _check_sides(self) -> int:
        recipe, (height, width) = self.recipe, self.image_shape[1:]
        side = height - 2 * recipe.margin
        if height != width or side < recipe.patch_size or side % recipe.stride:
            raise ValueError(
                f"images are {height}x{width} and margin is {recipe.margin}, which leaves "
                f"{side}x{width - 2 * recipe.margin}: expected squares of at least the "
                f"{recipe.patch_size} pixels of a patch and a multiple of the stride "
                f"{recipe.stride}; choose another image_size or margin"
            )
        return side
