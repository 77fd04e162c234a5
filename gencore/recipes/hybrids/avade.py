"""Adaptive density estimation: autoencoders with a flow, an adversary, both or neither."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.models.hybrids.names import ADE_MODELS, ADEModel, ADEModelName
from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.hybrids.avade_experiment import AVADEExperiment

__all__ = ["AVADERecipe"]

# Lucas 2020, §A.2, with the images of table 5.1. The text gives neither steps, widths of the
# networks nor of the flow; the widths are those of the plain networks of Miyato et al. 2018, whose
# GAN also has 128 latents, and of table A.1. Hierarchies of latents are left out.
_LUCAS_2020: dict[str, Any] = {
    "data": "cifar-10-batches-bin", "image_size": 32, "batch_size": 64, "steps": 100_000,
    "learning_rate": 0.002, "discriminator_learning_rate": 0.002, "latent_size": 128,
    "blocks": "plain", "widths": (64, 128, 256, 512), "discriminator_blocks": "plain",
    "discriminator_widths": (64, 128, 256, 512), "adversarial_weight": 100.0,
    "coverage_steps": 0, "gradient_penalty": 100.0, "discriminator_steps": 1, "num_scales": 1,
    "num_couplings": 3, "num_blocks": 2, "flow_channels": 32, "batch_norm": True,
}  # fmt: skip
_RESIDUAL: dict[str, Any] = {
    "blocks": "residual", "widths": (32, 64, 128, 256), "discriminator_blocks": "residual",
    "discriminator_widths": (32, 64, 128, 256),
}  # fmt: skip
# Of table 5.2, and of figure 5.12, whose models are trained by likelihood first.
_REFINEMENTS: dict[str, dict[str, Any]] = {
    "-rd": _RESIDUAL,
    "-wg-rd": {**_RESIDUAL, "widths": (64, 128, 256, 512)},
    "-s2": {"num_scales": 2, "coverage_steps": 50_000},
    "-s2-b4": {"num_scales": 2, "num_blocks": 4, "coverage_steps": 50_000},
    "-s3-b3": {"num_scales": 3, "num_blocks": 3, "coverage_steps": 50_000},
}


def _preset(model: ADEModelName, **fields: Any) -> dict[str, Any]:
    """The settings that the model uses."""
    settings = {"model": model, **_LUCAS_2020, **fields}
    return {
        name: value
        for name, value in settings.items()
        if name not in _USED_BY or _USED_BY[name].holds(settings)
    }


def _models(**uses: bool) -> tuple[ADEModelName, ...]:
    """The models that have these."""
    return tuple(
        name
        for name, model in ADE_MODELS.items()
        if all(getattr(model, use) == value for use, value in uses.items())
    )


_ADVERSARIAL = used_by(model=_models(adversarial=True))
_FEATURES = used_by(model=_models(features=True))
_COVERAGE = used_by(model=_models(coverage=True))
_HYBRID = used_by(model=_models(adversarial=True, coverage=True))
_USED_BY: dict[str, UsedBy] = {
    "discriminator_blocks": _ADVERSARIAL, "discriminator_widths": _ADVERSARIAL,
    "discriminator_learning_rate": _ADVERSARIAL, "discriminator_steps": _ADVERSARIAL,
    "gradient_penalty": _ADVERSARIAL, "adversarial_weight": _HYBRID, "sample_noise": _HYBRID,
    "coverage_steps": _HYBRID, "train_features": used_by(model=("avade",)),
    "num_scales": _FEATURES, "num_couplings": _FEATURES, "num_blocks": _FEATURES,
    "flow_channels": _FEATURES, "batch_norm": _FEATURES, "encoder_input": _FEATURES,
}  # fmt: skip

_PRESETS = {
    **{f"lucas2020-{model}-cifar10": _preset(model) for model in ADE_MODELS},
    **{
        f"lucas2020-avade{name}-cifar10": _preset("avade", **fields)
        for name, fields in _REFINEMENTS.items()
    },
}


@dataclass(kw_only=True)
class AVADERecipe(ImageRecipe, OptimisedRecipe):
    """Adaptive density estimation: a VAE behind a flow, with an adversary, and its ablations.

    The defaults take a few minutes on digits, with two CPU cores. The presets have the settings
    that Lucas 2020 states, for CIFAR-10.
    """

    presets = _PRESETS
    used_by = _USED_BY

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images, and samples, in one step, over all devices together."""

    model: ADEModelName = "avade"
    """What is trained: "avade", a VAE behind a flow, by likelihood and an adversary; "vade", by
    likelihood alone; "avgde" and "vae", the same two without the flow; "gan", the decoder by the
    adversary alone."""

    latent_size: int = 16
    """Latents of an image."""

    blocks: Literal["plain", "residual"] = "plain"
    """Encoder and decoder: plain convolutions, or residual blocks."""

    widths: tuple[int, ...] = ()
    """Channels of encoder and decoder at each scale, the finest first; each further one halves the
    sides. Without them the image's size decides."""

    discriminator_blocks: Literal["plain", "residual"] = "plain"
    """The discriminator: plain convolutions, or residual blocks."""

    discriminator_widths: tuple[int, ...] = ()
    """Channels of the discriminator at each scale, likewise."""

    num_scales: int = 1
    """Scales of the flow."""

    num_couplings: int = 3
    """Couplings of the flow's last scale; each further one has six."""

    num_blocks: int = 2
    """Residual blocks of each of the flow's networks."""

    flow_channels: int = 16
    """Width of the flow's networks; doubled at each further scale."""

    batch_norm: bool = False
    """Normalise over the batch in the flow's networks; samples then take running averages."""

    encoder_input: Literal["features", "data"] = "features"
    """What the encoder sees: the flow's features, or the image."""

    adversarial_weight: float = 3.0
    """Weight of the adversary's loss beside the negative log-likelihood of an image in nats: 3 is
    for digits of 64 numbers, and Lucas 2020 has 100 for 3,072."""

    gradient_penalty: float = 100.0
    """Weight of the penalty on the discriminator's slope."""

    discriminator_steps: int = 1
    """Steps of the discriminator in one of the generator."""

    coverage_steps: int = 400
    """First steps, by likelihood alone; fewer than steps, as the adversary comes after them."""

    sample_noise: bool = False
    """Show the discriminator samples with the noise of the decoder's Gaussian, and not its mean."""

    train_features: bool = False
    """Train the flow by the adversary, too, and not by likelihood alone."""

    learning_rate: float = 0.002
    """Learning rate of Adamax, after the warm-up."""

    discriminator_learning_rate: float = 0.002
    """Learning rate of Adamax for the discriminator."""

    noisy_samples: bool = False
    """Draw samples with the noise of the decoder's Gaussian, and not its mean. Without coverage
    there is none."""

    importance_samples: int = 50
    """Latents an image of the importance-weighted bound among the measures."""

    encoder_steps: int = 1000
    """Steps that the measures of a GAN train an encoder and a noise level around it."""

    changeable = frozenset({
        "steps", "show_data", "noisy_samples", "importance_samples", "encoder_steps",
    })  # fmt: skip
    tunable = frozenset({
        "learning_rate", "discriminator_learning_rate", "warmup_steps", "max_grad_norm",
        "ema_decay", "adversarial_weight", "gradient_penalty", "discriminator_steps",
        "coverage_steps", "sample_noise", "train_features",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "latent_size", "num_scales", "num_couplings", "num_blocks", "flow_channels",
            "discriminator_steps", "discriminator_learning_rate", "importance_samples",
            "encoder_steps",
        )  # fmt: skip
        self.check_not_negative("adversarial_weight", "gradient_penalty", "coverage_steps")
        for name in ("widths", "discriminator_widths"):
            widths = getattr(self, name)
            if widths and min(widths) < 1:
                raise ValueError(f"AVADERecipe: {name} is {widths}; expected positive numbers")
        if self.batch_norm and self.accumulate > 1:
            raise ValueError(
                f"AVADERecipe: accumulate is {self.accumulate}, but batch_norm normalises over a "
                "batch, which its parts are not"
            )

    @property
    def parts(self) -> ADEModel:
        """What the model has."""
        return ADE_MODELS[self.model]

    @property
    def likelihood_steps(self) -> int:
        """Steps at first without the adversary, of a model that has both criteria."""
        return self.coverage_steps if self.parts.coverage and self.parts.adversarial else 0

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "AVADEExperiment":
        from gencore.recipes.hybrids.avade_experiment import AVADEExperiment

        return AVADEExperiment(self, fabric, dataset)
