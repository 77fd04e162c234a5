"""A dynamic generator in training: alternating back-propagation through time (Algorithm 4)."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import to_float
from gencore.models import DynamicGenerator, LinearDynamics
from gencore.ops import random_key
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.dynamicgenerator import DynamicGeneratorRecipe
from gencore.recipes.video.hidden_pixels import copy_previous, hide_frames, hide_regions
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

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DynamicGeneratorExperiment"]

_FIGURE_CLIPS = 3


class DynamicGeneratorExperiment(LatentClipExperiment):
    """Films and their hidden pixels.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
    """

    def __init__(
        self, recipe: DynamicGeneratorRecipe, fabric: "Fabric", dataset: ClipTable | ClipShape
    ) -> None:
        generator = make_generator(recipe, dataset.shape[1:], recipe.motion_size)
        optimisation = make_optimisation(recipe, fabric, generator)
        super().__init__(fabric, dataset, optimisation, make_langevin(recipe))
        self.recipe = recipe
        self.mask = self._mask((len(self.chains), *dataset.shape))

    def _mask(self, shape: tuple[int, ...]) -> Tensor | None:
        """Where the training clips are visible."""
        recipe = self.recipe
        if recipe.hidden == "none":
            return None
        if recipe.hidden == "regions":
            mask = hide_regions(shape, recipe.region_size, seed=recipe.seed)
        else:
            mask = hide_frames(shape, recipe.missing_frames, seed=recipe.seed)
        return mask.to(self.fabric.device)

    @property
    def model(self) -> DynamicGenerator:
        """The generator with averaged weights, if they are averaged, in evaluation mode."""
        model = self.optimisation.averaged.eval()
        assert isinstance(model, DynamicGenerator)
        return model

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """New films [num, shown_frames, C, H, W] in [0, 1] after a burn-in; with codes, those of
        the training clips in turn."""
        recipe, model = self.recipe, self.model
        clips = self.latents(torch.arange(num) % len(self.chains))
        codes = {name: clips[name] for name in model.code_names if name in clips}
        films = model.sample(
            num, recipe.shown_frames, burn_in=recipe.burn_in, latents=codes,
            key=random_key(generator, device=self.fabric.device),
        )  # fmt: skip
        return (films + 1) / 2

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Mean absolute errors of up to `num` training clips, of levels from 0 to 255: of pixels
        that were seen, and of hidden ones, recovered by the model, by the frame before, and by
        linear dynamics of as many states."""
        clips = self.known_clips()
        num = min(num, len(clips))
        errors: dict[str, Tensor] = {}
        for number in range(num):
            index = torch.tensor([number])
            frames = to_float(clips[index].to(self.fabric.device), -1, 1)
            seen = torch.ones_like(frames, dtype=torch.bool)
            if self.mask is not None:
                seen = seen & self.mask[index]
            shown = self.model.reconstruct(self.latents(index))
            linear = self._linear(frames, seen)
            found = {
                "seen": level_errors(shown, frames, seen),
                "seen_linear": level_errors(linear, frames, seen),
            }
            if self.mask is not None:
                found["hidden"] = level_errors(shown, frames, ~seen)
                found["hidden_copy_previous"] = level_errors(
                    copy_previous(frames, seen), frames, ~seen
                )
                found["hidden_linear"] = level_errors(linear, frames, ~seen)
            for name, value in found.items():
                errors[name] = errors.get(name, torch.zeros_like(value)) + value / num
        return {"num_samples": num, **{f"mae/{name}": e.item() for name, e in errors.items()}}

    def _linear(self, frames: Tensor, seen: Tensor) -> Tensor:
        """Frames of linear dynamics, smoothed over what is seen."""
        size = min(self.recipe.state_size, frames.shape[1] - 1)
        system = LinearDynamics.fit(frames, size, mask=seen)
        return system.decode(system.smooth(frames, seen).mean)

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Frames of training clips above what the model shows of them, with the clips as they
        were seen between, where pixels are hidden; and every clip with the appearance of every
        other, a row for each appearance."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        index = torch.arange(min(_FIGURE_CLIPS, len(self.chains)))
        latents = self.latents(index)
        shown = (self.model.reconstruct(latents) + 1) / 2
        if self.clips is not None:
            frames = to_float(self.clips[index].to(self.fabric.device))
            films = [frames, shown]
            if self.mask is not None:
                films.insert(1, torch.where(self.mask[index], frames, 0))
            rows = torch.stack([spaced(film, SHOWN_FRAMES) for film in films], 1)
            save_image_grid(rows.flatten(0, 2).cpu(), folder / "clips.png", columns=rows.shape[2])
        if self.recipe.appearance_size and len(index) > 1:
            table: list[Tensor] = []
            for appearance in latents["appearance"]:
                given = {**latents, "appearance": appearance.expand(len(index), -1)}
                film = spaced((self.model.reconstruct(given) + 1) / 2, SHOWN_FRAMES // 2)
                table.append(film.flatten(0, 1))
            save_image_grid(
                torch.cat(table).cpu(), folder / "appearances.png", columns=len(table[0])
            )
