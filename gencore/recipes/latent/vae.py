"""Variational autoencoders of images, with fully connected networks (Yan 2022, §2.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.choices import check_choice
from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.latent.vae_experiment import VAEExperiment

__all__ = ["EstimatorName", "ObjectiveName", "PixelsName", "VAERecipe"]

EstimatorName = Literal["reparametrised", "path", "score", "doubly_reparametrised"]
ObjectiveName = Literal["elbo", "iwae", "vlo"]
PixelsName = Literal["bernoulli", "gaussian", "categorical", "logistic"]

# Yan 2022, §2.1.8: 200 epochs of 60,000 images in batches of 200; dimensions of Table 2.1. There
# the learning rate is halved after 100 epochs, here it falls along a cosine.
_YAN_2022: dict[str, dict[str, Any]] = {
    f"yan2022-mnist-{size}": {
        "data": "mnist", "latent_size": size, "hidden_widths": (512, 512), "batch_size": 200,
        "steps": 60_000, "learning_rate": 1e-3, "schedule": "cosine", "pixels": "bernoulli",
    }
    for size in (10, 20, 40, 64)
}  # fmt: skip

# The estimators of the gradient of each objective.
_ESTIMATORS: dict[str, tuple[EstimatorName, ...]] = {
    "elbo": ("reparametrised", "path", "score"),
    "iwae": ("reparametrised", "doubly_reparametrised"),
    "vlo": ("reparametrised",),
}

_LOSS = used_by(objective=("elbo",), estimator=("reparametrised",))
_VLO = used_by(objective=("vlo",))
_ENCODER = used_by(objective=("elbo", "iwae"))
_USED_BY: dict[str, UsedBy] = {
    "kl_weight": _LOSS, "recon_weight": _LOSS,
    "free_bits": used_by(
        objective=("elbo",), estimator=("reparametrised",), prior=("normal",),
        posterior=("gaussian",),
    ),
    "upper_latents": used_by(
        objective=("elbo", "iwae"), estimator=("reparametrised",), prior=("normal",),
        posterior=("gaussian",),
    ),
    "train_samples": UsedBy(
        "objective iwae, or estimator score",
        lambda fields: fields["objective"] == "iwae" or fields["estimator"] == "score",
    ),
    "estimator": _ENCODER, "prior": _ENCODER, "posterior": _ENCODER,
    "inner_steps": _VLO, "latent_learning_rate": _VLO, "inference_steps": _VLO,
    "learn_scale": used_by(pixels=("gaussian",)), "scale": used_by(pixels=("gaussian",)),
}  # fmt: skip


@dataclass(kw_only=True)
class VAERecipe(ImageRecipe, OptimisedRecipe):
    """Variational autoencoder of images, trained on one sample's bound or on several samples'.

    The defaults take half a minute on digits, with two CPU cores. The presets have what Yan 2022
    states of its VAEs on MNIST; 5,000 of the 60,000 images come with gencore.
    """

    presets = _YAN_2022
    used_by = _USED_BY

    steps: int = 2000
    """Optimisation steps."""

    batch_size: int = 128
    """Images in one step, over all devices together."""

    objective: ObjectiveName = "elbo"
    """What is maximised: the bound of one sample (elbo), the importance-weighted bound (iwae), or
    the bound in the posterior of each training image by itself, without an encoder (vlo)."""

    estimator: EstimatorName = "reparametrised"
    """Of the gradient by the encoder: reparametrised; with elbo also the path alone, or the score
    with the other train_samples of an image as its baseline; with iwae doubly_reparametrised."""

    train_samples: int = 10
    """Latents of an image in the importance-weighted bound, or with the estimator score."""

    latent_size: int = 8
    """Latents of an image."""

    upper_latents: tuple[int, ...] = ()
    """Latents of an image in each level above those, the top first: a hierarchy, drawn from the
    top down."""

    hidden_widths: tuple[int, ...] = (256, 256)
    """Units in each hidden layer of the encoder, and backwards of the decoder."""

    pixels: PixelsName = "bernoulli"
    """Distribution of pixels around what is decoded: bernoulli and gaussian of values in [0, 1],
    categorical and logistic of their 256 levels."""

    scale: float = 1.0
    """Standard deviation of pixels, or where it starts."""

    learn_scale: bool = False
    """Learn the standard deviation of pixels."""

    prior: Literal["normal", "flow"] = "normal"
    """Density of latents: a standard normal one, or a flow's of four couplings."""

    posterior: Literal["gaussian", "iaf"] = "gaussian"
    """Posterior of an image's latents: a diagonal Gaussian, or what two inverse autoregressive
    steps make of one."""

    kl_weight: float = 1.0
    """Weight of the KL divergence in the loss."""

    recon_weight: float = 1.0
    """Weight of the reconstruction in the loss."""

    free_bits: float = 0.0
    """Nats of KL divergence of a latent, or of a level of a hierarchy, on average over the images
    that one process computes at once, below which it is not pressed further."""

    bound_samples: int = 1000
    """Latents of an image in the bound that evaluate reports beside that of one."""

    inner_steps: int = 5
    """Steps of Adam on the posteriors of a batch before each of the decoder."""

    latent_learning_rate: float = 0.1
    """Learning rate of Adam on means and logarithms of standard deviations of posteriors, after the
    warm-up; in training it follows the schedule."""

    inference_steps: int = 200
    """Steps that find the posterior of a test image."""

    learning_rate: float = 1e-3
    """Learning rate of Adam, after the warm-up."""

    tunable = frozenset({
        "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "kl_weight", "recon_weight",
        "free_bits", "bound_samples", "latent_learning_rate", "inference_steps",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"{type(self).__name__} with objective {self.objective}"
        check_choice(owner, "estimator", self.estimator, _ESTIMATORS[self.objective])
        self.check_positive(
            "train_samples",
            "latent_size",
            "scale",
            "bound_samples",
            "latent_learning_rate",
            "inference_steps",
        )
        self.check_not_negative("kl_weight", "recon_weight", "free_bits", "inner_steps")
        if any(size < 1 for size in self.upper_latents):
            raise ValueError(
                f"{type(self).__name__}: upper_latents is {self.upper_latents}; expected positive "
                "numbers"
            )
        if self.estimator == "score" and self.train_samples < 2:
            raise ValueError(
                f"{type(self).__name__}: train_samples is {self.train_samples}; expected 2 or more "
                "with estimator score"
            )
        if not self.hidden_widths or any(width < 1 for width in self.hidden_widths):
            raise ValueError(
                f"{type(self).__name__}: hidden_widths is {self.hidden_widths}; expected one "
                "positive number or more"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "VAEExperiment":
        from gencore.recipes.latent.vae_experiment import VAEExperiment

        return VAEExperiment(self, fabric, dataset)
