"""Models of films with latents in training: chains over those of the training clips."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gencore.data import save_film, to_float
from gencore.data.names import FILM_SUFFIXES
from gencore.inference import LatentChains, LatentLangevin, Latents
from gencore.models import DynamicGenerator
from gencore.models.video.latent_film import LatentFilmModel
from gencore.nn import DCGANGenerator, StateTransition
from gencore.ops import random_key
from gencore.recipes.latent.latents_of_images import LatentsState
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.state_space import StateSpaceRecipe
from gencore.recipes.video.whole_clips import ClipTable
from gencore.train import Batch, Experiment, StateObject
from gencore.train.gathering import gather_rows
from gencore.train.optimisation import Optimisation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "SHOWN_FRAMES",
    "LatentClipExperiment",
    "level_errors",
    "make_generator",
    "make_langevin",
    "make_optimisation",
    "spaced",
]

# Smaller frames are enlarged in films, about to this.
_SHOWN_SIDE = 128
# Frames of a row of a picture.
SHOWN_FRAMES = 10


class LatentClipExperiment(Experiment):
    """Algorithm 4, with the chains of all training clips in the checkpoint.

    Args:
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
        optimisation: of a :class:`LatentFilmModel`, by the `log_likelihood` that `step` calls.
        langevin: the steps of the chains.
    """

    def __init__(
        self,
        fabric: "Fabric",
        dataset: ClipTable | ClipShape,
        optimisation: Optimisation,
        langevin: LatentLangevin,
    ) -> None:
        self.fabric, self.optimisation, self.langevin = fabric, optimisation, langevin
        self.clips = dataset.images if isinstance(dataset, ClipTable) else None
        num = 1 if self.clips is None else len(self.clips)  # else it comes with the checkpoint
        module = self._module
        self.chains = LatentChains(
            module.prior_latents(num, dataset.shape[0] - module.num_given),
            gather=partial(gather_rows, fabric) if fabric.world_size > 1 else None,
        ).to(fabric.device)
        self.mask: Tensor | None = None
        self.state: Mapping[str, StateObject] = {
            **optimisation.state, "latents": LatentsState(self.chains.rows),
        }  # fmt: skip

    @property
    def _module(self) -> LatentFilmModel:
        module = self.optimisation.module
        assert isinstance(module, LatentFilmModel)
        return module

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Langevin steps on the latents of the batch's clips, and then one of the weights."""
        module, key = self._module, random_key(device=batch.x.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            frames = to_float(part.x, -1, 1)
            mask = None if self.mask is None else self.mask[part.index]
            latents = self.chains.advance(
                module.posterior_energy(frames, mask), part.index, self.langevin,
                key=key, first=part.first,
            )  # fmt: skip
            log_likelihood = self.optimisation.model(frames, latents, mask)
            squares = [latent.square().sum() for latent in latents.values()]
            return {
                "loss": -log_likelihood.mean() / frames[0, module.num_given :].numel(),
                "latent_square": torch.stack(squares).sum() / self.chains.shapes.size / len(part),
            }

        return self.optimisation.step(batch, loss)

    def latents(self, index: Tensor) -> Latents:
        """Where the chains of training clips stand."""
        return self.chains(index.to(self.fabric.device))

    def known_clips(self) -> Tensor:
        """The training clips.

        Raises:
            ValueError: the run was loaded without them.
        """
        if self.clips is None:
            raise ValueError("this needs the training clips, which the run was loaded without")
        return self.clips

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A row for each film, of frames that are evenly spaced in it; or films side by side."""
        from gencore.train.figures import save_contact_sheet

        if path.suffix in FILM_SUFFIXES:
            scale = max(1, _SHOWN_SIDE // max(samples.shape[-2:]))
            save_film(samples.cpu(), path, columns=4, scale=scale)
        else:
            save_contact_sheet(spaced(samples, SHOWN_FRAMES).cpu(), path)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Nothing beside the training clips is needed."""


def make_generator(
    recipe: StateSpaceRecipe, image_shape: tuple[int, ...], code_size: int = 0
) -> DynamicGenerator:
    """The generator of a recipe, of images [C, H, W], with a motion code of `code_size` numbers."""
    transition = StateTransition(
        recipe.state_size, recipe.noise_size, recipe.hidden_widths, code_size=code_size
    )
    emission = DCGANGenerator(
        recipe.state_size + recipe.appearance_size, image_shape,
        width=recipe.width, normalization="none",
    )  # fmt: skip
    return DynamicGenerator(
        transition, emission, appearance_size=recipe.appearance_size,
        noise_std=recipe.noise_std, reduction=recipe.reduction,
    )  # fmt: skip


def make_optimisation(
    recipe: StateSpaceRecipe, fabric: "Fabric", model: LatentFilmModel
) -> Optimisation:
    """Adam on the weights of a model, up its likelihood."""
    model = model.to(fabric.device)
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, (0.5, 0.999), fused=True)
    return recipe.optimisation(
        fabric, model, optimizer, ema_warmup=True, method="log_likelihood",
        advice="a lower learning_rate or step_std, or more warmup_steps",
    )  # fmt: skip


def make_langevin(recipe: StateSpaceRecipe) -> LatentLangevin:
    return LatentLangevin(
        recipe.step_std, recipe.langevin_steps, recipe.langevin_noise, recipe.metropolis
    )


def spaced(films: Tensor, num: int) -> Tensor:
    """`num` frames of films [N, T, ...], from the first to the last."""
    length = films.shape[1]
    places = torch.linspace(0, length - 1, min(num, length)).round().long()
    return films[:, places.to(films.device)]


def level_errors(shown: Tensor, frames: Tensor, where: Tensor) -> Tensor:
    """Mean absolute differences of films [N, T, ...] in [−1, 1] over the pixels of a mask that has
    their shape, float64 [N], in levels of 255; 0 of no pixels."""
    difference = torch.where(where, shown.clamp(-1, 1) - frames, 0).abs().double()
    return 127.5 * difference.flatten(1).sum(1) / where.flatten(1).sum(1).clamp(min=1)
