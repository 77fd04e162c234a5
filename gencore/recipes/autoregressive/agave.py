"""AGAVE and what it is compared with: autoregressive decoders, with latents and without."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.levels import LevelsRecipe
from gencore.train import OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.autoregressive.agave_experiment import AGAVEExperiment

__all__ = ["AGAVERecipe"]

# Lucas 2020, §3.4. The text gives neither batch size, steps, depth nor latents; the pixelCNN is
# that of its reference. λ = 12 is that of table 3.1, λ = 8 that of figure 3.8, which has the
# colours; of the other auxiliary images it is not given, and taken to be 12.
_LUCAS_2020: dict[str, Any] = {
    "data": "cifar-10-batches-bin", "image_size": 32, "bits": 8, "kl_weight": 12.0,
    "iaf_steps": 1, "latent_size": 256, "vae_channels": 128, "vae_scales": 3,
    "channels": 160, "num_resnets": 5, "num_scales": 3, "num_components": 10, "dropout": 0.5,
    "batch_size": 64, "steps": 400_000, "pretrain_steps": 100_000,
}  # fmt: skip
_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-32-colours": {"target_bins": 32, "kl_weight": 8.0},
    "-16x16": {"target": "small", "target_factor": 2},
    "-8x8": {"target": "small", "target_factor": 4},
    "-grey": {"target": "grey", "target_bins": 16},
    "-drop": {"steps": 402_000, "auxiliary_drop_step": 400_000},
}
_PRESETS = {
    f"lucas2020{variant}": {**_LUCAS_2020, **fields} for variant, fields in _VARIANTS.items()
}

_RESTRICTED = ("naive", "shallow", "grey")
_WITH_LATENTS = used_by(model=("agave", "vae", *_RESTRICTED))
_TARGET_MODELS = ("agave", *_RESTRICTED, "auxiliary-pixelcnn")
_WITH_PIXELS = used_by(model=("agave", "pixelcnn", *_RESTRICTED, "auxiliary-pixelcnn"))
_PLUS_PLUS = used_by(model=("agave", "pixelcnn", "naive", "grey", "auxiliary-pixelcnn"))
_AGAVE = used_by(model=("agave",))
_USED_BY: dict[str, UsedBy] = {
    "target": used_by(model=_TARGET_MODELS), "target_bins": used_by(model=_TARGET_MODELS),
    "target_factor": used_by(target=("small",), model=_TARGET_MODELS),
    "kl_weight": _AGAVE, "auxiliary_drop_step": _AGAVE, "pretrain_steps": _AGAVE,
    "latent_size": _WITH_LATENTS, "iaf_steps": _WITH_LATENTS, "vae_channels": _WITH_LATENTS,
    "vae_scales": _WITH_LATENTS,
    "channels": _WITH_PIXELS, "num_resnets": _WITH_PIXELS, "num_components": _WITH_PIXELS,
    "num_scales": _PLUS_PLUS, "dropout": _PLUS_PLUS,
}  # fmt: skip


@dataclass(kw_only=True)
class AGAVERecipe(LevelsRecipe, OptimisedRecipe):
    """AGAVE, an autoregressive decoder of latents that an auxiliary image keeps meaningful.

    The defaults take a few minutes on digits, with two CPU cores. The presets have what Lucas 2020
    states.
    """

    presets = _PRESETS
    used_by = _USED_BY

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images in one step, over all devices together."""

    model: Literal["agave", "vae", "pixelcnn", "naive", "shallow", "grey", "auxiliary-pixelcnn"] = (
        "agave"
    )
    """What is trained: AGAVE; the plain VAE, or the plain pixelCNN; a VAE whose decoder is the
    pixelCNN, with no auxiliary image, plain ("naive"), with a small receptive field ("shallow"), or
    with sight of the luma of earlier pixels alone ("grey"); or a pixelCNN of the auxiliary image
    and one of the image given it."""

    bits: int = 4
    """Bits of a level, 1 to 8: images are quantised to their highest bits, and bits per dimension
    are those of the quantised ones."""

    target: Literal["full", "small", "grey"] = "full"
    """The auxiliary image: the image itself, a smaller one, or one of luma."""

    target_bins: int | None = None
    """Values of a pixel of the auxiliary image, a divisor of the levels; without it all levels. A
    smaller image has all."""

    target_factor: int = 2
    """How many times smaller the sides of a smaller auxiliary image are."""

    kl_weight: float = 2.0
    """Weight λ of the KL divergence in the objective; the models without an auxiliary image, and
    the plain VAE, have 1."""

    auxiliary_drop_step: int | None = None
    """Step from which on there is no auxiliary term, and λ is 1."""

    pretrain_steps: int = 0
    """Steps of AGAVE in which the VAE and the pixelCNN, which sees an empty map, are trained apart
    from each other."""

    latent_size: int = 16
    """Latents of an image."""

    iaf_steps: int = 0
    """Inverse autoregressive steps that make the Gaussian posterior flexible."""

    vae_channels: int = 32
    """Channels of the VAE's encoder and decoder."""

    vae_scales: int = 2
    """Times that the VAE's encoder halves the sides."""

    channels: int = 24
    """Channels of the pixelCNN, which is a PixelCNN++."""

    num_resnets: int = 2
    """The pixelCNN's blocks of each resolution and way; of the shallow one, its layers."""

    num_scales: int = 1
    """The pixelCNN's resolutions."""

    num_components: int = 5
    """Logistics in the pixelCNN's mixture."""

    dropout: float = 0.0
    """Probability of dropout in the pixelCNN's blocks."""

    learning_rate: float = 0.002
    """Learning rate of Adamax, after the warm-up."""

    method: Literal["incremental", "naive"] = "incremental"
    """How pixels are drawn: by the features of the new pixel, or by the whole network for each. The
    grey model has the second alone, whatever is named here."""

    importance_samples: int = 150
    """Latents an image of the importance-weighted bound among the measures; 0 leaves it out."""

    changeable = frozenset({"steps", "show_data", "method", "importance_samples"})
    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "target_factor", "latent_size", "vae_channels", "channels", "num_resnets",
            "num_scales", "num_components",
        )  # fmt: skip
        self.check_not_negative(
            "kl_weight", "pretrain_steps", "iaf_steps", "vae_scales", "importance_samples"
        )
        bins = self.target_bins
        if bins is not None and (bins < 2 or self.levels % bins):
            raise ValueError(
                f"AGAVERecipe: target_bins is {bins}; expected a divisor of the {self.levels} "
                "levels, at least 2"
            )
        if self.target == "small" and bins not in (None, self.levels):
            raise ValueError(
                f"AGAVERecipe: target_bins is {bins}, but a smaller auxiliary image has all levels"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"AGAVERecipe: dropout is {self.dropout}; expected 0 to below 1")
        if self.auxiliary_drop_step is not None:
            self.check_positive("auxiliary_drop_step")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "AGAVEExperiment":
        from gencore.recipes.autoregressive.agave_experiment import AGAVEExperiment

        return AGAVEExperiment(self, fabric, dataset)
