"""Few labels, and a generator against a ladder network (Mathieu 2017, §6.3.2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.adversarial.semiebgan_experiment import SemiEBGANExperiment

__all__ = ["SemiEBGANRecipe"]

_GAME = used_by(objective=("ebgan",))
_UNLABELLED = used_by(objective=("ebgan", "ladder"))


_USED_BY: dict[str, UsedBy] = {
    "denoising_weights": _UNLABELLED, "margin": _GAME, "margin_power": _GAME,
    "game_part": _GAME, "latent_size": _GAME, "generator_widths": _GAME,
    "generator_learning_rate": _GAME,
}  # fmt: skip


@dataclass(kw_only=True)
class SemiEBGANRecipe(ImageRecipe, OptimisedRecipe):
    """Semi-supervised energy-based GAN: a ladder network learns classes from few labels.

    Pixels are a vector, whose order no part knows. The labelled images are drawn once, by the seed,
    and are all in each step. The defaults take a quarter of a minute on digits, with one CPU core.
    """

    used_by = _USED_BY

    objective: Literal["ebgan", "ladder", "supervised"] = "ebgan"
    """Labels, denoising and the game with a generator; without the game; or labels alone, with the
    same noisy classifier."""

    labels_per_class: int = 10
    """Labelled images of each class."""

    label_weight: float = 1.0
    """Weight of the labels' cross-entropy."""

    steps: int = 1000
    """Steps of the ladder network in the whole run."""

    batch_size: int = 100
    """Unlabelled images in one step, and as many samples."""

    hidden_widths: tuple[int, ...] = (128, 64)
    """Widths of the hidden layers of the ladder network's encoder."""

    noise_std: float = 0.3
    """Standard deviation of the noise on pixels in [0, 1] and on each normalised layer."""

    denoising_weights: tuple[float, ...] = (1000.0, 0.0)
    """Weights of the denoising costs of the pixels and of the layers above; the last holds for all
    further layers. By default those of pixels alone count."""

    margin: float = 20.0
    """Energy above which samples are not raised further, in the first step."""

    margin_power: Literal[1, 2] = 1
    """Power f of energies in both losses."""

    game_part: float = 0.8
    """Part of the steps over which the margin falls to 0 in a line; after it the ladder network
    learns alone."""

    latent_size: int = 16
    """Numbers of normal noise that the generator gets."""

    generator_widths: tuple[int, ...] = (128, 128)
    """Widths of the generator's hidden layers."""

    learning_rate: float = 2e-3
    """Learning rate of Adam for the ladder network, after the warm-up."""

    generator_learning_rate: float = 3e-4
    """Learning rate of Adam for the generator."""

    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """The ladder network's learning rate after the warm-up: constant, or falling to 0 after the
    last step, in a line or in half a cosine."""

    changeable = frozenset({"show_data"})
    tunable = frozenset({"learning_rate", "generator_learning_rate", "max_grad_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "labels_per_class", "margin", "game_part", "latent_size", "generator_learning_rate"
        )
        self.check_not_negative("label_weight", "noise_std")
        self.check_fraction("game_part")
        if self.batch_size < 2 or self.accumulate > 1:
            raise ValueError(
                f"SemiEBGANRecipe: batch_size is {self.batch_size} and accumulate "
                f"{self.accumulate}; expected 2 or more images in one part, which layers are "
                "normalised over"
            )
        for name in ("hidden_widths", "generator_widths"):
            if any(width < 1 for width in getattr(self, name)):
                raise ValueError(
                    f"SemiEBGANRecipe: {name} is {getattr(self, name)}; expected positive numbers"
                )
        if any(weight < 0 for weight in self.denoising_weights):
            raise ValueError(
                f"SemiEBGANRecipe: denoising_weights is {self.denoising_weights}; expected 0 or "
                "positive numbers"
            )

    def margin_at(self, step: int) -> float:
        """The margin of a step, counted from 0; 0 where there is no game."""
        if self.objective != "ebgan":
            return 0.0
        return self.margin * max(0.0, 1 - step / (self.game_part * self.steps))

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "SemiEBGANExperiment":
        from gencore.recipes.adversarial.semiebgan_experiment import SemiEBGANExperiment

        return SemiEBGANExperiment(self, fabric, dataset)
