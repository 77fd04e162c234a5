"""Auto-encoders whose reconstruction error is an energy (Mathieu 2017, §2.1.2.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.ebm.autoencoder_experiment import AutoencoderExperiment

__all__ = ["AutoencoderRecipe"]

_USED_BY: dict[str, UsedBy] = {
    "active": used_by(variant=("k-sparse",)),
    "sparsity_weight": used_by(variant=("sparse",)),
    "contraction_weight": used_by(variant=("contractive",)),
    "num_probes": used_by(variant=("contractive",)),
    "noise_std": used_by(variant=("denoising",)),
}


@dataclass(kw_only=True)
class AutoencoderRecipe(ImageRecipe, OptimisedRecipe):
    """Auto-encoder whose error is an energy: sparse, k-sparse, contractive, denoising and others.

    One layer each way, in a minute on two CPU cores. Measured is how well the energy tells test
    images from images that are none.
    """

    used_by = _USED_BY

    steps: int = 2000
    """Optimisation steps of the whole run."""

    batch_size: int = 128
    """Images in one step, over all devices together."""

    variant: Literal[
        "bottleneck", "sparse", "k-sparse", "winner-take-all", "contractive", "denoising"
    ] = "k-sparse"
    """What keeps the auto-encoder from copying everything: few components (code_size below the
    pixels), a penalty of the code's magnitudes, few active components or a single one, a penalty of
    the code's Jacobian, noise that it has to undo."""

    code_size: int = 64
    """Components of a code."""

    active: int = 8
    """Components that stay in a k-sparse code."""

    sparsity_weight: float = 0.1
    """Weight of the sum of a sparse code's magnitudes, for pixels in [0, 1]."""

    contraction_weight: float = 0.1
    """Weight of the squared norm of a contractive code's Jacobian."""

    num_probes: int | None = 4
    """Random directions that estimate that norm; without it, it is computed."""

    noise_std: float = 0.3
    """Standard deviation of a denoising auto-encoder's noise, for pixels in [0, 1]."""

    learning_rate: float = 2e-3
    """Learning rate of Adam."""

    tunable = frozenset({
        "sparsity_weight", "contraction_weight", "noise_std", "num_probes", "learning_rate",
        "max_grad_norm", "ema_decay",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("code_size", "active")
        self.check_not_negative("sparsity_weight", "contraction_weight", "noise_std")
        if self.num_probes is not None:
            self.check_positive("num_probes")
        if self.variant == "denoising":
            self.check_positive("noise_std")
        if self.variant == "k-sparse" and self.active > self.code_size:
            raise ValueError(
                f"AutoencoderRecipe: active is {self.active}; expected at most the "
                f"{self.code_size} components of a code (code_size)"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "AutoencoderExperiment":
        from gencore.recipes.ebm.autoencoder_experiment import AutoencoderExperiment

        return AutoencoderExperiment(self, fabric, dataset)
