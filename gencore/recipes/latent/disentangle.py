"""The disentangling VAE with an adversary of swapped codes (Mathieu 2017, chapter 5)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.latent.disentangle_experiment import DisentangleExperiment

__all__ = ["DisentangleRecipe"]

# Table 5.1 a, without its batch normalisation. The text says 16 and 16 codes, the table 64 and 512;
# neither says batch, steps, weights or learning rates.
_MNIST: dict[str, Any] = {
    "data": "mnist", "image_size": 32, "widths": (16, 32, 64, 128),
    "discriminator_widths": (16, 32, 64), "specified_size": 16, "latent_size": 16,
}  # fmt: skip
_PRESETS = {
    "mathieu2017-mnist": _MNIST,
    "mathieu2017-mnist-table": {**_MNIST, "specified_size": 64, "latent_size": 512},
}


@dataclass(kw_only=True)
class DisentangleRecipe(ImageRecipe, OptimisedRecipe):
    """A VAE-GAN that tells what the label specifies of an image from all else.

    The images need labels. The defaults take two minutes on digits, with one CPU core.
    """

    presets = _PRESETS

    steps: int = 2000
    """Optimisation steps of the whole run, one of each player in each."""

    batch_size: int = 64
    """Images in one step, over all devices together; each has two partners."""

    specified_size: int = 16
    """Codes s of what the label specifies."""

    latent_size: int = 16
    """Latents z of all else."""

    widths: tuple[int, ...] = ()
    """Channels of the encoder's convolutions, the finest first, and of the decoder's; each but the
    first halves the sides. Without them the image's size decides."""

    discriminator_widths: tuple[int, ...] = ()
    """Channels of the discriminator's convolutions; each halves the sides."""

    recon_weight: float = 1.0
    """Weight of half the squared error of reconstructions."""

    swap_weight: float = 1.0
    """Weight of the same with s of another image of the same label."""

    kl_weight: float = 0.3
    """Weight of the divergence of z from its prior."""

    adversarial_weight: float = 0.2
    """Weight of what the discriminator says of images with s of another label."""

    sample_weight: float = 0.0
    """Weight of what the discriminator says of images with z from the prior."""

    learning_rate: float = 1e-3
    """Learning rate of Adam for encoder and decoder, after the warm-up."""

    discriminator_learning_rate: float = 5e-4
    """Learning rate of the discriminator's Adam."""

    tunable = frozenset({
        "learning_rate", "discriminator_learning_rate", "warmup_steps", "max_grad_norm",
        "ema_decay", "recon_weight", "swap_weight", "kl_weight", "adversarial_weight",
        "sample_weight",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("specified_size", "latent_size", "discriminator_learning_rate")
        self.check_not_negative(
            "recon_weight", "swap_weight", "kl_weight", "adversarial_weight", "sample_weight"
        )
        for name in ("widths", "discriminator_widths"):
            widths = getattr(self, name)
            if widths and min(widths) < 1:
                raise ValueError(
                    f"DisentangleRecipe: {name} is {widths}; expected positive numbers"
                )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "DisentangleExperiment":
        from gencore.recipes.latent.disentangle_experiment import DisentangleExperiment

        return DisentangleExperiment(self, fabric, dataset)
