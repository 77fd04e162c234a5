"""A motion-based dynamic generator in training: chains over latents, and steps of the weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import flow_to_image, to_float
from gencore.data.images.picture import load_picture
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.inference import LatentLangevin
from gencore.metrics import intrackability
from gencore.models import MotionFilm, MotionGenerator, transfer_motion
from gencore.ops import random_key
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.latent_clips import LatentClipExperiment, spaced
from gencore.recipes.video.motiongenerator import MotionGeneratorRecipe
from gencore.recipes.video.whole_clips import ClipTable
from gencore.train import Batch
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["MotionGeneratorExperiment"]

# Films that are made at once, which bounds the memory.
_CHUNK = 16
# Of the figures: clips that are taken apart, and frames of each.
_SHOWN_CLIPS, _SHOWN_FRAMES = 2, 8


class MotionGeneratorExperiment(LatentClipExperiment):
    """Algorithm 4 on the model of section 3.4: inferential and learning back-propagation through
    time.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the clips, or their shape alone.
    """

    def __init__(
        self, recipe: MotionGeneratorRecipe, fabric: "Fabric", dataset: ClipTable | ClipShape
    ) -> None:
        self.recipe, self._image_shape = recipe, dataset.shape[1:]
        model = MotionGenerator(
            self._image_shape,
            motion_size=recipe.motion_size,
            residual_size=recipe.residual_size,
            noise_size=recipe.noise_size,
            appearance_size=recipe.appearance_size,
            motion_code_size=recipe.motion_code_size,
            residual_code_size=recipe.residual_code_size,
            width=recipe.width,
            max_displacement=recipe.max_displacement,
            noise_std=recipe.noise_std,
            residual_weight=recipe.residual_weight,
            residual_form=recipe.residual_form,
            roughness_weight=recipe.roughness_weight,
        ).to(fabric.device)
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
        optimisation = recipe.optimisation(
            fabric, model, optimizer, method="loss",
            advice="a lower learning_rate, step_std or max_grad_norm",
        )  # fmt: skip
        langevin = LatentLangevin(recipe.step_std, recipe.langevin_steps)
        super().__init__(fabric, dataset, optimisation, langevin)

    @property
    def model(self) -> MotionGenerator:
        """The generator with averaged weights, if they are averaged."""
        model = self.optimisation.averaged.eval()
        assert isinstance(model, MotionGenerator)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the latents of the batch's clips on, and then the weights."""
        module, frames = self.optimisation.module, _frames(batch.x)
        assert isinstance(module, MotionGenerator)
        self.chains.advance(
            module.posterior_energy(frames), batch.index, self.langevin,
            key=random_key(device=self.fabric.device), first=batch.first,
        )  # fmt: skip

        def loss(part: Batch) -> dict[str, Tensor]:
            terms = self.optimisation.model(_frames(part.x), self.chains(part.index))
            return dict(terms._asdict())

        return self.optimisation.step(batch, loss)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """New motions of what the clips show, in turn: films [num, T, C, H, W] in [0, 1] with the
        appearance and the codes of a clip, and states and noise from their prior."""
        key = random_key(generator, self.fabric.device)
        parts = []
        for part in chunks(num, _CHUNK):
            index = torch.arange(part.start, part.stop, device=self.fabric.device)
            latents = self.chains(index % len(self.chains))
            codes = {name: latents[name] for name in self.model.code_names if name in latents}
            films = self.model.sample(
                len(index), self.recipe.num_frames, latents=codes, key=key, first=part.start
            )
            parts.append((films + 1) / 2)
        return torch.cat(parts).clamp(0, 1)

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of up to `num` clips, with their latents as they stand: the mean squared error of pixels
        in [0, 1], the intrackability in both readings, for pixels in [−1, 1], and the mean length
        of displacements in pixels a frame."""
        clips = self.known_clips()
        num = min(num, len(clips))
        sums: dict[str, float] = {}
        for part in chunks(num, _CHUNK):
            frames = _frames(clips[part].to(self.fabric.device))
            film = self._reconstructed(part)
            residuals = film.residuals.float()
            values = {
                "mse": ((film.frames - frames) / 2).square().flatten(1).mean(1),
                "intrackability": intrackability(residuals, frames),
                "intrackability_mean_of_ratios": intrackability(
                    residuals, frames, average="mean of ratios"
                ),
                "displacement": film.motion.norm(dim=2).flatten(1).mean(1),
            }
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.sum().item()
        return {"num_samples": num, **{name: value / num for name, value in sums.items()}}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """The clips taken apart: rows of the observed frames, of I + R, I, R with zero at grey, and
        of where pixels go to; and the picture that moves like the first clip."""
        from gencore.train.figures import save_contact_sheet

        folder.mkdir(exist_ok=True)
        num = min(_SHOWN_CLIPS, len(self.chains))
        clips, film = _frames(self.known_clips()[:num]), self._reconstructed(slice(0, num))
        rows = [row for parts in zip(*shown_parts(clips, film), strict=True) for row in parts]
        save_contact_sheet(torch.stack(rows), folder / "parts.png")
        if self.recipe.transfer is not None:
            picture = self._picture(self.recipe.transfer)
            moved = transfer_motion(picture, film.motion[:1])
            save_contact_sheet(
                spaced(torch.cat([film.trackable[:1].cpu(), moved.cpu()]) / 2 + 0.5, _SHOWN_FRAMES),
                folder / "transfer.png",
            )

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """The picture has to be there."""
        if self.recipe.transfer is not None:
            self._picture(self.recipe.transfer)

    def _picture(self, source: str) -> Tensor:
        """The picture [1, C, H, W] in [−1, 1], of the frames' size."""
        channels, height, width = self._image_shape
        picture = convert_channels(load_picture(source)[None], channels)
        square = resize_images(picture, max(height, width))
        top, left = (square.shape[2] - height) // 2, (square.shape[3] - width) // 2
        cut = square[..., top : top + height, left : left + width]
        return _frames(cut).to(self.fabric.device)

    def _reconstructed(self, part: slice) -> MotionFilm:
        """Clips as the model makes them of their latents."""
        index = torch.arange(part.start, part.stop, device=self.fabric.device)
        film: MotionFilm = self.model(self.chains(index))
        return film


def shown_parts(clips: Tensor, film: MotionFilm) -> list[Tensor]:
    """Observed clips [N, T + 1, C, H, W], I + R, I and R in [0, 1], with zero at ½, and the motion
    in the colours of optical flow, white in the first frame: each [N, 8, 3, H, W], of some frames.
    """
    # Where things go, at the scale of the longest displacement of the clips.
    motion = -film.motion.flatten(0, 1).float()
    longest = max(motion.norm(dim=1).max().item(), 1e-6)
    colours = to_float(flow_to_image(motion, max_flow=longest)).unflatten(0, film.motion.shape[:2])
    colours = torch.cat([torch.ones_like(colours[:, :1]), colours], 1)
    pixels = (clips, film.frames, film.trackable, film.residuals)
    shown = [part.cpu().float() / 2 + 0.5 for part in pixels]
    shown = [part.expand(-1, -1, 3, -1, -1) for part in shown]
    return [spaced(part, _SHOWN_FRAMES) for part in (*shown, colours.cpu())]


def _frames(clips: Tensor) -> Tensor:
    """Pixels in [−1, 1] of uint8 clips."""
    return to_float(clips, -1, 1)
