"""Diffusion recovery likelihood on images (Gao 2021, §2.3.4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.diffusion.drl_experiment import DRLExperiment

__all__ = ["DRLRecipe"]

# Gao 2021, §2.3.5, names T, K and the architecture's kind; the other numbers are those of the
# authors' released program, which is that of T = 6.
_SHARED: dict[str, Any] = {
    "data_noise": 0.01, "random_flips": True, "steps": 1_000_000, "learning_rate": 1e-4,
    "warmup_steps": 1000, "schedule": "constant", "max_grad_norm": None, "ema_decay": 0.999,
    "units": "step", "step_factor": 0.01414213562373095, "noise_factor": 0.99,
    "spectral_norm": True,
}  # fmt: skip
_IMAGES: dict[str, dict[str, Any]] = {
    "cifar10": {
        "data": "cifar-10-batches-bin", "image_size": 32, "network": "gao2021-32", "num_blocks": 8,
        "batch_size": 256, "beta1": 0.9,
    },
    "celeba": {
        "data": "celeba", "image_size": 64, "network": "gao2021-64", "num_blocks": 6,
        "batch_size": 128, "beta1": 0.5,
    },
    "lsun-church64": {
        "data": "lsun-church", "image_size": 64, "network": "gao2021-64", "num_blocks": 2,
        "batch_size": 128, "beta1": 0.9,
    },
    "lsun-bedroom64": {
        "data": "lsun-bedroom", "image_size": 64, "network": "gao2021-64", "num_blocks": 2,
        "batch_size": 128, "beta1": 0.9,
    },
    "lsun-church128": {
        "data": "lsun-church", "image_size": 128, "network": "gao2021-128", "num_blocks": 2,
        "batch_size": 64, "beta1": 0.5,
    },
    "lsun-bedroom128": {
        "data": "lsun-bedroom", "image_size": 128, "network": "gao2021-128", "num_blocks": 5,
        "batch_size": 64, "beta1": 0.5,
    },
}  # fmt: skip
# The rows of Table 2.6 on CIFAR-10. The sources give no numbers for T = 1000 but these two; with a
# spectral norm its energies could not have the scores of little noise.
_CIFAR_10: dict[str, dict[str, Any]] = {
    "-t1-k180": {"num_levels": 1, "chain_steps": 180},
    "-t6-k10": {"chain_steps": 10},
    "-t6-k50": {"chain_steps": 50},
    "-t1k": {
        "num_levels": 1000, "chain_steps": 0, "units": "energy", "spectral_norm": False,
        "data_noise": 0.0, "noise_factor": 1.0,
    },
}  # fmt: skip
# What a CPU can afford of MNIST.
_MNIST_16: dict[str, Any] = {
    "data": "mnist", "image_size": 16, "batch_size": 16, "steps": 1000,
}  # fmt: skip
_PRESETS = {
    "mnist-16": _MNIST_16,
    **{f"gao2021-{images}-t6": {**_SHARED, **_IMAGES[images]} for images in _IMAGES},
    **{
        f"gao2021-cifar10{variant}": {**_SHARED, **_IMAGES["cifar10"], **_CIFAR_10[variant]}
        for variant in _CIFAR_10
    },
}


@dataclass(kw_only=True)
class DRLRecipe(ImageRecipe, OptimisedRecipe):
    """Diffusion recovery likelihood: energies at levels of noise, from noise to image by chains.

    The defaults take about four minutes of a CPU core on the digits. The presets gao2021-… have the
    settings of Gao 2021, §2.3.5, and have not been trained; where the folders of the data have
    other names than theirs, give them with --data.
    """

    presets = _PRESETS

    steps: int = 1500
    """Optimisation steps of the whole run."""

    batch_size: int = 32
    """Images, and chains, in one step, over all devices together."""

    network: Literal[
        "auto", "conv", "digits", "mnist", "gao2021-32", "gao2021-64", "gao2021-128"
    ] = "auto"
    """The energy network: "conv" has a weight for each place and tilts a normal density, the others
    are residual, with the widths for those data; "auto" is "conv", from 64 pixels on residual."""

    num_blocks: int | None = None
    """Residual blocks at each resolution; without it, as many as the network has."""

    spectral_norm: bool = False
    """Bound the Lipschitz constant of every layer of a residual network but the last by 1."""

    num_levels: int = 6
    """Levels of noise T between image and noise: 1 to 501, or 1000 for each step of the diffusion.
    They cut its first half, where the signal is, in equal parts, and the rest is the last level.
    On digits, training with three levels diverged at the default of the other options."""

    chain_steps: int = 30
    """Langevin steps K at each level, in training and in use; 0 samples from the normal
    approximation, which needs num_levels 1000."""

    units: Literal["step", "energy"] = "energy"
    """Of the network's output: that of a step, by whose noise's variance it is divided to be the
    energy, and weighed by 1 over its level's noise in the loss; or the energy itself."""

    step_factor: float = 0.7
    """Standard deviation of the noise in a Langevin step, with units "energy" over the least
    standard deviation that the level's chains have in any direction, with units "step" over a
    multiple of that of the level's noise."""

    noise_factor: float = 1.0
    """Of the noise in the steps that draw samples; in training it is 1."""

    data_noise: float = 0.05
    """Standard deviation of noise that hides the grey levels' steps, for pixels in [-1, 1]."""

    random_flips: bool = False
    """Show each image as it is or mirrored, at random."""

    energy_penalty: float = 0.0
    """Weight of the squared energies, which keeps them from drifting."""

    learning_rate: float = 3e-3
    """Learning rate of Adam, after the warm-up."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    warmup_steps: int = 50
    """Steps in which the learning rate grows linearly to its value."""

    beta1: float = 0.5
    """Decay of Adam's average of gradients; a short memory suits a moving target."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws the samples; without it the weights do."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of data and samples differ by more, in the units
    of the loss."""

    tunable: ClassVar[frozenset[str]] = frozenset({
        "chain_steps", "step_factor", "noise_factor", "data_noise", "energy_penalty",
        "learning_rate", "beta1", "max_grad_norm", "ema_decay", "max_gap",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_levels", "step_factor", "max_gap")
        self.check_not_negative("chain_steps", "noise_factor", "data_noise", "energy_penalty")
        self.check_fraction("beta1")
        if self.num_blocks is not None:
            self.check_positive("num_blocks")
        if self.num_levels > 501 and self.num_levels != 1000:
            raise ValueError(
                f"DRLRecipe: num_levels is {self.num_levels}; expected 1 to 501, or 1000"
            )
        if self.chain_steps == 0 and (self.num_levels != 1000 or self.units == "step"):
            raise ValueError(
                "DRLRecipe: chain_steps is 0, the normal approximation, which needs num_levels "
                f'1000 and units "energy"; got num_levels {self.num_levels} and units '
                f'"{self.units}"'
            )
        if self.spectral_norm and self.accumulate > 1:
            raise ValueError(
                f"DRLRecipe: accumulate is {self.accumulate}, but with spectral_norm each part "
                "of a batch would see an energy of its own"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "DRLExperiment":
        from gencore.recipes.diffusion.drl_experiment import DRLExperiment

        return DRLExperiment(self, fabric, dataset)
