"""Films from one image in training, and measured on images that were held out."""

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
    level_error,
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

    def held_out(self, part: slice) -> Tensor:
        """Some of the test clips, in [−1, 1]."""
        places = range(len(self.test))[part]
        clips = torch.stack([self.test[place] for place in places])
        return to_float(clips.to(self.fabric.device), -1, 1)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Films [num, T + 1, C, H, W] in [0, 1] that begin with the first frames of test clips, in
        turn."""
        key = random_key(generator, device=self.fabric.device)
        images = self.held_out(slice(num))[:, 0]
        parts = []
        for part in chunks(num, _CHUNK):
            index = torch.arange(part.start, part.stop) % len(images)
            given = images[index.to(images.device)]
            films = self.model.animate(given, self.recipe.num_frames - 1, key=key, first=part.start)
            parts.append(torch.cat([given[:, None], films], 1))
        return (torch.cat(parts).clamp(-1, 1) + 1) / 2

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Mean absolute errors, in levels from 0 to 255, of the frames after the first: of up to
        `num` training clips with their noise as it stands; of up to `num` test clips without noise,
        by the nearest of several films a clip, and by their first frame as it is."""
        clips, model = self.known_clips(), self.model
        sums: dict[str, Tensor] = {}
        num_seen, num_test = min(num, len(clips)), min(num, len(self.test))
        for part in chunks(num_seen, _CHUNK):
            films = to_float(clips[part].to(self.fabric.device), -1, 1)
            latents = self.latents(torch.arange(part.start, part.stop))
            errors = _errors(model.decode(latents, films[:, 0]), films)
            sums["seen"] = sums.get("seen", torch.zeros(())) + errors.sum().cpu() / num_seen
        keys = split_key(random_key(device=self.fabric.device), self.recipe.tried_films)
        for part in chunks(num_test, _CHUNK):
            films = self.held_out(part)
            image, length = films[:, 0], films.shape[1] - 1
            tried = [
                _errors(model.animate(image, length, key=key, first=part.start), films)
                for key in keys
            ]
            found = {
                "without_noise": _errors(self._without_noise(image), films),
                "nearest": torch.stack(tried).amin(0),
                "first_frame": _errors(image[:, None].expand_as(films[:, 1:]), films),
            }
            for name, errors in found.items():
                sums[name] = sums.get(name, torch.zeros(())) + errors.sum().cpu() / num_test
        return {"num_samples": num_test, **{f"mae/{name}": e.item() for name, e in sums.items()}}

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
        films = self.held_out(slice(_FIGURE_CLIPS))
        drawn = torch.cat([films[:, :1], self._without_noise(films[:, 0])], 1)
        rows = torch.stack([spaced(films, SHOWN_FRAMES), spaced(drawn, SHOWN_FRAMES)], 1)
        save_contact_sheet((rows.flatten(0, 1).cpu() + 1) / 2, folder / "held_out.png")


def _errors(shown: Tensor, films: Tensor) -> Tensor:
    """Mean absolute errors of each film's frames after the first, [N], in levels of 255."""
    return torch.stack([level_error(*pair) for pair in zip(shown, films[:, 1:], strict=True)])
