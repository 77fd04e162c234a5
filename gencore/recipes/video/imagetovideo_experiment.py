"""Films from one image in training, and measured on images that were held out."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import to_float
from gencore.models import ImageToVideo, ImageToVideoEncoder
from gencore.ops import random_key, split_key
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.imagetovideo import ImageToVideoRecipe
from gencore.recipes.video.latent_clips import (
    SHOWN_FRAMES,
    LatentClipExperiment,
    level_errors,
    make_generator,
    make_langevin,
    make_optimisation,
    spaced,
)
from gencore.recipes.video.whole_clips import ClipTable
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import VideoDataset

__all__ = ["ImageToVideoExperiment"]

_FIGURE_CLIPS = 4
# Films that are made at once, which bounds the memory.
_CHUNK = 16


class ImageToVideoExperiment(LatentClipExperiment):
    """Encoder and generator on the likelihood of what follows a first frame.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
    """

    def __init__(
        self, recipe: ImageToVideoRecipe, fabric: "Fabric", dataset: ClipTable | ClipShape
    ) -> None:
        image_shape = dataset.shape[1:]
        encoder = ImageToVideoEncoder(
            image_shape, recipe.state_size + recipe.appearance_size, width=recipe.encoder_width
        )
        model = ImageToVideo(encoder, make_generator(recipe, image_shape))
        optimisation = make_optimisation(recipe, fabric, model)
        super().__init__(fabric, dataset, optimisation, make_langevin(recipe))
        self.recipe = recipe

    @property
    def model(self) -> ImageToVideo:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self.optimisation.averaged.eval()
        assert isinstance(model, ImageToVideo)
        return model

    @cached_property
    def test(self) -> "VideoDataset":
        """Clips of films, or of parts of a film, that training does not see."""
        return self.recipe.load_clips("test")

    def held_out(self, places: range) -> Tensor:
        """Test clips, in turn where there are fewer, in [−1, 1]."""
        clips = torch.stack([self.test[place % len(self.test)] for place in places])
        return to_float(clips.to(self.fabric.device), -1, 1)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Films [num, T + 1, C, H, W] in [0, 1] that begin with the first frames of test clips, in
        turn."""
        key = random_key(generator, device=self.fabric.device)
        parts = []
        for part in chunks(num, _CHUNK):
            images = self.held_out(range(part.start, part.stop))[:, 0]
            films = self.model.animate(
                images, self.recipe.num_frames - 1, key=key, first=part.start
            )
            parts.append(torch.cat([images[:, None], films], 1))
        return (torch.cat(parts).clamp(-1, 1) + 1) / 2

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Mean absolute errors, in levels from 0 to 255, of the frames after the first: of up to
        `num` training clips with their noise as it stands; of up to `num` test clips without noise,
        by the nearest of several films a clip, and by their first frame as it is."""
        clips, model, errors = self.known_clips(), self.model, defaultdict[str, list[Tensor]](list)
        for part in chunks(min(num, len(clips)), _CHUNK):
            films = to_float(clips[part].to(self.fabric.device), -1, 1)
            shown = model.decode(self.latents(torch.arange(part.start, part.stop)), films[:, 0])
            errors["seen"].append(_errors(shown, films))
        keys = split_key(random_key(device=self.fabric.device), self.recipe.tried_films)
        num = min(num, len(self.test))
        for part in chunks(num, _CHUNK):
            films = self.held_out(range(part.start, part.stop))
            image, length = films[:, 0], films.shape[1] - 1
            tried = [
                _errors(model.animate(image, length, key=key, first=part.start), films)
                for key in keys
            ]
            errors["without_noise"].append(_errors(self._without_noise(image), films))
            errors["nearest"].append(torch.stack(tried).amin(0))
            errors["first_frame"].append(_errors(image[:, None], films))
        means = {f"mae/{name}": torch.cat(parts).mean().item() for name, parts in errors.items()}
        return {"num_samples": num, **means}

    def _without_noise(self, images: Tensor) -> Tensor:
        """Films of images [N, ...] in which no noise moves the state."""
        length = self.recipe.num_frames - 1
        noise = torch.zeros(len(images), length, self.recipe.noise_size, device=images.device)
        return self.model.animate(images, length, noise=noise)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """The test clips have to be there."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Test clips, and below each the film that the model makes of its first frame without
        noise."""
        from gencore.train.figures import save_contact_sheet

        folder.mkdir(exist_ok=True)
        films = self.held_out(range(min(_FIGURE_CLIPS, len(self.test))))
        drawn = torch.cat([films[:, :1], self._without_noise(films[:, 0])], 1)
        rows = torch.stack([spaced(films, SHOWN_FRAMES), spaced(drawn, SHOWN_FRAMES)], 1)
        save_contact_sheet((rows.flatten(0, 1).cpu() + 1) / 2, folder / "held_out.png")


def _errors(shown: Tensor, films: Tensor) -> Tensor:
    """Mean absolute errors of each film's frames after the first, [N], in levels of 255."""
    later = films[:, 1:]
    return level_errors(shown, later, torch.ones_like(later, dtype=torch.bool))
