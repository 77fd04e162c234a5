"""Generators and their adversaries on densities of the plane (Lucas 2020, §4.5.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.data.names import DensityName
from gencore.recipes.adversarial.adversarial import ADVERSARIAL_USES, TUNABLE, AdversarialRecipe
from gencore.recipes.plane import PlaneRecipe
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.adversarial.toygan_experiment import ToyGANExperiment
    from gencore.train import BatchSource

__all__ = ["ToyGANRecipe"]

# The methods whose coverage of modes is compared. Batches are smaller than those of Lucas 2020,
# with which the generator gets stuck outside the spots.
_GAME: dict[str, Any] = {"discriminator_steps": 2, "ema_decay": 0.99}
_PRESETS: dict[str, dict[str, Any]] = {
    "gan": {**_GAME, "method": "gan"},
    "wgan-gp": {**_GAME, "method": "wgan", "gradient_penalty": 1.0, "momentum": 0.0},
    "sn": {**_GAME, "method": "hinge", "spectral_norm": True},
    "ebgan": {**_GAME, "method": "ebgan"},
    "ebgan-pt": {**_GAME, "method": "ebgan", "pulling_away": 0.1},
    "bgan": {**_GAME, "method": "bgan", "group_size": 8},
    "mbgan": {**_GAME, "method": "mbgan", "group_size": 16},
    "mixup": {**_GAME, "method": "mixup"},
    "mmd": {"method": "mmd", "ema_decay": 0.99},
    "sinkhorn": {"method": "sinkhorn", "ema_decay": 0.99},
}


_USED_BY: dict[str, UsedBy] = {
    **ADVERSARIAL_USES,
    "code_size": used_by(method=("ebgan",)),
}


@dataclass(kw_only=True)
class ToyGANRecipe(AdversarialRecipe, PlaneRecipe):
    """Generators on the plane, by adversaries of points, of batches, or distances.

    Measures say which spots of a density samples reach. The defaults take about a minute on two CPU
    cores.
    """

    presets = _PRESETS
    used_by = _USED_BY

    density: DensityName = "eight_gaussians"
    """The density that the data are drawn from."""

    spot_std: float | None = None
    """Standard deviation of the spots, of a density that has some; its own without it."""

    steps: int = 2000
    """Steps of the generator in the whole run."""

    hidden_widths: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of both networks, perceptrons with rectified units."""

    code_size: int = 8
    """Numbers in a code of the auto-encoder."""

    quality_radius: float = 3.0
    """Standard deviations of a spot from its centre within which a sample counts for it."""

    changeable = frozenset({"steps", "grid_size", "quality_radius"})
    tunable = TUNABLE

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_widths("hidden_widths")
        self.check_positive("code_size", "quality_radius")
        if self.spot_std is not None:
            self.check_positive("spot_std")

    def load_data(self) -> "Density":
        from gencore.data import SpotDensity

        density = super().load_data()
        if self.spot_std is None:
            return density
        if not isinstance(density, SpotDensity):
            raise ValueError(
                f"ToyGANRecipe: spot_std is {self.spot_std}, but {self.density} has no spots; "
                "expected none"
            )
        return SpotDensity([(x, y) for x, y in density.centres.tolist()], self.spot_std)

    def batches(self, fabric: "Fabric", dataset: "Density") -> "BatchSource":
        return self.grouped(fabric, super().batches(fabric, dataset))

    def build(self, fabric: "Fabric", dataset: "Density") -> "ToyGANExperiment":
        from gencore.recipes.adversarial.toygan_experiment import ToyGANExperiment

        return ToyGANExperiment(self, fabric, dataset)
