"""The first-order motion model in training: one frame of a clip is posed as its others."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import VideoDataset, save_film, to_float
from gencore.data.names import FILM_SUFFIXES
from gencore.data.video.affine_triplets import scale_motions
from gencore.models import (
    DenseMotionNetwork,
    FirstOrderMotion,
    ImageDecoder,
    KeyPointAnimator,
    KeyPointDetector,
)
from gencore.recipes.faces.reenactment import ReenactmentRecipe
from gencore.recipes.video.clips import ClipShape
from gencore.train import Batch, Experiment, StateObject
from gencore.train.batch_norm import synchronise_batch_norm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ReenactmentExperiment"]

# Smaller frames are enlarged in films, about to this.
_SHOWN_SIDE = 128
_POINT_RADIUS = 1


class ReenactmentExperiment(Experiment):
    """A first-order motion model in training.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
    """

    def __init__(
        self, recipe: ReenactmentRecipe, fabric: "Fabric", dataset: VideoDataset | ClipShape
    ) -> None:
        self.recipe, self.fabric, self._channels = recipe, fabric, dataset.shape[1]
        model = FirstOrderMotion(
            KeyPointDetector(
                recipe.num_points,
                channels=self._channels,
                widths=recipe.widths,
                has_jacobians=recipe.has_jacobians,
            ),
            KeyPointAnimator(
                DenseMotionNetwork(
                    recipe.num_points,
                    channels=self._channels,
                    widths=recipe.widths,
                    variance=recipe.heatmap_variance,
                ),
                ImageDecoder(self._channels, widths=recipe.widths),
            ),
        ).to(fabric.device)
        synchronised = synchronise_batch_norm("reenactment", fabric, model)
        optimizer = torch.optim.Adam(
            synchronised.parameters(), recipe.learning_rate, betas=(recipe.beta1, 0.999), fused=True
        )
        self.optimisation = recipe.optimisation(fabric, synchronised, optimizer, method="loss")
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def model(self) -> FirstOrderMotion:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self.optimisation.averaged.eval()
        assert isinstance(model, FirstOrderMotion)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Pose the first frame of each clip as each of its others."""
        self.optimisation.module.train()
        recipe = self.recipe

        def loss(part: Batch) -> dict[str, Tensor]:
            source, driving = _pairs(part.x)
            terms = self.optimisation.model(
                source,
                driving,
                self._matrices(part.uniform((4,))).repeat_interleave(recipe.num_frames - 1, 0),
                equivariance_weight=recipe.equivariance_weight,
            )
            return {name: term.mean() for name, term in terms._asdict().items()}

        return self.optimisation.step(batch, loss)

    @cached_property
    def test(self) -> VideoDataset:
        """The test clips."""
        return self.recipe.load_clips("test", self._channels)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test clips."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """The first frames of `num` test clips, evenly spaced in the film, each moved as the *next*
        of these clips moves: [num, T, C, H, W] in [0, 1]."""
        clips = list(self._test_clips(num))
        return torch.stack(
            [self.model.animate(clip[:1], clips[(i + 1) % num]) for i, clip in enumerate(clips)]
        )

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A row for each clip: its first frame moved, below the clip that drives it. As films, both
        side by side."""
        from gencore.train.figures import save_contact_sheet

        num = len(samples)
        clips = [clip.cpu() for clip in self._test_clips(num)]
        driving = torch.stack([clips[(i + 1) % num] for i in range(num)])
        pairs = torch.stack([driving, samples.cpu()], 1).flatten(0, 1)
        if path.suffix in FILM_SUFFIXES:
            scale = max(1, _SHOWN_SIDE // max(pairs.shape[-2:]))
            save_film(pairs, path, columns=4, scale=scale)
        else:
            save_contact_sheet(pairs, path)

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of up to `num` test clips, whose first frame is posed as each of the others: the mean
        absolute difference of pixels in [0, 1], beside that of the first frame as it is, and the
        mean distance of key points from where they move with the image under maps of the plane, in
        pixels."""
        num = min(num, len(self.test))
        sums = dict.fromkeys(("l1/model", "l1/first_frame", "equivariance"), 0.0)
        # The same maps for every model, one a clip.
        uniform = torch.rand(num, 4, generator=torch.Generator().manual_seed(0))
        for clip, matrix in zip(self._test_clips(num), self._matrices(uniform), strict=True):
            source, driving = clip[:1].expand_as(clip[1:]), clip[1:]
            terms = self.model.loss(
                source, driving, matrix.expand(len(driving), -1, -1), equivariance_weight=1.0
            )
            sums["l1/model"] += terms.reconstruction.mean().item() / num
            sums["l1/first_frame"] += (source - driving).abs().mean().item() / num
            sums["equivariance"] += terms.position.mean().item() / num
        return {"num_samples": num, **sums}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Test clips with their key points, and below them their first frame, posed as they are."""
        from gencore.train.figures import save_contact_sheet

        folder.mkdir(exist_ok=True)
        rows = []
        for clip in self._test_clips(min(2, len(self.test))):
            posed = self.model.animate(clip[:1], clip)
            rows += [_marked(clip, self.model.detector(clip).positions), posed.expand_as(clip)]
        save_contact_sheet(torch.stack([_coloured(row) for row in rows]), folder / "key_points.png")

    def _matrices(self, uniform: Tensor) -> Tensor:
        """Maps of the plane [N, 2, 3] of uniform numbers [N, 4]."""
        recipe = self.recipe
        motions = scale_motions(
            uniform,
            max_shift=recipe.max_shift, max_angle=recipe.max_angle, max_scale=recipe.max_scale,
        )  # fmt: skip
        linear, shift = motions.at(1.0)
        return torch.cat([linear, shift[..., None]], 2).to(self.fabric.device)

    def _test_clips(self, num: int) -> Iterator[Tensor]:
        """`num` test clips [T, C, H, W] in [0, 1], evenly spaced, cut to sides that the hourglasses
        divide."""
        factor = 2 ** len(self.recipe.widths)
        height, width = (side - side % factor for side in self.test.shape[2:])
        for i in range(num):
            clip = self.test[len(self.test) * i // num][..., :height, :width]
            yield to_float(clip).to(self.fabric.device)


def _pairs(clips: Tensor) -> tuple[Tensor, Tensor]:
    """The first frames of clips [B, T, C, H, W], each T − 1 times, and the others: [B (T − 1), C,
    H, W] in [0, 1]."""
    frames = to_float(clips)
    source = frames[:, :1].expand_as(frames[:, 1:])
    return source.flatten(0, 1), frames[:, 1:].flatten(0, 1)


def _coloured(frames: Tensor) -> Tensor:
    return frames.cpu().expand(-1, 3, -1, -1)


def _marked(frames: Tensor, positions: Tensor) -> Tensor:
    """Frames with a square of a colour of its own at every key point."""
    from matplotlib import colormaps

    marked = _coloured(frames).clone()
    for k in range(positions.shape[1]):
        colour = torch.tensor(colormaps["hsv"](k / positions.shape[1])[:3])[:, None, None]
        for frame, (x, y) in zip(marked, positions[:, k].round().int().tolist(), strict=True):
            rows = slice(max(y - _POINT_RADIUS, 0), y + _POINT_RADIUS + 1)
            columns = slice(max(x - _POINT_RADIUS, 0), x + _POINT_RADIUS + 1)
            frame[:, rows, columns] = colour
    return marked
