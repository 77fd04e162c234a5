"""Multi-scale normalizing flows on images, by maximum likelihood."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from gencore.data import ImageDataset
from gencore.models import Flow, Glow, RealNVP
from gencore.nn import ConvConditioner, UniformDequantization, VariationalDequantization
from gencore.ops import random_key
from gencore.recipes.flows.glow import GlowRecipe
from gencore.recipes.level_bits import level_bits
from gencore.recipes.levels_experiment import LevelsExperiment
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GlowExperiment"]

# Images that pass through the flow at once without a graph, which bounds the memory.
_CHUNK = 256

_FIGURE_TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
_FIGURE_COLUMNS = 10
_FIGURE_PAIRS = 8


class DequantizedBits(nn.Module):
    """Bits per dimension of images of levels under a flow over [−½, ½]^D: a bound from above.

    The grey levels x are dequantised to y in [0, 1)^D with noise that is uniform or learned, and
    the flow sees y − ½.
    """

    def __init__(
        self, flow: Flow, dequantization: UniformDequantization | VariationalDequantization
    ) -> None:
        super().__init__()
        self.flow = flow
        self.dequantization = dequantization

    def forward(
        self, images: Tensor, key: Tensor, first: int = 0, context: Tensor | None = None
    ) -> Tensor:
        """Bits [N] of images [N, C, H, W], uint8.

        Args:
            images: levels.
            key: of the noise.
            first: number of images of the batch before these.
            context: [N, C] of a conditional flow.
        """
        y, log_det = self.dequantization(images, key=key, first=first)
        # The log-determinant counts the levels already.
        log_prob = self.flow.log_prob(y - 0.5, context) + log_det
        return level_bits(log_prob, images.shape[1:])


class GlowExperiment(LevelsExperiment):
    """A flow in training on the likelihood of dequantised images."""

    recipe: GlowRecipe

    def __init__(self, recipe: GlowRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset, class_conditional=recipe.class_conditional)
        shape = self.image_shape
        flow = make_flow(recipe, shape, self.classes.context_size)
        bits = DequantizedBits(flow, _dequantization(recipe, shape[0]))
        bits.to(fabric.device)
        if not dataset.images.is_meta:  # else the scales come with the weights
            # Layers that take their scale from the first data see the same on every rank, and
            # before the weights are averaged.
            chosen = torch.randperm(len(dataset))[: max(recipe.batch_size, 64)]
            with torch.no_grad():
                first = dataset.subset(chosen)
                key = random_key(device=fabric.device)
                bits(
                    first.images.to(fabric.device), key, context=self.classes.context(first.labels)
                )
        optimizer: Optimizer
        if recipe.optimizer == "adam":
            optimizer = torch.optim.Adam(bits.parameters(), recipe.learning_rate, fused=True)
        else:
            optimizer = torch.optim.Adamax(bits.parameters(), recipe.learning_rate)
        self.optimisation = recipe.optimisation(
            fabric, bits, optimizer, ema_warmup=True,
            advice="a lower learning_rate, bound or max_grad_norm, or more warmup_steps",
        )  # fmt: skip
        self.optimisation.averaged.eval()
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def flow(self) -> Flow:
        """The flow with averaged weights."""
        return self._averaged.flow

    @property
    def _averaged(self) -> DequantizedBits:
        bits = self.optimisation.averaged
        assert isinstance(bits, DequantizedBits)
        return bits

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Dequantise the images anew and move the weights towards a higher likelihood."""
        key = random_key(device=self.fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            context = self.classes.context(part.label)
            bits = self.optimisation.model(part.x, key, part.first, context)
            return {"bits_per_dim": bits.mean()}

        return self.optimisation.step(batch, loss)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of the averaged weights at the recipe's temperature; of a conditional flow in the
        order of their classes, of which all have as many images, give or take one."""
        latents = self.recipe.temperature * self.flow.sample_latents(num, generator=generator)
        return self._images(latents, self.classes.context(self.classes.sample_labels(num)))

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A grid of samples; of a conditional flow a row for each class."""
        from gencore.train.figures import save_image_grid

        rows, columns = self.classes.rows(samples)
        save_image_grid(rows, path, columns=columns, above=self.shown_data)

    def evaluate(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` held-out test images, and of training images.

        Those of a conditional flow are given the images' classes. Beside them stand those of the
        test images under two Gaussians fitted to all training images, of independent pixels and of
        all covariances; the latter up to 4,096 dimensions, and of at least two training images.
        """
        train, test = self.dataset, self.test
        measures: dict[str, float] = {"num_samples": min(num, len(test))}
        for name, part in (("test", test), ("train", train)):
            chosen = part.subset(torch.randperm(len(part))[:num])
            measures[f"bits_per_dim/{name}"] = self._mean_bits(chosen)
        for name, bits in self.gaussian_bits().items():
            measures[f"bits_per_dim/{name}"] = bits
        return measures

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images, those of a conditional flow of known classes."""
        if num_samples or num_evaluate:
            self.classes.context(self.test.labels)

    def figures(self, folder: Path) -> None:
        """The same latents at several temperatures, a row each, of a conditional flow a class each
        column; and lines in latent space, and from class to class, between held-out images, the
        rows' ends (a single one is both ends)."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        z = self.flow.sample_latents(_FIGURE_COLUMNS)
        rows = torch.cat([temperature * z for temperature in _FIGURE_TEMPERATURES])
        context = self.classes.context(self.classes.sample_labels(_FIGURE_COLUMNS))
        if context is not None:
            context = context.repeat(len(_FIGURE_TEMPERATURES), 1)
        images = self._images(rows, context)
        save_image_grid(images, folder / "temperatures.png", columns=_FIGURE_COLUMNS)

        test = self.test
        pairs = min(_FIGURE_PAIRS, max(len(test) // 2, 1))
        ends = test.subset(torch.randperm(len(test)).repeat(2)[: 2 * pairs])
        context = self.classes.context(ends.labels)
        with torch.no_grad():
            x = (ends.images.to(self.fabric.device) + 0.5) / self.recipe.levels - 0.5
            z, _ = self.flow.transform(x, context)
        context = None if context is None else _lines(context, _FIGURE_COLUMNS)
        images = self._images(_lines(z, _FIGURE_COLUMNS), context)
        save_image_grid(images, folder / "interpolation.png", columns=_FIGURE_COLUMNS)

    @torch.no_grad()
    def _images(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Images in [0, 1] of latents."""
        parts = [
            self.flow.transform.inverse(z[part], None if context is None else context[part])[0]
            for part in chunks(len(z), _CHUNK)
        ]
        return (torch.cat(parts) + 0.5).clamp(0, 1)

    @torch.no_grad()
    def _mean_bits(self, data: ImageDataset) -> float:
        device = self.fabric.device
        key, context = random_key(device=device), self.classes.context(data.labels)
        bits = [
            self._averaged(
                data.images[part].to(device), key, part.start,
                None if context is None else context[part],
            ).double()
            for part in chunks(len(data), _CHUNK)
        ]  # fmt: skip
        return torch.cat(bits).mean().item()


def _lines(ends: Tensor, num: int) -> Tensor:
    """`num` points on the line from each row of the first half to one of the second, line by
    line."""
    start, end = ends.unsqueeze(1).chunk(2)
    weight = torch.linspace(0, 1, num, device=ends.device).view(1, -1, *[1] * (ends.dim() - 1))
    return torch.lerp(start, end, weight).flatten(0, 1)


def make_flow(recipe: GlowRecipe, shape: Sequence[int], context_size: int = 0) -> Flow:
    """The flow that the recipe names, for images of `shape` [C, H, W]."""
    num_levels = _num_levels(recipe, shape)
    if recipe.model == "realnvp":
        return RealNVP(
            shape,
            num_scales=num_levels,
            hidden_channels=recipe.hidden_channels,
            num_blocks=recipe.num_steps,
            bound=recipe.bound,
            context_size=context_size,
            reversible=recipe.reversible,
        )
    return Glow(
        shape,
        num_levels=num_levels,
        num_steps=recipe.num_steps,
        hidden_channels=recipe.hidden_channels,
        coupling=recipe.coupling,
        bound=recipe.bound,
        num_bins=recipe.num_bins,
        context_size=context_size,
        reversible=recipe.reversible,
    )


def _num_levels(recipe: GlowRecipe, shape: Sequence[int]) -> int:
    """The levels that the recipe names, or as many as suit images of `shape` [C, H, W]."""
    height, width = shape[1:]

    def divisor(levels: int) -> int:
        return 2 ** (levels if recipe.model == "glow" else levels - 1)

    def fits(levels: int) -> bool:
        return height % divisor(levels) == width % divisor(levels) == 0

    levels = recipe.num_levels
    if levels is None:
        most = 2 if min(height, width) < 16 else 3
        levels = next((n for n in range(most, 1, -1) if fits(n)), 1)
    if not fits(levels):
        raise ValueError(
            f"num_levels is {levels}, which needs sides that are multiples of {divisor(levels)}, "
            f"but the images are {height}x{width}: "
            f"{'choose fewer, or ' * (levels > 1)}set image_size"
        )
    return levels


def _dequantization(
    recipe: GlowRecipe, channels: int
) -> UniformDequantization | VariationalDequantization:
    if recipe.dequantization == "uniform":
        return UniformDequantization(bins=recipe.levels)
    network = ConvConditioner(channels, recipe.hidden_channels, 2 * channels)
    return VariationalDequantization(network, bins=recipe.levels)
