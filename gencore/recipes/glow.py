"""Multi-scale normalizing flows on images, by maximum likelihood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LinearLR
from torch.optim.swa_utils import AveragedModel

from gencore.data import ImageDataset, load_images
from gencore.metrics import bits_per_dim, full_gaussian_bits, independent_gaussian_bits
from gencore.models import CouplingKind, Flow, Glow, RealNVP
from gencore.nn import ConvConditioner, UniformDequantization, VariationalDequantization
from gencore.ops import random_key
from gencore.train import Diverged, Experiment, ImageRecipe, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["GlowExperiment", "GlowRecipe"]

_Tensors = tuple[Tensor, ...] | list[Tensor]

# Images that pass through the flow at once without a graph, which bounds the memory.
_CHUNK = 256
# Beyond this many dimensions the full covariance, and minutes of factorising it, are left out.
_MAX_GAUSSIAN_DIMS = 4096

_FIGURE_TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
_FIGURE_COLUMNS = 10
_FIGURE_PAIRS = 8


@dataclass(kw_only=True)
class GlowRecipe(ImageRecipe):
    """Normalizing flow on images: Glow, or RealNVP, with bits/dim beside those of Gaussians.

    The defaults take a few minutes on digits, with two CPU cores.
    """

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images in one step, over all devices together."""

    image_size: int | None = None
    """Scale images to this height and width; without it they keep their size."""

    model: Literal["glow", "realnvp"] = "glow"
    """The flow: Glow, or the multi-scale RealNVP."""

    num_levels: int | None = None
    """Scales, each of half the side of the one before; without it 2 below 16 pixels, else 3."""

    num_steps: int = 8
    """Steps of Glow at each scale; for RealNVP the residual blocks of each network."""

    hidden_channels: int = 64
    """Width of the couplings' networks; RealNVP doubles it at each further scale."""

    coupling: CouplingKind = "affine"
    """What a coupling of Glow does to the half that moves: scale and shift it, or only shift it."""

    bound: float = 2.0
    """Bound of the couplings' log-scales, at most 80."""

    reversible: bool = False
    """Rebuild inputs in the backward pass, so that memory does not grow with the couplings."""

    dequantization: Literal["uniform", "variational"] = "uniform"
    """Noise that makes grey levels real numbers: uniform, or normal given the image and learned."""

    optimizer: Literal["adam", "adamax"] = "adam"
    """Adam, or Adamax, its variant with the largest gradient in place of their mean square."""

    learning_rate: float = 1e-3
    """Its learning rate after the warm-up."""

    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float = 50.0
    """Longer gradients of the loss are cut to this norm."""

    ema_decay: float = 0.99
    """Decay of the average of the weights that draws samples and is measured; less at first."""

    temperature: float = 0.7
    """Standard deviation of the latents of samples."""

    changeable = frozenset({"steps", "temperature"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "realnvp" and self.coupling != "affine":
            raise ValueError(
                f"GlowRecipe: coupling is {self.coupling!r}, but the model realnvp has affine ones"
            )
        if self.num_levels is not None:
            self.check_positive("num_levels")
        self.check_positive(
            "num_steps", "hidden_channels", "bound", "learning_rate", "warmup_steps",
            "max_grad_norm",
        )  # fmt: skip
        self.check_not_negative("temperature")
        self.check_fraction("ema_decay")

    def load_data(self) -> ImageDataset:
        return load_images(self.data, image_size=self.image_size)

    def build(self, fabric: "Fabric", dataset: ImageDataset) -> "GlowExperiment":
        return GlowExperiment(self, fabric, dataset)


class DequantizedBits(nn.Module):
    """Bits per dimension of 8-bit images under a flow over [−½, ½]^D: a bound from above.

    The grey levels x are dequantised to y in [0, 1)^D with noise that is uniform or learned, and
    the flow sees y − ½.
    """

    def __init__(
        self, flow: Flow, dequantization: UniformDequantization | VariationalDequantization
    ) -> None:
        super().__init__()
        self.flow = flow
        self.dequantization = dequantization

    def forward(self, images: Tensor, key: Tensor, first: int = 0) -> Tensor:
        """Bits [N] of images [N, C, H, W], uint8.

        Args:
            images: levels.
            key: of the noise.
            first: number of images of the batch before these.
        """
        y, log_det = self.dequantization(images, key=key, first=first)
        # The log-determinant counts the 256 levels already.
        return bits_per_dim(self.flow.log_prob(y - 0.5) + log_det, images[0].numel(), bins=1)


def warming_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """The update of an exponential average whose decay grows to `decay`: after n updates it is at
    most (1 + n) / (10 + n), so that the first weights are soon forgotten."""

    def update(averages: _Tensors, weights: _Tensors, num_averaged: Tensor | int) -> None:
        n = float(num_averaged)
        torch._foreach_lerp_(averages, weights, max(1 - decay, 9 / (10 + n)))

    return update


class GlowExperiment(Experiment):
    """A flow in training on the likelihood of dequantised images."""

    def __init__(self, recipe: GlowRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.dataset = dataset
        shape = dataset.images.shape[1:]
        bits = DequantizedBits(make_flow(recipe, shape), _dequantization(recipe, shape[0]))
        bits.to(fabric.device)
        # Layers that take their scale from the first data see the same on every rank, and before
        # the weights are averaged.
        chosen = torch.randperm(len(dataset))[: max(recipe.batch_size, 64)]
        with torch.no_grad():
            bits(dataset.images[chosen].to(fabric.device), random_key(device=fabric.device))
        kinds = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
        optimizer = kinds[recipe.optimizer](bits.parameters(), lr=recipe.learning_rate)
        scheduler = LinearLR(optimizer, 1 / recipe.warmup_steps, total_iters=recipe.warmup_steps)
        self.ema = AveragedModel(
            bits, device=fabric.device, multi_avg_fn=warming_average(recipe.ema_decay)
        )
        self.ema.requires_grad_(False).eval()
        self.bits, self.scheduler = bits, scheduler
        # Only the loss goes through the wrapped model, which averages gradients over ranks.
        self.model, self.optimizer = fabric.setup(bits, optimizer)
        self.state: Mapping[str, StateObject] = {
            "model": bits, "optimizer": self.optimizer, "scheduler": scheduler, "ema": self.ema,
        }  # fmt: skip

    @property
    def flow(self) -> Flow:
        """The flow with averaged weights."""
        bits = self.ema.module
        assert isinstance(bits, DequantizedBits)
        return bits.flow

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """Dequantise the images anew and move the weights towards a higher likelihood."""
        fabric = self.fabric
        key = random_key(device=fabric.device)
        loss = self.model(batch, key, fabric.global_rank * len(batch)).mean()
        bits = fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(bits, Tensor)
        if not bits.isfinite():
            raise Diverged(
                f"the bits per dimension are {bits.item()}",
                advice="a lower learning_rate, bound or max_grad_norm, or more warmup_steps",
            )
        self.optimizer.zero_grad()
        fabric.backward(loss)
        grad_norm = fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.recipe.max_grad_norm, error_if_nonfinite=False
        )
        assert grad_norm is not None
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update_parameters(self.bits)
        return {"bits_per_dim": bits, "grad_norm": grad_norm}

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of the averaged weights at the recipe's temperature."""
        latents = self.recipe.temperature * self.flow.sample_latents(num, generator=generator)
        return torch.cat([self._images(z) for z in latents.split(_CHUNK)])

    def evaluate(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` held-out test images, and of training images.

        Beside them those of the test images under two Gaussians fitted to all training images, of
        independent pixels and of all covariances; the latter up to 4,096 dimensions.
        """
        recipe, train = self.recipe, self.dataset.images
        test = load_images(recipe.data, split="test", image_size=recipe.image_size).images
        measures = {}
        for name, images in (("test", test), ("train", train)):
            chosen = images[torch.randperm(len(images))[:num]]
            measures[f"bits_per_dim/{name}"] = self._mean_bits(chosen)
        measures["bits_per_dim/independent_gaussian"] = independent_gaussian_bits(train, test)
        if train[0].numel() <= _MAX_GAUSSIAN_DIMS:
            measures["bits_per_dim/full_gaussian"] = full_gaussian_bits(train, test)
        return measures

    def save_figures(self, folder: Path) -> None:
        """The same latents at several temperatures, a row each; and lines in latent space between
        held-out images, the rows' ends."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        z = self.flow.sample_latents(_FIGURE_COLUMNS)
        rows = torch.cat([temperature * z for temperature in _FIGURE_TEMPERATURES])
        save_image_grid(self._images(rows), folder / "temperatures.png", columns=_FIGURE_COLUMNS)

        test = load_images(self.recipe.data, split="test", image_size=self.recipe.image_size).images
        pairs = min(_FIGURE_PAIRS, len(test) // 2)
        ends = test[torch.randperm(len(test))[: 2 * pairs]].to(self.fabric.device)
        with torch.no_grad():
            z, _ = self.flow.transform((ends + 0.5) / 256 - 0.5)
        weight = torch.linspace(0, 1, _FIGURE_COLUMNS, device=z.device)
        weight = weight.view(1, -1, *[1] * (z.dim() - 1))
        rows = torch.lerp(z[:pairs, None], z[pairs:, None], weight).flatten(0, 1)
        save_image_grid(self._images(rows), folder / "interpolation.png", columns=_FIGURE_COLUMNS)

    @torch.no_grad()
    def _images(self, z: Tensor) -> Tensor:
        """Images in [0, 1] of latents."""
        return (self.flow.transform.inverse(z)[0] + 0.5).clamp(0, 1)

    @torch.no_grad()
    def _mean_bits(self, images: Tensor) -> float:
        device = self.fabric.device
        key = random_key(device=device)
        bits = [
            self.ema(part.to(device), key, index * _CHUNK).double()
            for index, part in enumerate(images.split(_CHUNK))
        ]
        return torch.cat(bits).mean().item()


def make_flow(recipe: GlowRecipe, shape: Sequence[int]) -> Flow:
    """The flow that the recipe names, for images of `shape` [C, H, W]."""
    num_levels = recipe.num_levels or (2 if min(shape[1:]) < 16 else 3)
    if recipe.model == "realnvp":
        return RealNVP(
            shape,
            num_scales=num_levels,
            hidden_channels=recipe.hidden_channels,
            num_blocks=recipe.num_steps,
            bound=recipe.bound,
            reversible=recipe.reversible,
        )
    return Glow(
        shape,
        num_levels=num_levels,
        num_steps=recipe.num_steps,
        hidden_channels=recipe.hidden_channels,
        coupling=recipe.coupling,
        bound=recipe.bound,
        reversible=recipe.reversible,
    )


def _dequantization(
    recipe: GlowRecipe, channels: int
) -> UniformDequantization | VariationalDequantization:
    if recipe.dequantization == "uniform":
        return UniformDequantization()
    network = ConvConditioner(channels, recipe.hidden_channels, 2 * channels)
    return VariationalDequantization(network)
