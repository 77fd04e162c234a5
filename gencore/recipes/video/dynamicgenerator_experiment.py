"""A dynamic generator in training: alternating back-propagation through time (Algorithm 4)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import save_film, to_float
from gencore.data.names import FILM_SUFFIXES
from gencore.inference import LatentChains, LatentLangevin, Latents
from gencore.models import DynamicGenerator, LinearDynamics
from gencore.nn import DCGANGenerator, StateTransition
from gencore.ops import random_key
from gencore.recipes.latent.latents_of_images import LatentsState
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.dynamicgenerator import DynamicGeneratorRecipe
from gencore.recipes.video.hidden_pixels import copy_previous, hide_frames, hide_regions
from gencore.recipes.video.whole_clips import ClipTable
from gencore.train import Batch, Experiment, StateObject
from gencore.train.gathering import gather_rows

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DynamicGeneratorExperiment"]

_FIGURE_CLIPS = 3
_FIGURE_FRAMES = 10


class DynamicGeneratorExperiment(Experiment):
    """Algorithm 4, with the chains of all training clips in the checkpoint.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
    """

    def __init__(
        self, recipe: DynamicGeneratorRecipe, fabric: "Fabric", dataset: ClipTable | ClipShape
    ) -> None:
        self.recipe, self.fabric = recipe, fabric
        self.clips = dataset.images if isinstance(dataset, ClipTable) else None
        num = 1 if self.clips is None else len(self.clips)  # else it comes with the checkpoint
        transition = StateTransition(
            recipe.state_size, recipe.noise_size, recipe.hidden_widths,
            code_size=recipe.motion_size,
        )  # fmt: skip
        emission = DCGANGenerator(
            recipe.state_size + recipe.appearance_size, dataset.shape[1:],
            width=recipe.width, normalization="none",
        )  # fmt: skip
        generator = DynamicGenerator(
            transition, emission, appearance_size=recipe.appearance_size,
            noise_std=recipe.noise_std, reduction=recipe.reduction,
        ).to(fabric.device)  # fmt: skip
        self.langevin = LatentLangevin(
            recipe.step_std, recipe.langevin_steps, recipe.langevin_noise, recipe.metropolis
        )
        self.chains = LatentChains(
            generator.prior_latents(num, dataset.shape[0]),
            gather=partial(gather_rows, fabric) if fabric.world_size > 1 else None,
        ).to(fabric.device)
        self.mask = self._mask((num, *dataset.shape))
        optimizer = torch.optim.Adam(
            generator.parameters(), recipe.learning_rate, (0.5, 0.999), fused=True
        )
        self.optimisation = recipe.optimisation(
            fabric, generator, optimizer, ema_warmup=True, method="log_likelihood",
            advice="a lower learning_rate or step_std, or more warmup_steps",
        )  # fmt: skip
        self.state: Mapping[str, StateObject] = {
            **self.optimisation.state, "latents": LatentsState(self.chains.rows),
        }  # fmt: skip

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

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Inferential back-propagation through time, and then learning."""
        generator = self.optimisation.module
        assert isinstance(generator, DynamicGenerator)
        key = random_key(device=batch.x.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            frames = to_float(part.x, -1, 1)
            mask = None if self.mask is None else self.mask[part.index]
            latents = self.chains.advance(
                generator.posterior_energy(frames, mask), part.index, self.langevin,
                key=key, first=part.first,
            )  # fmt: skip
            log_likelihood = self.optimisation.model(frames, latents, mask)
            squares = [latent.square().sum() for latent in latents.values()]
            return {
                "loss": -log_likelihood.mean() / frames[0].numel(),
                "latent_square": torch.stack(squares).sum() / self.chains.shapes.size / len(part),
            }

        return self.optimisation.step(batch, loss)

    def latents(self, index: Tensor) -> Latents:
        """Where the chains of training clips stand."""
        return self.chains(index.to(self.fabric.device))

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

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A row for each film, of frames that are evenly spaced in it, or a film of all."""
        from gencore.train.figures import save_image_grid

        if path.suffix in FILM_SUFFIXES:
            save_film(samples.cpu(), path, columns=4, scale=max(1, 128 // max(samples.shape[-2:])))
        else:
            shown = _spaced(samples, _FIGURE_FRAMES)
            save_image_grid(shown.flatten(0, 1).cpu(), path, columns=shown.shape[1])

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Mean absolute errors of up to `num` training clips, of levels from 0 to 255: of pixels
        that were seen, and of hidden ones, recovered by the model, by the frame before, and by
        linear dynamics of as many states."""
        if self.clips is None:
            raise ValueError("evaluate needs the training clips, which this run was loaded without")
        num = min(num, len(self.clips))
        errors: dict[str, Tensor] = {}
        for number in range(num):
            index = torch.tensor([number])
            frames = to_float(self.clips[index].to(self.fabric.device), -1, 1)
            seen = torch.ones_like(frames, dtype=torch.bool)
            if self.mask is not None:
                seen = seen & self.mask[index]
            shown = self.model.reconstruct(self.latents(index))
            linear = self._linear(frames, seen)
            found = {
                "seen": _error(shown, frames, seen),
                "seen_linear": _error(linear, frames, seen),
            }
            if self.mask is not None:
                found["hidden"] = _error(shown, frames, ~seen)
                found["hidden_copy_previous"] = _error(copy_previous(frames, seen), frames, ~seen)
                found["hidden_linear"] = _error(linear, frames, ~seen)
            for name, value in found.items():
                errors[name] = errors.get(name, torch.zeros_like(value)) + value / num
        return {"num_samples": num, **{f"mae/{name}": e.item() for name, e in errors.items()}}

    def _linear(self, frames: Tensor, seen: Tensor) -> Tensor:
        """Frames of linear dynamics, smoothed over what is seen."""
        size = min(self.recipe.state_size, frames.shape[1] - 1)
        system = LinearDynamics.fit(frames, size, mask=seen)
        return system.decode(system.smooth(frames, seen).mean)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Nothing beside the training clips is needed."""

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
            rows = torch.stack([_spaced(film, _FIGURE_FRAMES) for film in films], 1)
            save_image_grid(rows.flatten(0, 2).cpu(), folder / "clips.png", columns=rows.shape[2])
        if self.recipe.appearance_size and len(index) > 1:
            table: list[Tensor] = []
            for appearance in latents["appearance"]:
                given = {**latents, "appearance": appearance.expand(len(index), -1)}
                film = _spaced((self.model.reconstruct(given) + 1) / 2, _FIGURE_FRAMES // 2)
                table.append(film.flatten(0, 1))
            save_image_grid(
                torch.cat(table).cpu(), folder / "appearances.png", columns=len(table[0])
            )


def _spaced(films: Tensor, num: int) -> Tensor:
    """`num` frames of films [N, T, ...], from the first to the last."""
    length = films.shape[1]
    places = torch.linspace(0, length - 1, min(num, length)).round().long()
    return films[:, places.to(films.device)]


def _error(shown: Tensor, frames: Tensor, where: Tensor) -> Tensor:
    """The mean absolute difference of films in [−1, 1], in levels of 255; 0 of no pixels."""
    difference = torch.where(where, shown.clamp(-1, 1) - frames, 0).abs().double()
    return 127.5 * difference.sum() / where.sum().clamp(min=1)
