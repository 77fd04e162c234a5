"""Autoregressive models of images made of LSTMs, by maximum likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.autoregressive_images import AutoregressiveRecipe
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.autoregressive.pixelrnn_experiment import PixelRNNExperiment

__all__ = ["PixelRNNRecipe"]

# "Pixel recurrent neural networks", table 1 and §5.1: h = 128, of which three colours would have
# 42⅔ each; here they have 43. It states neither the steps nor the learning rate.
_CIFAR10 = {
    "data": "cifar-10-batches-bin", "bits": 8, "channels": 129, "num_layers": 12,
    "first_kernel_size": 7, "output_channels": 1023, "optimizer": "rmsprop", "batch_size": 16,
    "learning_rate": 1e-4, "steps": 200_000, "ema_decay": 0.0,
}  # fmt: skip

_PRESETS: dict[str, dict[str, Any]] = {
    "vandenoord2016-cifar10-row": {**_CIFAR10, "model": "row_lstm", "kernel_size": 3},
    "vandenoord2016-cifar10-diagonal": {**_CIFAR10, "model": "diagonal_bilstm"},
}

_USED_BY: dict[str, UsedBy] = {
    "kernel_size": used_by(model=("row_lstm",)),
    "factor": used_by(model=("multiscale",)),
}


@dataclass(kw_only=True)
class PixelRNNRecipe(AutoregressiveRecipe):
    """Autoregressive model of images: PixelRNN, of row LSTMs, of diagonal ones or of two scales.

    The defaults take a few minutes on digits, with two CPU cores. The presets have the sizes and
    the optimiser of their source; where the folder of CIFAR-10 has another name than theirs, give
    it with --data.
    """

    presets = _PRESETS
    used_by = _USED_BY

    model: Literal["row_lstm", "diagonal_bilstm", "multiscale"] = "diagonal_bilstm"
    """The network: LSTMs that see a triangle of the pixels above, diagonal LSTMs that see all
    earlier pixels, or these on a small image and then on the whole one given it."""

    channels: int = 24
    """Width of the LSTMs; with several colours a multiple of their number."""

    num_layers: int = 2
    """LSTM layers; of multiscale, of each scale."""

    kernel_size: int = 3
    """Columns of the row above that a row LSTM sees, odd."""

    first_kernel_size: int = 7
    """Side of the first convolution, odd."""

    output_channels: int | None = None
    """Width before the last convolution; without it twice the channels."""

    factor: int = 2
    """Pixels from one of the small image to the next, in the image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("channels", "num_layers", "kernel_size", "first_kernel_size", "factor")
        if self.output_channels is not None:
            self.check_positive("output_channels")
        if self.class_conditional and self.model == "multiscale":
            raise ValueError("PixelRNNRecipe: the model multiscale is not class_conditional")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "PixelRNNExperiment":
        from gencore.recipes.autoregressive.pixelrnn_experiment import PixelRNNExperiment

        return PixelRNNExperiment(self, fabric, dataset)
