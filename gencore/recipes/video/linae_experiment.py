"""Linearising auto-encoders, on triplets of images that move steadily."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencore.data import ImageDataset, Motion, move_images, to_float
from gencore.data.video.affine_triplets import scale_motions
from gencore.models import LinearizingAutoencoder, linearizing_architecture
from gencore.objectives import curvature_cosine
from gencore.recipes.video.linae import LinAERecipe
from gencore.train import Batch, ImageExperiment, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["LinAEExperiment"]

# Triplets that are measured at once, which bounds the memory.
_CHUNK = 128
# Times of the frames x¹, x² and y, as the thesis counts them, and of what its figures show.
_TRIPLET = (1.0, 2.0, 3.0)
_STRIP = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
_FIGURE_FILMS = 6


class LinAEExperiment(ImageExperiment):
    """A linearising auto-encoder in training."""

    recipe: LinAERecipe

    def __init__(self, recipe: LinAERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        channels, *sides = self.image_shape
        frame = [side - 2 * recipe.margin for side in sides]
        if min(frame) < 1:
            raise ValueError(
                f"margin is {recipe.margin}, which leaves nothing of images of "
                f"{sides[0]}x{sides[1]}: choose less, or a larger image_size"
            )
        model = linearizing_architecture(
            recipe.architecture, (channels, *frame),
            width=recipe.width, phase_pooling=recipe.phase_pooling, beta=recipe.beta,
            learn_beta=recipe.learn_beta, learned_predictor=recipe.learned_predictor,
            curvature_of=recipe.curvature_of,
        ).to(fabric.device)  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, model, optimizer, method="loss")
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def model(self) -> LinearizingAutoencoder:
        """The auto-encoder, with averaged weights if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, LinearizingAutoencoder)
        return model

    def films(self, images: Tensor, motion: Motion, times: Sequence[float]) -> Tensor:
        """Frames [N, T, C, H, W] of moving images; the third frame is at time 3, where the motion
        has done all that it does."""
        moving = to_float(images, 0, 1)
        moved = torch.stack([move_images(moving, motion, t / 3) for t in times], 1)
        margin = self.recipe.margin
        height, width = moved.shape[-2:]
        return moved[..., margin : height - margin, margin : width - margin]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards less error and less curvature."""
        num_pixels = self.image_shape[0] * self._frame_pixels

        def loss(part: Batch) -> dict[str, Tensor]:
            films = self.films(part.x, self._motions(part.uniform((4,))), _TRIPLET)
            terms = self.optimisation.model(*films.unbind(1), self.recipe.curvature_weight)
            return {
                "loss": terms.loss.mean(),
                "prediction_mse": terms.prediction_error.mean() / num_pixels,
                "cosine": terms.cosine.mean(),
            }

        return self.optimisation.step(batch, loss)

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of `num` triplets of held-out images: mean squared errors a pixel, of the predicted
        third frame beside the second one, and of the frame half-way from the first to the second,
        from half-way between the codes beside the average of both frames; and the mean cosine of
        the angle between the steps of codes, and of pixels.
        """
        images = self.test.subset(torch.arange(num) % len(self.test)).images
        motion = self._motions(torch.rand(num, 4))
        sums: dict[str, float] = {}
        for part in chunks(num, _CHUNK):
            shown = images[part].to(self.fabric.device)
            moves = Motion(*(value[part] for value in motion))
            x1, half, x2, y = self.films(shown, moves, (1.0, 1.5, 2.0, 3.0)).unbind(1)
            terms = self.model.loss(x1, x2, y)
            values = {
                "mse/prediction": terms.prediction_error / x1[0].numel(),
                "mse/copy_last": _mse(x2, y),
                "mse/interpolation": _mse(self.model.interpolate(x1, x2, 0.5), half),
                "mse/pixel_average": _mse((x1 + x2) / 2, half),
                "cosine/code": terms.cosine,
                "cosine/pixels": curvature_cosine(x1, x2, y),
            }
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.sum().item()
        return {name: value / num for name, value in sums.items()}

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Strips of held-out images at the times 0 to 3, each above what is decoded from the codes
        of those at 1 and 2; and the decoder's filters, those of a pool side by side."""
        from gencore.train.figures import image_grid, save_image_grid

        folder.mkdir(exist_ok=True)
        num = min(_FIGURE_FILMS, len(self.test))
        images = self.test.subset(torch.randperm(len(self.test))[:num]).images
        motion = self._motions(torch.rand(num, 4))
        films = self.films(images.to(self.fabric.device), motion, _STRIP)
        x1, x2 = (films[:, _STRIP.index(time)] for time in (1.0, 2.0))
        decoded = torch.stack([self.model.interpolate(x1, x2, t - 1) for t in _STRIP], 1)
        rows = torch.stack([films, decoded], 1).flatten(0, 2)
        save_image_grid(rows, folder / "strips.png", columns=len(_STRIP))
        filters = self.filters()
        if filters is not None:
            groups = torch.stack([image_grid(group, columns=len(group)) for group in filters])
            save_image_grid(groups, folder / "filters.png", columns=4)

    def filters(self) -> Tensor | None:
        """What one unit of the decoder's only layer paints, [groups, 4, C, 9, 9] in [0, 1] with
        zero at ½; None of other decoders."""
        layers = list(self.model.decoder.children())
        if self.model.pool is None or len(layers) != 1:
            return None
        assert isinstance(layers[0], nn.Conv2d)
        weight = layers[0].weight.transpose(0, 1).flip(2, 3)
        largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        return (0.5 + 0.5 * weight / largest).unflatten(0, (-1, 4))

    @property
    def _frame_pixels(self) -> int:
        margin = 2 * self.recipe.margin
        return (self.image_shape[1] - margin) * (self.image_shape[2] - margin)

    def _motions(self, uniform: Tensor) -> Motion:
        recipe = self.recipe
        return scale_motions(
            uniform,
            max_shift=recipe.max_shift, max_angle=recipe.max_angle, max_scale=recipe.max_scale,
        )  # fmt: skip


def _mse(frames: Tensor, truth: Tensor) -> Tensor:
    return (frames - truth).square().flatten(1).mean(1)
