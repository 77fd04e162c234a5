"""Autoregressive models of images made of causal convolutions, by maximum likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.autoregressive_images import AutoregressiveRecipe
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.autoregressive.pixelcnn_experiment import PixelCNNExperiment

__all__ = ["PixelCNNRecipe"]

_CIFAR10 = {"data": "cifar-10-batches-bin", "bits": 8}

# What the sources state; the numbers of steps are ours.
_PRESETS: dict[str, dict[str, Any]] = {
    # Van den Oord et al., "Pixel recurrent neural networks", table 1: h = 128 and 1024 outputs,
    # here the nearest multiples of three colours. The learning rate is not stated.
    "vandenoord2016-cifar10": {
        **_CIFAR10, "model": "pixelcnn", "channels": 129, "num_layers": 15, "kernel_size": 3,
        "first_kernel_size": 7, "output_channels": 1023, "optimizer": "rmsprop", "batch_size": 16,
        "learning_rate": 1e-4, "steps": 200_000, "ema_decay": 0.0,
    },
    # Salimans et al., "PixelCNN++": the defaults of the authors' code, on 8 devices with 12 images
    # each. Its learning rate decays by 5e-6 a step and its Adam has other decays, both left out.
    "salimans2017-cifar10": {
        **_CIFAR10, "model": "pixelcnn++", "channels": 160, "num_layers": 5, "num_scales": 3,
        "num_components": 10, "dropout": 0.5, "weight_norm": True, "optimizer": "adam",
        "batch_size": 96, "learning_rate": 1e-3, "ema_decay": 0.9995, "steps": 200_000,
    },
}  # fmt: skip

_PLUS_PLUS = used_by(model=("pixelcnn++",))
_ONE_RESOLUTION = used_by(model=("pixelcnn", "gated"))
_USED_BY: dict[str, UsedBy] = {
    "num_scales": _PLUS_PLUS, "dropout": _PLUS_PLUS, "weight_norm": _PLUS_PLUS,
    "kernel_size": _ONE_RESOLUTION, "first_kernel_size": _ONE_RESOLUTION,
    "output_channels": _ONE_RESOLUTION,
    "num_components": UsedBy(
        "likelihood mixture, or auto and model pixelcnn++,",
        lambda fields: fields["likelihood"] == "mixture"
        or (fields["likelihood"] == "auto" and fields["model"] == "pixelcnn++"),
    ),
}  # fmt: skip


@dataclass(kw_only=True)
class PixelCNNRecipe(AutoregressiveRecipe):
    """Autoregressive model of images: PixelCNN, Gated PixelCNN or PixelCNN++.

    The defaults take a few minutes on digits, with two CPU cores. The presets have what their
    sources state; where the folder of CIFAR-10 has another name than theirs, give it with --data.
    """

    presets = _PRESETS
    used_by = _USED_BY

    model: Literal["pixelcnn", "gated", "pixelcnn++"] = "gated"
    """The network: a stack of masked convolutions, a vertical and a horizontal stack of gates, or
    two streams over several resolutions."""

    likelihood: Literal["auto", "categorical", "mixture"] = "auto"
    """Distribution of a pixel: a softmax over the levels of each channel, or a mixture of
    discretised logistics; "auto" is the mixture for pixelcnn++ and else the softmax."""

    channels: int = 48
    """Width: of pixelcnn half of what its blocks pass on, of gated that of each stack, of
    pixelcnn++ that of each stream. With a softmax over three colours a multiple of 3, but for
    pixelcnn++."""

    num_layers: int | None = None
    """Blocks of pixelcnn, layers of gated, blocks of each resolution and way of pixelcnn++; without
    it 6, and 2 of pixelcnn++."""

    num_scales: int | None = None
    """Resolutions of pixelcnn++, each of half the side of the one before; without it 3, or as many
    as divide the sides."""

    kernel_size: int = 3
    """Side of the convolutions of pixelcnn and gated, odd."""

    first_kernel_size: int = 7
    """Side of the first convolution of pixelcnn and gated, odd."""

    output_channels: int | None = None
    """Width before the last convolution of pixelcnn and gated; without it twice the channels."""

    num_components: int = 10
    """Logistics in the mixture."""

    dropout: float = 0.2
    """Probability of dropout in the blocks of pixelcnn++."""

    weight_norm: bool = False
    """Weights of pixelcnn++ as a length and a direction, which start from the first images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("channels", "kernel_size", "first_kernel_size", "num_components")
        for name in ("num_layers", "num_scales", "output_channels"):
            if getattr(self, name) is not None:
                self.check_positive(name)
        self.check_fraction("dropout")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "PixelCNNExperiment":
        from gencore.recipes.autoregressive.pixelcnn_experiment import PixelCNNExperiment

        return PixelCNNExperiment(self, fabric, dataset)
