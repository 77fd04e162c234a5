"""An energy that corrects the samples of a trained generator (Yan 2022, §3.3.3)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.models import LatentEBM
from gencore.ops import random_key
from gencore.recipes.ebm.ebm_experiment import energy_network
from gencore.recipes.energy_gap import check_energy_gap
from gencore.recipes.hybrids.latentebm import LatentEBMRecipe
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.loaded_run import load_run
from gencore.samplers import Langevin
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GeneratorExperiment", "LatentEBMExperiment"]

# Images that are drawn at once, which bounds the memory.
_CHUNK = 256
_FIGURE_COLUMNS = 12


@runtime_checkable
class GeneratorExperiment(Protocol):
    """An experiment whose model makes images of normal latents."""

    image_shape: torch.Size

    def latent_generator(self) -> tuple[nn.Module, tuple[int, ...]]:
        """A frozen module from z ~ N(0, I), [N, *shape], to images in [0, 1], and that shape."""


class LatentEBMExperiment(ImageSamplesExperiment):
    """A `LatentEBM` on the generator of another run; every rank runs its part of the chains."""

    recipe: LatentEBMRecipe

    def __init__(self, recipe: LatentEBMRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        base, latent_shape = _base(recipe, self.image_shape)
        network = energy_network(
            "LatentEBMRecipe", recipe.network, self.image_shape, spectral_norm=recipe.spectral_norm
        )
        self.ebm = LatentEBM(
            base.to(fabric.device),
            nn.Sequential(_Centre(), network),
            latent_shape,
            kernel=partial(Langevin.from_time_step, time_step=recipe.time_step),
            num_steps=recipe.chain_steps,
            energy_penalty=recipe.energy_penalty,
        )
        optimizer = torch.optim.Adam(self.ebm.energy.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Run chains of latents, compare their images' energy with the data's, move the weights."""
        device = self.fabric.device
        start_key, chain_key = random_key(device=device), random_key(device=device)

        def loss(part: Batch) -> dict[str, Tensor]:
            start = self.ebm.start(len(part), key=start_key, first=part.first)
            x = to_float(part.x, 0, 1)
            terms = self.optimisation.model(x, start, key=chain_key, first=part.first)
            return dict(zip(("loss", "energy_data", "energy_samples"), terms[:3], strict=True))

        return self.optimisation.step(batch, loss, check=self._check)

    def _check(self, scalars: Mapping[str, Tensor]) -> None:
        check_energy_gap(
            *scalars.values(), max_gap=self.recipe.max_gap,
            advice="a lower learning_rate, or a larger energy_penalty",
        )  # fmt: skip

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of latents that chains have moved, with the averaged weights."""
        steps = self.recipe.sample_steps
        return self._drawn(num, generator, self.recipe.chain_steps if steps is None else steps)

    def more_candidates(self, num: int) -> dict[str, Tensor]:
        """`base`: samples of the generator as it is."""
        return {"base": self._drawn(num, None, 0).cpu()}

    def figures(self, folder: Path) -> None:
        """Samples of the base, and below each row what the chains make of them."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        num = 3 * _FIGURE_COLUMNS
        seeds = (torch.Generator(self.fabric.device).manual_seed(0) for _ in range(2))
        before, after = self._drawn(num, next(seeds), 0), self.sample(num, next(seeds))
        rows = [
            row
            for pair in zip(
                before.split(_FIGURE_COLUMNS), after.split(_FIGURE_COLUMNS), strict=True
            )
            for row in pair
        ]
        save_image_grid(
            torch.cat(rows).cpu(), folder / "before-and-after.png", columns=_FIGURE_COLUMNS
        )

    def _drawn(self, num: int, generator: Generator | None, num_steps: int) -> Tensor:
        ebm = self.optimisation.averaged.eval()
        assert isinstance(ebm, LatentEBM)
        key = random_key(generator, self.fabric.device)
        parts = [
            ebm.sample(part.stop - part.start, num_steps=num_steps, key=key, first=part.start)
            for part in chunks(num, _CHUNK)
        ]
        return torch.cat(parts).clamp(0, 1)


class _Centre(nn.Module):
    """Pixels in [0, 1] to [-1, 1], which energy networks expect."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def _base(recipe: LatentEBMRecipe, shape: torch.Size) -> tuple[nn.Module, tuple[int, ...]]:
    """The generator of the recipe's base, and the shape of its latents, for images of `shape`."""
    if not recipe.base:
        raise ValueError("base is not given: it is the folder of a run with a generator, as of glf")
    try:
        with torch.random.fork_rng():  # the base's checkpoint holds a state of its own
            base_recipe, experiment, _, _ = load_run(Path(recipe.base), "cpu", with_data=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the generator of base {recipe.base} cannot be loaded: {error}"
        ) from error
    if not isinstance(experiment, GeneratorExperiment):
        raise ValueError(
            f"base {recipe.base} is a run of the recipe {base_recipe.name}, which has no generator "
            "of normal latents"
        )
    if experiment.image_shape != shape:
        raise ValueError(
            f"base {recipe.base} makes images of {list(experiment.image_shape)}; the data are "
            f"{list(shape)}"
        )
    return experiment.latent_generator()
