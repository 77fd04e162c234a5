"""Images from coarse to fine, by a generator and an adversary a level (Denton et al. 2015)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.recipes.adversarial.adversarial import ADVERSARIAL_USES, TUNABLE, AdversarialRecipe
from gencore.train import ImageRecipe, UsedBy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.adversarial.lapgan_experiment import LAPGANExperiment
    from gencore.train import BatchSource

__all__ = ["LAPGANRecipe"]

_SMALL: dict[str, Any] = {"latent_size": 64, "learning_rate": 2e-4,
                          "discriminator_learning_rate": 2e-4, "ema_decay": 0.99}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    "mnist": {**_SMALL, "data": "mnist"},
    "photographs": {**_SMALL, "data": "photographs"},
}

_USED_BY: dict[str, UsedBy] = {
    **ADVERSARIAL_USES,
    # There is no Metropolis-Hastings GAN of a pyramid.
    "num_proposals": UsedBy("the recipes gan and toygan", lambda _: False),
    "discriminator_ema_decay": UsedBy("the recipes gan and toygan", lambda _: False),
}


@dataclass(kw_only=True)
class LAPGANRecipe(AdversarialRecipe, ImageRecipe):
    """Generators of a Laplacian pyramid: a small image, and the bands that sharpen it.

    Each level is a game of its own with the same method. Generators but the coarsest are given real
    images of half the size. The defaults take three minutes on MNIST, with two CPU cores.
    """

    presets = _PRESETS
    used_by = _USED_BY

    data: str = "mnist"
    """Images: a name such as "mnist" or "photographs", or the path of a folder, an array or shards
    (see gencore list). Their sides have to be multiples of 2^num_bands."""

    steps: int = 1000
    """Steps of the generator of each level in the whole run."""

    num_bands: int = 2
    """Levels that double the sides; that of the small image comes before them."""

    latent_size: int = 32
    """Numbers of normal noise for the small image; a band has a plane of noise of its size."""

    batch_size: int = 64
    """Images, and samples, in one step of either player of a level, over all devices together."""

    width: int = 32
    """Channels of the finest hidden maps of the networks of DCGAN, which are all discriminators and
    the generator of the small image; they double with each coarser scale."""

    band_width: int = 16
    """Channels of both hidden layers of a generator of bands, with filters of 5x5."""

    batch_norm: bool = True
    """Normalise over the batch in the generator of the small image."""

    changeable = frozenset({"steps", "show_data"})
    tunable = TUNABLE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_bands", "width", "band_width")
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
