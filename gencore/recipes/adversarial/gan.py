"""Generators of images and their adversaries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.recipes.adversarial.adversarial import ADVERSARIAL_USES, AdversarialRecipe
from gencore.train import ImageRecipe, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.adversarial.gan_experiment import GANExperiment
    from gencore.train import BatchSource

__all__ = ["GANRecipe"]

_SMALL: dict[str, Any] = {"data": "mnist", "width": 32, "latent_size": 64, "batch_size": 64}
_PRESETS: dict[str, dict[str, Any]] = {
    # Radford et al. 2016, §4: the discriminator normalises too.
    "dcgan-mnist": {**_SMALL, "discriminator_batch_norm": True, "learning_rate": 2e-4,
                    "discriminator_learning_rate": 2e-4},
    # Gulrajani et al. 2017, Algorithm 1.
    "wgan-gp-mnist": {**_SMALL, "method": "wgan", "gradient_penalty": 10.0, "momentum": 0.0,
                      "discriminator_steps": 5, "learning_rate": 1e-4,
                      "discriminator_learning_rate": 1e-4},
    "ebgan-mnist": {**_SMALL, "method": "ebgan", "margin": 10.0},
    "ebgan-pt-mnist": {**_SMALL, "method": "ebgan", "margin": 10.0, "pulling_away": 0.1},
    "mbgan-mnist": {**_SMALL, "method": "mbgan", "group_size": 16, "learning_rate": 2e-4,
                    "discriminator_learning_rate": 2e-4},
    # Miyato and Koyama 2018, with the generator of Lucas 2020, §5.6.1.
    "conditional-mnist": {**_SMALL, "method": "hinge", "class_conditional": True,
                          "spectral_norm": True, "learning_rate": 2e-4,
                          "discriminator_learning_rate": 2e-4},
}  # fmt: skip


@dataclass(kw_only=True)
class GANRecipe(AdversarialRecipe, ImageRecipe):
    """Generators of images, by adversaries of images, of batches, or distances.

    The networks are those of DCGAN, with an auto-encoder for ebgan and equivariant convolutions for
    bgan and mbgan. The defaults take two minutes on digits, with two CPU cores.
    """

    presets = _PRESETS
    used_by = {  # noqa: RUF012 - a class variable of the base class
        **ADVERSARIAL_USES,
        "batch_norm": used_by(class_conditional=(False,)),
        "class_conditional": used_by(method=("gan", "hinge", "least-squares", "wgan", "f-gan")),
        "discriminator_batch_norm": used_by(
            method=("gan", "hinge", "least-squares", "f-gan", "mixup", "ebgan")
        ),
    }

    steps: int = 2000
    """Steps of the generator in the whole run."""

    latent_size: int = 32
    """Numbers of normal noise that the generator gets."""

    batch_size: int = 64
    """Images, and samples, in one step of either player, over all devices together."""

    width: int = 32
    """Channels of the finest hidden maps of both networks; they double with each coarser scale."""

    batch_norm: bool = True
    """Normalise over the batch in the generator; one of classes has weight norms instead."""

    discriminator_batch_norm: bool = False
    """Normalise over the batch in the discriminator."""

    class_conditional: bool = False
    """Make images of given classes, by conditional weight norms in the generator and a projection
    in the discriminator; the data need labels."""

    changeable = frozenset({"steps", "show_data"})
    tunable = frozenset({
        "learning_rate", "discriminator_learning_rate", "warmup_steps", "max_grad_norm",
        "ema_decay", "gradient_penalty", "pulling_away", "smoothing",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("width")
        generator_batch_norm = self.batch_norm and not self.class_conditional
        if self.accumulate > 1 and (generator_batch_norm or self.discriminator_batch_norm):
            raise ValueError(
                f"GANRecipe: accumulate is {self.accumulate}, but batch_norm normalises over a "
                "batch, which its parts are not"
            )
        if self.gradient_penalty and self.discriminator_batch_norm:
            raise ValueError(
                f"GANRecipe: gradient_penalty is {self.gradient_penalty} with "
                "discriminator_batch_norm, where the slope of one image depends on the others; "
                "expected one of the two"
            )

    def batches(self, fabric: "Fabric", dataset: "ImageDataset") -> "BatchSource":
        return self.grouped(fabric, super().batches(fabric, dataset))

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "GANExperiment":
        from gencore.recipes.adversarial.gan_experiment import GANExperiment

        return GANExperiment(self, fabric, dataset)
