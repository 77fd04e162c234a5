"""The generators of a Laplacian pyramid and their adversaries in training."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.models import Adversary, LaplacianGAN
from gencore.models.adversarial.laplacian_gan import draw_level
from gencore.nn import NotatedNetwork
from gencore.objectives.laplacian import enlarge, gaussian_pyramid
from gencore.ops import philox_normal, random_key
from gencore.recipes.adversarial.adversarial_training import (
    AdversarialTraining,
    Networks,
    make_adversary,
)
from gencore.recipes.adversarial.dcgan_adversaries import dcgan_adversaries
from gencore.recipes.adversarial.lapgan import LAPGANRecipe
from gencore.recipes.adversarial.mlp_networks import mlp_adversaries, mlp_generator
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.train import Batch
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["LAPGANExperiment"]

_CHUNK = 256
_FIGURE_COLUMNS = 12


class _Level(nn.Module):
    """Noise, and the enlarged images of the last level if there is one → images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, rough: Tensor | None = None) -> Tensor:
        return draw_level(self.network, z, rough)


class LAPGANExperiment(ImageSamplesExperiment):
    """A game a level, each on the Gaussian pyramid of the data, with pixels in [−1, 1]."""

    recipe: LAPGANRecipe

    def __init__(self, recipe: LAPGANRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        channels, height, width = self.image_shape
        divisor = 2**recipe.num_bands
        if height % divisor or width % divisor:
            raise ValueError(
                f"LAPGANRecipe: images have sides of {height} and {width}; expected multiples of "
                f"{divisor}, for num_bands {recipe.num_bands} (image_size scales them)"
            )
        shapes = [
            (channels, height >> halvings, width >> halvings)
            for halvings in reversed(range(recipe.num_bands + 1))
        ]
        self._adversaries: list[Adversary] = []
        self.levels: list[AdversarialTraining] = []
        for level, shape in enumerate(shapes):
            generator, networks = self._bands(shape) if level else self._coarsest(shape)
            adversary = make_adversary(recipe, networks)
            self._adversaries.append(adversary)
            self.levels.append(
                AdversarialTraining(
                    recipe, fabric, _Level(generator), adversary,
                    noise_size=shape[1] * shape[2] if level else recipe.latent_size,
                    given=partial(self._rough, level),
                )
            )  # fmt: skip
        self._coarse_shape = shapes[0]
        self._sides = [min(shape[1:]) for shape in shapes]
        self.state = {
            f"{name}_{side}": thing
            for side, training in zip(self._sides, self.levels, strict=True)
            for name, thing in training.state.items()
        }

    def _coarsest(self, shape: tuple[int, ...]) -> tuple[nn.Module, Networks]:
        recipe = self.recipe
        generator = mlp_generator(
            recipe.latent_size, recipe.generator_widths, shape, batch_norm=recipe.batch_norm
        )
        return generator, mlp_adversaries(
            shape, recipe.discriminator_widths, batch_norm=False, dropout=recipe.dropout
        )

    def _bands(self, shape: tuple[int, ...]) -> tuple[nn.Module, Networks]:
        width, channels = self.recipe.band_width, shape[0]
        generator = NotatedNetwork(
            f"{channels + 1} -convp5,ReLU-> {width} -convp5,ReLU-> {width} -convp5-> {channels}"
        )
        return generator, dcgan_adversaries(shape, self.recipe.width, batch_norm=False)

    def _images(self, level: int, images: Tensor) -> Tensor:
        """Images of the full size as the level has them."""
        halvings = len(self.levels) - 1 - level
        return gaussian_pyramid(to_float(images, -1, 1), halvings)[-1]

    def _rough(self, level: int, batch: Batch) -> tuple[Tensor, ...]:
        """What the generator of the level is given: the enlarged images of the last level."""
        return (enlarge(self._images(level - 1, batch.x)),) if level else ()

    @property
    def model(self) -> LaplacianGAN:
        """The generators with averaged weights, if they are averaged, in evaluation mode."""
        coarsest, *refiners = (level.averaged.get_submodule("network") for level in self.levels)
        gan = LaplacianGAN(
            coarsest, refiners, self._adversaries, latent_size=self.recipe.latent_size,
            coarse_shape=self._coarse_shape,
        )  # fmt: skip
        return gan.eval()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """A step of each level's game, on the same images."""
        batch = replace(batch, label=None)
        scalars: dict[str, Tensor] = {}
        for level, (side, training) in enumerate(zip(self._sides, self.levels, strict=True)):
            found = training.step(batch, partial(self._images, level))
            scalars |= {f"{name}_{side}": value for name, value in found.items()}
        return scalars

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        return self._decode(self._noise(num, generator))[-1]

    def _noise(self, num: int, generator: Generator | None = None) -> Tensor:
        key = random_key(generator, device=self.fabric.device)
        return philox_normal((num, self.model.noise_size), key)

    def _decode(self, noise: Tensor) -> list[Tensor]:
        """The images of all levels, in [0, 1], from the coarsest."""
        model = self.model
        parts = [model.decode_levels(noise[rows]) for rows in chunks(len(noise), _CHUNK)]
        return [_unit(torch.cat(images)) for images in zip(*parts, strict=True)]

    @torch.no_grad()
    def more_candidates(self, num: int) -> dict[str, Tensor]:
        """Training images of the coarsest level: `enlarged` to the full size, and `refined`, with
        the bands that generators add."""
        chosen = self.dataset.images[torch.randperm(len(self.dataset))[:num]]
        noise, model = self._noise(len(chosen)), self.model
        found: dict[str, list[Tensor]] = {"refined": [], "enlarged": []}
        for rows in chunks(len(chosen), _CHUNK):
            coarse = self._images(0, chosen[rows].to(self.fabric.device))
            images = dict.fromkeys(found, coarse)
            _, *planes = noise[rows].split(model.noise_sizes, 1)
            for generator, plane in zip(model.generators[1:], planes, strict=True):
                images = {name: enlarge(each) for name, each in images.items()}
                images["refined"] = draw_level(generator, plane, images["refined"])
            for name, each in images.items():
                found[name].append(_unit(each).cpu())
        return {name: torch.cat(parts) for name, parts in found.items()}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Samples at all levels in the full size, the coarsest in the first row."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        levels = self._decode(self._noise(_FIGURE_COLUMNS))
        rows = [nn.functional.interpolate(images, tuple(self.image_shape[1:])) for images in levels]
        save_image_grid(torch.cat(rows), folder / "levels.png", columns=_FIGURE_COLUMNS)


def _unit(images: Tensor) -> Tensor:
    """From [−1, 1] to [0, 1]."""
    return ((images + 1) / 2).clamp(0, 1)
