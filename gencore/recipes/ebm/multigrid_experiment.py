"""Multi-grid energy-based models of images in training (Gao 2021, §2.2)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import MASK_NAMES, ImageDataset, hidden_pixels, to_float
from gencore.metrics import inpainting_scores
from gencore.models import (
    MultiGridEBM,
    MultiGridName,
)
from gencore.nn import block_expand
from gencore.ops import random_key, split_key
from gencore.ops.random import philox_uniform
from gencore.recipes.ebm.multigrid import MultiGridRecipe
from gencore.recipes.energy_gap import check_energy_gap
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.samplers import ReplayBuffer
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks
from gencore.train.gathering import gather_rows

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["MultiGridExperiment"]

# Chains that are run at once, which bounds the memory of a large sample.
_CHUNK = 256
_BY_SIZE: dict[int, MultiGridName] = {64: "gao2021", 32: "small32", 16: "small16", 8: "small8"}
# Training images whose 1 × 1 versions generation starts from.
_NUM_COLORS = 1024
# That of errors of half a grey level: images of one colour would have an infinite one.
_MAX_PSNR = 20 * math.log10(2 * 255)
# What figures show: starts and samples of each, and images that are filled in.
_FIGURE_STARTS, _FIGURE_SAMPLES, _FIGURE_IMAGES = 8, 4, 12


class MultiGridExperiment(ImageSamplesExperiment):
    """A `MultiGridEBM` in training; every rank runs its part of the chains of a single process."""

    recipe: MultiGridRecipe

    def __init__(self, recipe: MultiGridRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        self.ebm = _make_ebm(recipe, self.image_shape)
        if not dataset.images.is_meta:
            count = len(dataset)
            rows = torch.arange(min(count, _NUM_COLORS)) * count // min(count, _NUM_COLORS)
            self.ebm.set_colors(to_float(dataset.images[rows], -1, 1))
        self.ebm.to(fabric.device)
        optimizer = torch.optim.Adam(
            self.ebm.energies.parameters(),
            lr=recipe.learning_rate,
            betas=(recipe.beta1, 0.999),
            fused=True,
        )
        self.optimisation = recipe.optimisation(fabric, self.ebm, optimizer)
        self.buffers = torch.nn.ModuleList()
        if recipe.chains == "persistent":
            for grid, size in enumerate(self.ebm.sizes):
                self.buffers.append(
                    ReplayBuffer(
                        recipe.buffer_size,
                        (self.image_shape[0], *size),
                        reinit_fraction=0.0,
                        start=_DataStarts(dataset.images, self.ebm, grid),
                    ).to(fabric.device)
                )
        buffers: dict[str, StateObject] = {"buffers": self.buffers} if self.buffers else {}
        self.state: Mapping[str, StateObject] = {**self.optimisation.state, **buffers}

    @property
    def averaged(self) -> MultiGridEBM:
        """The model with averaged weights, if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, MultiGridEBM)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Run the chains of all grids, compare their energies with the data's, and move the
        weights."""
        device, recipe = self.fabric.device, self.recipe
        data_key, mask_key, start_key, chain_key = (random_key(device=device) for _ in range(4))
        grids = [f"{height}x{width}" for height, width in self.ebm.sizes]
        chains: list[tuple[Sequence[Tensor], Sequence[Tensor]]] = []  # their slots are the second

        def loss(part: Batch) -> dict[str, Tensor]:
            num, first = len(part), part.first
            x = to_float(part.x, -1, 1)
            x += recipe.data_noise * part.normal(key=data_key)
            is_free = None
            if recipe.conditional:
                size = self.ebm.sizes[-1]
                is_free = hidden_pixels("square", num, size, key=mask_key, first=first)
            starts: Sequence[Tensor] | None = None
            if recipe.chains == "data":
                starts = self.ebm.pyramid(x)[1:]
            elif recipe.chains == "persistent":
                drawn = [
                    buffer.draw(num, key=key, first=first, total=recipe.batch_size)
                    for buffer, key in zip(
                        self._buffers, split_key(start_key, len(grids)), strict=True
                    )
                ]
                starts, slots = zip(*drawn, strict=True)
            terms = self.optimisation.model(
                x, starts=starts, is_free=is_free, key=chain_key, first=first
            )
            if recipe.chains == "persistent":
                chains.append((terms.samples, slots))
            energies = {
                f"energy_{kind}/{grid}": value
                for kind, values in (("data", terms.energy_data), ("samples", terms.energy_samples))
                for grid, value in zip(grids, values, strict=True)
            }
            return {"loss": terms.loss, **energies}

        scalars = self.optimisation.step(batch, loss, check=self._check)
        for grid, buffer in enumerate(self._buffers):
            samples = torch.cat([samples[grid] for samples, _ in chains])
            slots = torch.cat([slots[grid] for _, slots in chains])
            buffer.put(gather_rows(self.fabric, samples), gather_rows(self.fabric, slots))
        return scalars

    @property
    def _buffers(self) -> list[ReplayBuffer]:
        return [buffer for buffer in self.buffers if isinstance(buffer, ReplayBuffer)]

    def _check(self, scalars: Mapping[str, Tensor]) -> None:
        loss, *energies = scalars.values()
        half = len(energies) // 2
        for data, samples in zip(energies[:half], energies[half:], strict=True):
            check_energy_gap(
                loss, data, samples, max_gap=self.recipe.max_gap,
                advice="a lower learning_rate or step_size, or an energy_penalty of 0.1",
            )  # fmt: skip

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images from the averaged weights; of persistent chains, from where they are."""
        chunk = min(_CHUNK, self.recipe.buffer_size) if self.buffers else _CHUNK
        parts = [
            self._sample_chunk(part.stop - part.start, generator) for part in chunks(num, chunk)
        ]
        return _unit(torch.cat(parts))

    def _sample_chunk(self, num: int, generator: Generator | None) -> Tensor:
        ebm, noise = self.averaged, self.recipe.synthesis_noise
        start_key, chain_key = (random_key(generator, self.fabric.device) for _ in range(2))
        if not self.buffers:
            x0 = ebm.coarse(num, key=start_key)
            return ebm.sample_from_coarse(
                x0, num_steps=self._sampling_steps, noise=noise, key=chain_key
            )[-1]
        buffer = self._buffers[-1]
        _, slots = buffer.draw(num, key=start_key)
        return ebm.dynamics(ebm.energies[-1], noise=noise).sample(
            buffer.chains[slots], self._sampling_steps, key=chain_key
        )

    @property
    def _sampling_steps(self) -> int:
        steps = self.recipe.sampling_steps
        return self.recipe.chain_steps if steps is None else steps

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """The measures need test images, two of each kind where they have covariances."""
        if not self.recipe.conditional:
            super().prepare(num_samples, num_evaluate)
        elif num_samples or num_evaluate:
            _ = self.test

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances of samples and of what they have to beat, as of every such model.

        Of a conditional model instead, on `num` test images, the errors and the peak
        signal-to-noise ratios of filled-in pixels, for each kind of `hidden_pixels`: the model's,
        and those of the mean of the visible pixels.
        """
        if not self.recipe.conditional:
            return super().evaluate(num)
        images = self.test.images[torch.randperm(len(self.test))[:num]]
        target = to_float(images.to(self.fabric.device), 0, 1)
        measures: dict[str, float] = {"num_samples": len(target)}
        for name in MASK_NAMES:
            is_free = hidden_pixels(
                name, len(target), self.ebm.sizes[-1], key=random_key(device=target.device)
            )
            candidates = {
                "filled": self._fill(target, is_free),
                "visible_mean": _visible_mean(target, is_free),
            }
            for candidate, filled in candidates.items():
                scores = inpainting_scores(filled, target, is_free)
                measures[f"inpainting_error/{name}/{candidate}"] = scores.error.mean().item()
                psnr = scores.psnr.clamp(max=_MAX_PSNR).mean().item()
                measures[f"inpainting_psnr/{name}/{candidate}"] = psnr
        return measures

    def figures(self, folder: Path) -> None:
        """Samples of all grids, several of each start; of a conditional model instead, test images
        with hidden pixels, and what fills them in."""
        from gencore.train.figures import save_image_panels

        folder.mkdir(exist_ok=True)
        if self.recipe.conditional:
            images = self.test.images[torch.randperm(len(self.test))[:_FIGURE_IMAGES]]
            target = to_float(images.to(self.fabric.device), 0, 1)
            panels = {"images": target}
            for name in MASK_NAMES:
                is_free = hidden_pixels(
                    name, len(target), self.ebm.sizes[-1], key=random_key(device=target.device)
                )
                panels[f"{name}: given"] = target.masked_fill(is_free, 0.5)
                panels[f"{name}: filled in"] = self._fill(target, is_free)
            save_image_panels(panels, folder / "inpainting.png", columns=2)
            return
        ebm = self.averaged
        x0 = ebm.coarse(_FIGURE_STARTS)
        grids = ebm.sample_from_coarse(
            x0, _FIGURE_SAMPLES, num_steps=self._sampling_steps, noise=self.recipe.synthesis_noise
        )
        height, width = ebm.sizes[-1]
        panels = {"start, 1x1": block_expand(_unit(x0), (height, width))}
        for (h, w), images in zip(ebm.sizes, grids, strict=True):
            panels[f"{_FIGURE_SAMPLES} samples of each, {h}x{w}"] = block_expand(
                _unit(images), (height // h, width // w)
            )
        panels["start, 1x1"] = panels["start, 1x1"].repeat_interleave(_FIGURE_SAMPLES, 0)
        save_image_panels(panels, folder / "grids.png", columns=_FIGURE_SAMPLES)

    def _fill(self, target: Tensor, is_free: Tensor) -> Tensor:
        """Images in [0, 1], their free pixels filled in; the others keep their bits."""
        filled = torch.cat([
            self.averaged.inpaint(
                2 * target[part] - 1, is_free[part], num_steps=self._sampling_steps,
                noise=self.recipe.synthesis_noise, key=random_key(device=target.device),
            )
            for part in chunks(len(target), _CHUNK)
        ])  # fmt: skip
        return torch.where(is_free, _unit(filled), target)


class _DataStarts:
    """Training images at one grid as the first states of persistent chains."""

    def __init__(self, images: Tensor, ebm: MultiGridEBM, grid: int) -> None:
        self.images, self.grid = images, grid
        self.pyramid = ebm.pyramid

    def __call__(self, size: Sequence[int], key: Tensor, *, first_element: int = 0) -> Tensor:
        num, *shape = size
        if self.images.is_meta:  # to be filled from a checkpoint
            return torch.zeros(*size, device=key.device)
        first = first_element // torch.Size(shape).numel()
        uniform = philox_uniform((num,), key, first_element=first)
        rows = (uniform * len(self.images)).long().to(self.images.device)
        x = to_float(self.images[rows].to(key.device), -1, 1)
        return self.pyramid(x)[1 + self.grid]


def _make_ebm(recipe: MultiGridRecipe, shape: torch.Size) -> MultiGridEBM:
    """The model that the recipe names, or one that suits images of `shape`."""
    channels, height, width = shape
    name = recipe.network
    if name == "auto":
        if height != width or height not in _BY_SIZE:
            raise ValueError(
                f"MultiGridRecipe: the images are {height}x{width}; expected squares of "
                f"{', '.join(map(str, sorted(_BY_SIZE)))} pixels (set image_size)"
            )
        name = _BY_SIZE[height]
    ebm = MultiGridEBM.preset(
        name,
        channels=channels,
        single_grid=recipe.single_grid,
        num_steps=recipe.chain_steps,
        step_size=recipe.step_size,
        noise_scale=recipe.noise_scale,
        grad_clamp=recipe.grad_clamp,
        clamp=(-1.0, 1.0) if recipe.clamp else None,
        energy_penalty=recipe.energy_penalty,
        num_colors=_NUM_COLORS,
    )
    if ebm.sizes[-1] != (height, width):
        side = ebm.sizes[-1][0]
        raise ValueError(
            f"MultiGridRecipe: network is {name!r}, for images of {side}x{side}, but they are "
            f"{height}x{width} (set image_size)"
        )
    return ebm


def _unit(x: Tensor) -> Tensor:
    """Pixels in [0, 1] of those in [-1, 1]."""
    return ((x + 1) / 2).clamp(0, 1)


def _visible_mean(target: Tensor, is_free: Tensor) -> Tensor:
    """The free pixels in the mean colour of the others."""
    count = (~is_free).sum((2, 3), keepdim=True).clamp(min=1)
    mean = target.masked_fill(is_free, 0.0).sum((2, 3), keepdim=True) / count
    return torch.where(is_free, mean, target)
