"""Images from coarse to fine, by a generator and an adversary a level (Denton et al. 2015)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.recipes.adversarial.adversarial import (
    ADVERSARIAL_USES,
    SCORES,
    TRAINED,
    TUNABLE,
    AdversarialRecipe,
)
from gencore.train import ImageRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.adversarial.lapgan_experiment import LAPGANExperiment
    from gencore.train import BatchSource

__all__ = ["LAPGANRecipe"]

_PRESETS: dict[str, dict[str, Any]] = {
    "mnist": {"latent_size": 64, "learning_rate": 5e-4, "discriminator_learning_rate": 5e-4,
              "ema_decay": 0.99, "steps": 1000},
    # Denton et al. 2015, §4, but for the networks of the bands, classes and a falling rate.
    "denton2015-cifar10": {
        "data": "cifar-10-batches-bin", "latent_size": 100, "generator_widths": (1200, 1200),
        "discriminator_widths": (600, 600), "dropout": 0.5, "batch_norm": False,
        "optimizer": "sgd", "discriminator_optimizer": "sgd", "learning_rate": 0.02,
        "discriminator_learning_rate": 0.02, "batch_size": 128, "steps": 100_000,
    },
}  # fmt: skip

_USED_BY: dict[str, UsedBy] = {
    **ADVERSARIAL_USES,
    # There is no Metropolis-Hastings GAN of a pyramid.
    "dropout": used_by(method=(*SCORES, "ebgan", "mixup")),
    "discriminator_widths": used_by(method=TRAINED),
    "num_proposals": UsedBy("the recipes gan and toygan", lambda _: False),
    "discriminator_ema_decay": UsedBy("the recipes gan and toygan", lambda _: False),
}


@dataclass(kw_only=True)
class LAPGANRecipe(AdversarialRecipe, ImageRecipe):
    """Generators of a Laplacian pyramid: a small image, and the bands that sharpen it.

    Each level is a game of its own with the same method. Generators but the coarsest are given real
    images of half the size. The players of the small image are fully connected, and the others
    convolutions. The defaults take a few minutes on MNIST, with two CPU cores.
    """

    presets = _PRESETS
    used_by = _USED_BY

    data: str = "mnist"
    """Images: a name such as "mnist" or "photographs", or the path of a folder, an array or shards
    (see gencore list). Their sides have to be multiples of 2^num_bands."""

    steps: int = 1500
    """Steps of the generator of each level in the whole run."""

    num_bands: int = 2
    """Levels that double the sides; that of the small image comes before them."""

    latent_size: int = 32
    """Numbers of normal noise for the small image; a band has a plane of noise of its size."""

    batch_size: int = 32
    """Images, and samples, in one step of either player of a level, over all devices together."""

    generator_widths: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the generator of the small image."""

    discriminator_widths: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the discriminator of the small image; with ebgan of encoder
    and decoder together."""

    dropout: float = 0.0
    """Part of the hidden units that the discriminator of the small image drops in training."""

    batch_norm: bool = True
    """Normalise over the batch in the generator of the small image."""

    band_width: int = 16
    """Channels of both hidden layers of a generator of bands, with filters of 5x5."""

    width: int = 32
    """Channels of the finest hidden maps of the other discriminators; they double with each coarser
    scale."""

    changeable = frozenset({"steps", "show_data"})
    tunable = TUNABLE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_bands", "width", "band_width")
        self.check_widths("generator_widths", "discriminator_widths")
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"LAPGANRecipe: dropout is {self.dropout}; expected at least 0 and less than 1"
            )
        if self.accumulate > 1 and self.batch_norm:
            raise ValueError(
                f"LAPGANRecipe: accumulate is {self.accumulate}, but batch_norm normalises over a "
                "batch, which its parts are not"
            )

    def batches(self, fabric: "Fabric", dataset: "ImageDataset") -> "BatchSource":
        return self.grouped(fabric, super().batches(fabric, dataset))

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "LAPGANExperiment":
        from gencore.recipes.adversarial.lapgan_experiment import LAPGANExperiment

        return LAPGANExperiment(self, fabric, dataset)
