"""The short-run energy-based model on images (Yan 2022, §2.4.6)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.ebm.ebm_experiment import EBMExperiment

__all__ = ["EBMRecipe"]

# Yan 2022, §2.4.7. The MNIST settings are also those for Fashion-MNIST. The text does not say
# whether its step size 0.1 multiplies the gradient or twice that; it is taken to multiply it.
_IMAGES: dict[str, dict[str, Any]] = {
    "mnist": {
        "data": "mnist", "image_size": 32, "network": "mnist", "chain_steps": 40, "steps": 8000,
    },
    "cifar10": {
        "data": "cifar-10-batches-bin", "image_size": 32, "network": "cifar10", "chain_steps": 60,
        "steps": 40_000,
    },
    "celeba": {
        "data": "celeba", "image_size": 64, "network": "celeba", "chain_steps": 60, "steps": 30_000,
    },
}  # fmt: skip
_SHARED = {"batch_size": 64, "step_size": 0.1, "learning_rate": 5e-4}
# The rows of Table 2.3: noise-free chains, noisy ones, and the generator loss (the best samples).
_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "-noisy": {"noise_scale": 0.1},
    "-generator": {"generator_weight": 1.0},
}
_YAN_2022 = {
    f"yan2022-{images}{variant}": {**_IMAGES[images], **_SHARED, **_VARIANTS[variant]}
    for images in _IMAGES
    for variant in _VARIANTS
}


@dataclass(kw_only=True)
class EBMRecipe(ImageRecipe, OptimisedRecipe):
    """Energy-based model: a convolutional energy trained on short, non-persistent chains.

    The defaults give readable digits in 600 steps, a few minutes on two CPU cores. The presets have
    the settings that Yan 2022 states, for 5,000 of the 60,000 images of MNIST; where the folders of
    CIFAR-10 and CelebA have other names than theirs, give them with --data.
    """

    presets = _YAN_2022

    steps: int = 600
    """Optimisation steps of the whole run."""

    batch_size: int = 128
    """Images, and chains, in one step, over all devices together."""

    network: Literal["auto", "digits", "mnist", "cifar10", "celeba"] = "auto"
    """Widths of the energy network, by the data they were chosen for; "auto" goes by image size."""

    spectral_norm: bool = False
    """Bound the Lipschitz constant of every layer of the energy network by 1."""

    chain_steps: int = 40
    """Steps of the sampler from noise to image, in training and in use."""

    step_size: float = 0.05
    """Factor of the energy's gradient in a step of the sampler, for pixels in [-1, 1]."""

    noise_scale: float = 0.0
    """Standard deviation of the noise in a step of the sampler; 0 is gradient descent."""

    grad_clamp: float | None = None
    """Bound on each element of the gradient that moves the chains."""

    data_noise: float = 0.03
    """Standard deviation of noise that hides the grey levels' steps, for pixels in [-1, 1]."""

    generator_weight: float = 0.0
    """Weight of the generator loss, which differentiates through all steps of the sampler. With
    weights near 1 lower the learning rate, and use an energy_penalty of 0.01."""

    energy_penalty: float = 0.0
    """Weight of the squared energies, which keeps them from drifting."""

    buffer_size: int = 0
    """Chains in a replay buffer; 0 starts every chain from noise."""

    reinit_fraction: float = 0.05
    """Fraction of the replay buffer's chains that restart from noise."""

    learning_rate: float = 2e-3
    """Learning rate of Adam."""

    beta1: float = 0.5
    """Decay of Adam's average of gradients; a short memory suits a moving target."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws the samples; without it the weights do."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of data and samples differ by more."""

    tunable = frozenset({
        "chain_steps", "step_size", "noise_scale", "grad_clamp", "data_noise", "generator_weight",
        "energy_penalty", "reinit_fraction", "learning_rate", "beta1", "max_grad_norm", "ema_decay",
        "max_gap",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("chain_steps", "step_size", "max_gap")
        self.check_not_negative("noise_scale", "data_noise", "generator_weight", "energy_penalty")
        self.check_fraction("beta1", "reinit_fraction")
        if self.spectral_norm and self.accumulate > 1:
            raise ValueError(
                f"EBMRecipe: accumulate is {self.accumulate}, but with spectral_norm each part "
                "of a batch would see an energy of its own"
            )
        if self.buffer_size != 0 and self.buffer_size < self.batch_size:
            raise ValueError(
                f"EBMRecipe: buffer_size is {self.buffer_size}; expected 0, or at least the "
                f"{self.batch_size} chains of a step (batch_size)"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "EBMExperiment":
        from gencore.recipes.ebm.ebm_experiment import EBMExperiment

        return EBMExperiment(self, fabric, dataset)
