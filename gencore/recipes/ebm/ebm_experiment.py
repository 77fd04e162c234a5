"""The short-run energy-based model on images (Yan 2022, §2.4.6)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor

from gencore.data import ImageDataset, to_float
from gencore.models import (
    ConvEnergy,
    ConvEnergyName,
    ShortRunEBM,
)
from gencore.ops import random_key
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.recipes.energy_gap import check_energy_gap
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.samplers import ReplayBuffer
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks
from gencore.train.gathering import gather_rows

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["EBMExperiment"]

# Chains that are sampled at once, which bounds the memory of a large sample.
_CHUNK = 512


class EBMExperiment(ImageSamplesExperiment):
    """A `ShortRunEBM` in training; every rank runs its part of the chains of a single process."""

    recipe: EBMRecipe

    def __init__(self, recipe: EBMRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        shape = self.image_shape
        self.ebm = ShortRunEBM(
            energy_network("EBMRecipe", recipe.network, shape, spectral_norm=recipe.spectral_norm),
            shape,
            num_steps=recipe.chain_steps,
            step_size=recipe.step_size,
            noise_scale=recipe.noise_scale,
            grad_clamp=recipe.grad_clamp,
            generator_weight=recipe.generator_weight,
            energy_penalty=recipe.energy_penalty,
        )
        optimizer = torch.optim.Adam(
            self.ebm.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, 0.999), fused=True
        )
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer)
        self.buffer = None
        if recipe.buffer_size:
            self.buffer = ReplayBuffer(
                recipe.buffer_size, shape, reinit_fraction=recipe.reinit_fraction
            ).to(fabric.device)
        buffer: dict[str, StateObject] = {} if self.buffer is None else {"buffer": self.buffer}
        self.state: Mapping[str, StateObject] = {**self.optimisation.state, **buffer}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Draw samples, compare their energy with the data's, and move the weights."""
        device = self.fabric.device
        data_key, start_key, chain_key = (random_key(device=device) for _ in range(3))
        chains: list[tuple[Tensor, Tensor]] = []  # and their slots in the buffer

        def loss(part: Batch) -> dict[str, Tensor]:
            num, first = len(part), part.first
            x = to_float(part.x, -1, 1)
            x += self.recipe.data_noise * part.normal(key=data_key)
            if self.buffer is None:
                start = self.ebm.start(num, key=start_key, first=first)
            else:
                start, slots = self.buffer.draw(
                    num, key=start_key, first=first, total=self.recipe.batch_size
                )
            terms = self.optimisation.model(x, start, key=chain_key, first=first)
            if self.buffer is not None:
                chains.append((terms.samples, slots))
            return dict(zip(("loss", "energy_data", "energy_samples"), terms[:3], strict=True))

        scalars = self.optimisation.step(batch, loss, check=self._check)
        if self.buffer is not None:
            samples, slots = zip(*chains, strict=True)
            self.buffer.put(
                *(gather_rows(self.fabric, torch.cat(parts)) for parts in (samples, slots))
            )
        return scalars

    def _check(self, scalars: Mapping[str, Tensor]) -> None:
        check_energy_gap(
            *scalars.values(), max_gap=self.recipe.max_gap,
            advice="a lower learning_rate or step_size, or an energy_penalty of 0.1",
        )  # fmt: skip

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images from the averaged weights; with a replay buffer, from its chains."""
        chunk = _CHUNK if self.buffer is None else min(_CHUNK, len(self.buffer.chains))
        parts = chunks(num, chunk)
        x = torch.cat([self._sample_chunk(part.stop - part.start, generator) for part in parts])
        return ((x + 1) / 2).clamp(0, 1)

    def _sample_chunk(self, num: int, generator: Generator | None) -> Tensor:
        ebm = self.optimisation.averaged
        assert isinstance(ebm, ShortRunEBM)
        start_key, chain_key = (random_key(generator, self.fabric.device) for _ in range(2))
        if self.buffer is None:
            start = ebm.start(num, key=start_key)
        else:
            _, slots = self.buffer.draw(num, key=start_key)
            start = self.buffer.chains[slots]
        return ebm.dynamics.sample(start, ebm.num_steps, key=chain_key)


def energy_network(
    owner: str, name: Literal["auto"] | ConvEnergyName, shape: torch.Size, *, spectral_norm: bool
) -> ConvEnergy:
    """The network of that name, or one that suits the images, for a recipe's images of `shape`."""
    channels, height, width = shape
    if height != width:
        raise ValueError(
            f"{owner}: the images are {height}x{width}; expected square ones (set image_size)"
        )
    if name == "auto":
        medium: ConvEnergyName = "mnist" if channels == 1 else "cifar10"
        name = "digits" if height < 32 else "celeba" if height >= 64 else medium
    try:
        return ConvEnergy.preset(
            name, image_size=height, channels=channels, spectral_norm=spectral_norm
        )
    except ValueError as error:
        raise ValueError(
            f"image_size: the network {name!r} does not take images of {height}x{width}: {error}"
        ) from error
