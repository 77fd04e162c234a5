"""Diffusion recovery likelihood on densities of the plane (Gao 2021, §2.3.4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencore.data.names import DensityName
from gencore.recipes.plane import PlaneRecipe
from gencore.train import OptimisedRecipe
from gencore.train.recipe import Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.recipes.diffusion.toydrl_experiment import ToyDRLExperiment

__all__ = ["ToyDRLRecipe"]


@dataclass(kw_only=True)
class ToyDRLRecipe(PlaneRecipe, OptimisedRecipe):
    """Diffusion recovery likelihood on the plane: energies of the levels from noise to data.

    What keeps the energies from growing until training diverges are the bound on the gradient's
    norm, a falling learning rate and the average of the weights that draws the samples; an alarm
    stops it otherwise. The defaults take a few minutes on two CPU cores.
    """

    density: DensityName = "eight_gaussians"
    """The density that the data are drawn from."""

    levels: int = 6
    """Number T of steps of the diffusion."""

    first_variance: float = 0.1
    """Variance of the noise that the first step of the diffusion adds; they go in a line to …"""

    last_variance: float = 0.8
    """… that of its last step."""

    chain_steps: int = 30
    """Langevin steps a level, in training and in use; 0 is the normal approximation."""

    step_factor: float = 0.22
    """Standard deviation of a step's noise over that of the level's step of the diffusion."""

    hidden_widths: tuple[int, ...] = (64, 64, 64)
    """Widths of the hidden layers of the energy, a perceptron with swish activations."""

    input_scale: float = 8.0
    """Factor of the first layer's weights at the start: with 1 fine structure is slow to learn."""

    spectral_norm: bool = False
    """Bound the Lipschitz constant of every layer of the energy by 1, with its output in units of
    the squared step: its gradient then moves a chain by at most 0.7 in a step."""

    steps: int = 2500
    """Optimisation steps of the whole run."""

    batch_size: int = 256
    """Data points, and chains, in one step, over all devices together."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    learning_rate: float = 2e-3
    """Learning rate of Adam, after the warm-up."""

    schedule: Schedule = "cosine"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws samples and is measured; without it the
    weights themselves do."""

    max_gap: float = 100.0
    """Training has diverged when the mean energies of data and samples differ by more."""

    figure_samples = 4000
    tunable = frozenset({
        "chain_steps", "step_factor", "learning_rate", "schedule", "ema_decay", "max_gap",
        "max_grad_norm",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "levels", "first_variance", "last_variance", "step_factor", "input_scale", "max_gap"
        )
        for name in ("first_variance", "last_variance"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"ToyDRLRecipe: {name} is {getattr(self, name)}; expected less than 1, since "
                    "the diffusion keeps a variance of 1"
                )
        self.check_not_negative("chain_steps")
        self.check_widths("hidden_widths")
        if self.spectral_norm and self.accumulate > 1:
            raise ValueError(
                f"ToyDRLRecipe: accumulate is {self.accumulate}, but with spectral_norm each part "
                "of a batch would see an energy of its own"
            )

    def build(self, fabric: "Fabric", dataset: "Density") -> "ToyDRLExperiment":
        from gencore.recipes.diffusion.toydrl_experiment import ToyDRLExperiment

        return ToyDRLExperiment(self, fabric, dataset)
