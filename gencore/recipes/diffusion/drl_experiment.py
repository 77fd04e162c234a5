"""Diffusion recovery likelihood on images (Gao 2021, §2.3.4)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from gencore.data import ImageDataset, to_float
from gencore.models import (
    DiffusionRecoveryEBM,
    NoiseSchedule,
)
from gencore.models.diffusion.diffusion_recovery_ebm import released_settings
from gencore.nn import LevelConvEnergy, ResNetEnergy
from gencore.ops import random_key
from gencore.recipes.diffusion.drl import DRLRecipe
from gencore.recipes.energy_gap import check_energy_gap
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DRLExperiment"]

# Chains that are sampled at once, which bounds the memory of a large sample.
_CHUNK = 512
# Rows and columns at most of the figure of samples on their way from noise.
_PATHS, _STATES = 10, 12
_LEAST_STD = 0.03


class DRLExperiment(ImageSamplesExperiment):
    """A `DiffusionRecoveryEBM` in training; every rank runs its part of the chains of a single
    process."""

    recipe: DRLRecipe

    def __init__(self, recipe: DRLRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        shape = self.image_shape
        self.ebm = DiffusionRecoveryEBM(energy_network(recipe, shape), shape, **settings(recipe))
        optimizer = torch.optim.Adam(
            self.ebm.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, 0.999), fused=True
        )
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Let chains undo a step of the diffusion, compare their energy with the data's, and move
        the weights."""
        recipe, device = self.recipe, self.fabric.device
        data_key, flip_key, chain_key = (random_key(device=device) for _ in range(3))

        def loss(part: Batch) -> dict[str, Tensor]:
            x = to_float(part.x, -1, 1)
            if recipe.random_flips:
                is_flipped = part.uniform((1, 1, 1), key=flip_key) < 0.5
                x = torch.where(is_flipped, x.flip(-1), x)
            x = x + recipe.data_noise * part.normal(key=data_key)
            terms = self.optimisation.model(x, key=chain_key, first=part.first)
            return dict(zip(("loss", "energy_data", "energy_samples"), terms[:3], strict=True))

        return self.optimisation.step(batch, loss, check=self._check)

    def _check(self, scalars: Mapping[str, Tensor]) -> None:
        check_energy_gap(
            *scalars.values(), max_gap=self.recipe.max_gap,
            advice="a lower learning_rate or step_factor, or more chain_steps",
        )  # fmt: skip

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images from the averaged weights, by way of all levels."""
        return self._drawn(num, generator, return_trajectory=False)

    def paths(self, num: int, generator: Generator | None = None) -> Tensor:
        """What the images of `sample` were at each level, [T + 1, num, C, H, W] from noise on."""
        return self._drawn(num, generator, return_trajectory=True)

    def _drawn(self, num: int, generator: Generator | None, *, return_trajectory: bool) -> Tensor:
        ebm = self.optimisation.averaged
        assert isinstance(ebm, DiffusionRecoveryEBM)
        key = random_key(generator, self.fabric.device)
        parts = [
            ebm.sample(
                part.stop - part.start, return_trajectory=return_trajectory, key=key,
                first=part.start,
            )
            for part in chunks(num, _CHUNK)
        ]  # fmt: skip
        return ((torch.cat(parts, -4) + 1) / 2).clamp(0, 1)

    def figures(self, folder: Path) -> None:
        """Samples on their way: a row is a sample, from noise on the left, each column a level."""
        from gencore.train.figures import save_image_grid

        path = self.paths(_PATHS).cpu()
        columns = min(len(path), _STATES)
        shown = path[torch.linspace(0, len(path) - 1, columns).round().long()]
        rows = shown.transpose(0, 1).flatten(0, 1)
        folder.mkdir(parents=True, exist_ok=True)
        save_image_grid(rows, folder / "progressive.png", columns=columns)


def settings(recipe: DRLRecipe) -> dict[str, Any]:
    """The arguments of the recipe's `DiffusionRecoveryEBM` after its energy and shape."""
    num = recipe.num_levels
    if num == 1000:
        levels = list(range(1001))
    else:  # equal parts of the diffusion's first half, each up to the step after it, and the rest
        levels = [0, *(1 + 1000 // (2 * (num - 1)) * i for i in range(1, num)), 1000]
    is_marginal = recipe.chain_steps > 0
    if recipe.units == "step":
        chosen = released_settings(levels)
    else:
        schedule = NoiseSchedule.linear().merged(levels)
        factors = least_stds(schedule, recipe.data_noise, is_last_marginal=is_marginal)
        chosen = {"schedule": schedule, "level_factors": factors}
    return {
        **chosen,
        "num_steps": recipe.chain_steps,
        "is_last_marginal": is_marginal,
        "step_factor": recipe.step_factor,
        "noise_factor": recipe.noise_factor,
        "energy_penalty": recipe.energy_penalty,
    }


def least_stds(
    schedule: NoiseSchedule, data_noise: float, *, is_last_marginal: bool
) -> list[float]:
    """The standard deviation of p(y_t | x_{t+1}) over σ_t, in directions in which data do not vary.

    There x_t is normal, with the variance v = ā_t² s² + 1 − ā_t² for data with noise of standard
    deviation s, and so is y_t, given x_{t+1}, with 1/(1/(a_t² v) + 1/σ_t²); a marginal level has
    y_t = x_t. Steps with noise above twice that deviation make the chains of these directions
    unstable; less is slow in the other directions, which are wider. s below 0.03 counts as 0.03,
    since else the chains of level 0 would hardly move.
    """
    variances, kept = schedule.variances, schedule.mean_scales[:-1] ** 2
    of_x = kept * max(data_noise, _LEAST_STD) ** 2 + 1 - kept
    of_y = (1 - variances) * of_x
    given = of_y * variances / (of_y + variances)
    if is_last_marginal:
        given[-1] = of_x[-1]
    return (given / variances).sqrt().tolist()


def energy_network(recipe: DRLRecipe, shape: torch.Size) -> LevelConvEnergy | ResNetEnergy:
    """The network that the recipe names, or one that suits the images, for images of `shape`."""
    name = recipe.network
    if name == "auto":
        size = min(shape[1:])
        name = "gao2021-128" if size >= 128 else "gao2021-64" if size >= 64 else "conv"
    if name == "conv" and (recipe.num_blocks is not None or recipe.spectral_norm):
        raise ValueError(
            f"network: num_blocks is {recipe.num_blocks} and spectral_norm {recipe.spectral_norm} "
            "with the network 'conv'; expected them unset, or a residual network"
        )
    try:
        if name == "conv":
            chosen = settings(recipe)
            scales = (1 - chosen["schedule"].variances).sqrt().tolist()
            if chosen["is_last_marginal"]:
                scales[-1] = 1.0
            # An output in units of a step would scale the normal density's energy too.
            return LevelConvEnergy(shape, scales, is_tilted=recipe.units == "energy")
        return ResNetEnergy.preset(
            name, shape=shape, num_blocks=recipe.num_blocks, spectral_norm=recipe.spectral_norm
        )
    except ValueError as error:
        raise ValueError(
            f"image_size: the network {name!r} does not take images of {shape[1]}x{shape[2]}: "
            f"{error}"
        ) from error
