"""Generators of images and their adversaries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
    from gencore.recipes.adversarial.gan_experiment import GANExperiment
    from gencore.train import BatchSource

__all__ = ["GANRecipe"]

_SMALL: dict[str, Any] = {"data": "mnist", "width": 32, "latent_size": 64, "batch_size": 64}
_PERCEPTRONS: dict[str, Any] = {"data": "mnist", "networks": "mlp", "latent_size": 100,
                                "batch_size": 64, "discriminator_widths": (1024,)}  # fmt: skip
# The margin is above the energies of data, 30 to 50, and the pulling-away term of their size.
_ENERGIES: dict[str, Any] = {**_PERCEPTRONS, "generator_widths": (800,) * 4, "method": "ebgan",
                             "margin": 60.0, "learning_rate": 2e-4,
                             "discriminator_learning_rate": 2e-4}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    # Radford et al. 2016, §4: the discriminator normalises too.
    "dcgan-mnist": {**_SMALL, "discriminator_batch_norm": True, "learning_rate": 2e-4,
                    "discriminator_learning_rate": 2e-4},
    # Gulrajani et al. 2017, Algorithm 1.
    "wgan-gp-mnist": {**_SMALL, "method": "wgan", "gradient_penalty": 10.0, "momentum": 0.0,
                      "discriminator_steps": 5, "learning_rate": 1e-4,
                      "discriminator_learning_rate": 1e-4},
    "ebgan-mnist": _ENERGIES,
    "ebgan-pt-mnist": {**_ENERGIES, "pulling_away": 20.0},
    "mbgan-mnist": {**_PERCEPTRONS, "method": "mbgan", "group_size": 16, "latent_size": 64,
                    "generator_widths": (800, 800), "discriminator_widths": (256, 256),
                    "learning_rate": 2e-4, "discriminator_learning_rate": 1e-4},
    # Miyato and Koyama 2018, with the generator of Lucas 2020, §5.6.1.
    "conditional-mnist": {**_SMALL, "method": "hinge", "class_conditional": True,
                          "spectral_norm": True, "learning_rate": 2e-4,
                          "discriminator_learning_rate": 2e-4},
    # Karras et al. 2018, appendix A.1, with narrow networks and few images in a phase.
    "progressive-mnist": {**_SMALL, "networks": "progressive", "width": 8, "phase_images": 8000,
                          "method": "wgan", "gradient_penalty": 10.0, "momentum": 0.0,
                          "batch_size": 32, "steps": 1600, "ema_decay": 0.99},
    # The best of the grid of Mathieu 2017, figure 6.4.
    "mathieu2017-gan-mnist": {**_PERCEPTRONS, "generator_widths": (1600,) * 4,
                              "optimizer": "sgd", "discriminator_optimizer": "sgd",
                              "learning_rate": 0.01, "discriminator_learning_rate": 0.01},
    "mathieu2017-ebgan-mnist": {**_PERCEPTRONS, "generator_widths": (800,) * 4,
                                "method": "ebgan", "margin": 10.0},
    "mathieu2017-ebgan-pt-mnist": {**_PERCEPTRONS, "generator_widths": (800,) * 4,
                                   "method": "ebgan", "margin": 10.0, "pulling_away": 0.1},
}  # fmt: skip


_PROPOSALS = used_by(networks=("dcgan", "mlp"), method=("gan",), class_conditional=(False,))
_USED_BY: dict[str, UsedBy] = {
    **ADVERSARIAL_USES,
    "width": used_by(networks=("dcgan", "progressive")),
    "generator_widths": used_by(networks=("mlp",)),
    "discriminator_widths": used_by(networks=("mlp",), method=TRAINED),
    "dropout": used_by(networks=("mlp",), method=(*SCORES, "ebgan", "mixup")),
    "phase_images": used_by(networks=("progressive",)),
    "minibatch_std": used_by(networks=("progressive",), method=(*SCORES, "mixup")),
    "batch_norm": used_by(networks=("dcgan", "mlp"), class_conditional=(False,)),
    "class_conditional": used_by(networks=("dcgan",), method=SCORES),
    "num_proposals": _PROPOSALS, "discriminator_ema_decay": _PROPOSALS,
    "discriminator_batch_norm": used_by(
        networks=("dcgan", "mlp"),
        method=("gan", "hinge", "least-squares", "f-gan", "mixup", "ebgan"),
    ),
}  # fmt: skip


@dataclass(kw_only=True)
class GANRecipe(AdversarialRecipe, ImageRecipe):
    """Generators of images, by adversaries of images, of batches, or distances.

    The networks are those of DCGAN or fully connected ones, with an auto-encoder for ebgan and
    equivariant layers for bgan and mbgan, or grow from coarse images to fine ones. The defaults
    take two minutes on digits, with two CPU cores.
    """

    presets = _PRESETS
    used_by = _USED_BY

    steps: int = 2000
    """Steps of the generator in the whole run."""

    latent_size: int = 32
    """Numbers of normal noise that the generator gets."""

    batch_size: int = 64
    """Images, and samples, in one step of either player, over all devices together."""

    networks: Literal["dcgan", "mlp", "progressive"] = "dcgan"
    """Networks of both players: convolutions as in DCGAN, fully connected layers, or convolutions
    that grow in training, from coarse images to the full size."""

    phase_images: int = 10_000
    """Images of data after which growing networks change: from a stable level to the fading in of
    the next one, or back. The last level has no end."""

    minibatch_std: bool = True
    """Show a growing discriminator how much the images of a batch differ."""

    generator_widths: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of a fully connected generator."""

    discriminator_widths: tuple[int, ...] = (128,)
    """Widths of the hidden layers of a fully connected discriminator. With ebgan they are those of
    encoder and decoder together, and the middle one, the later of two, is the code."""

    dropout: float = 0.0
    """Part of the hidden units that a fully connected discriminator drops in training."""

    width: int = 32
    """Channels of the finest hidden maps of both networks; they double with each coarser scale."""

    batch_norm: bool = True
    """Normalise over the batch in the generator; one of classes has weight norms instead."""

    discriminator_batch_norm: bool = False
    """Normalise over the batch in the discriminator."""

    class_conditional: bool = False
    """Make images of given classes, by conditional weight norms in the generator and a projection
    in the discriminator; the data need labels."""

    encoder_steps: int = 0
    """Steps that the measures train an encoder and a noise level around the generator, for bits per
    dimension; without any there are none."""

    importance_samples: int = 50
    """Latents an image of the importance-weighted bound of these bits."""

    changeable = frozenset({"steps", "show_data", "encoder_steps", "importance_samples"})
    tunable = TUNABLE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("width", "importance_samples", "phase_images")
        self.check_not_negative("encoder_steps")
        self.check_widths("generator_widths", "discriminator_widths")
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"GANRecipe: dropout is {self.dropout}; expected at least 0 and less than 1"
            )
        if self.class_conditional and self.encoder_steps:
            raise ValueError(
                f"GANRecipe: encoder_steps is {self.encoder_steps}, but the generator is "
                "conditional; expected 0"
            )
        grows = self.networks == "progressive"
        if grows and self.method in ("ebgan", "bgan", "mbgan"):
            raise ValueError(
                f"GANRecipe: method is {self.method}, but progressive networks have a "
                "discriminator of single images alone; expected another method"
            )
        generator_batch_norm = self.batch_norm and not (self.class_conditional or grows)
        if self.accumulate > 1 and (generator_batch_norm or self.discriminator_batch_norm):
            raise ValueError(
                f"GANRecipe: accumulate is {self.accumulate}, but batch_norm normalises over a "
                "batch, which its parts are not"
            )
        if self.accumulate > 1 and grows and self.minibatch_std:
            raise ValueError(
                f"GANRecipe: accumulate is {self.accumulate}, but minibatch_std compares the "
                "images of a whole batch"
            )
        if self.gradient_penalty and self.discriminator_batch_norm:
            raise ValueError(
                f"GANRecipe: gradient_penalty is {self.gradient_penalty} with "
                "discriminator_batch_norm, where the slope of one image depends on the others; "
                "expected one of the two"
            )

    @property
    def skips_parameters(self) -> bool:
        """Where networks grow, those of the levels to come and of what has been faded out."""
        return self.networks == "progressive"

    def batches(self, fabric: "Fabric", dataset: "ImageDataset") -> "BatchSource":
        return self.grouped(fabric, super().batches(fabric, dataset))

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "GANExperiment":
        from gencore.recipes.adversarial.gan_experiment import GANExperiment

        return GANExperiment(self, fabric, dataset)
