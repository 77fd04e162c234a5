"""The diffusion model on images (Sohl-Dickstein et al. 2015; Ho et al. 2020)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gencore.models.diffusion.names import DiffusionLoss, Prediction, ReverseVariance
from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.diffusion.diffusion_experiment import DiffusionExperiment

__all__ = ["DiffusionRecipe"]

# Ho et al. 2020, §4 and appendix B. Their data are flipped at random, which is not done here.
_CIFAR10: dict[str, Any] = {
    "data": "cifar-10-batches-bin", "levels": 1000, "first_variance": 1e-4, "last_variance": 0.02,
    "width": 128, "multipliers": (1, 2, 2, 2), "num_blocks": 2, "attention_scales": (1,),
    "dropout": 0.1, "variance": "step", "steps": 800_000, "batch_size": 128, "learning_rate": 2e-4,
    "warmup_steps": 5000, "max_grad_norm": 1.0, "ema_decay": 0.9999,
}  # fmt: skip
# The rows of their Table 2 that train: what is predicted, and what is minimised.
_ROWS: dict[str, dict[str, Any]] = {
    "": {},
    "-bound": {"loss": "bound"},
    "-mean-bound": {"predicts": "mean", "loss": "bound"},
}
_HO_2020 = {f"ho2020-cifar10{row}": {**_CIFAR10, **options} for row, options in _ROWS.items()}


@dataclass(kw_only=True)
class DiffusionRecipe(ImageRecipe, OptimisedRecipe):
    """Diffusion model: a U-Net that undoes the steps from images to noise, with its bound in bits.

    The defaults take a few minutes on digits, with two CPU cores.
    """

    presets = _HO_2020

    steps: int = 1500
    """Optimisation steps of the whole run."""

    batch_size: int = 128
    """Images in one step, over all devices together."""

    levels: int = 1000
    """Steps from an image to noise."""

    first_variance: float = 1e-4
    """Variance of the noise of the first step from an image; those between grow linearly."""

    last_variance: float = 0.02
    """Variance of the noise of the last step."""

    predicts: Prediction = "noise"
    """What the network predicts: the noise, the image (start), or the mean of the step before."""

    loss: DiffusionLoss = "simple"
    """What is minimised: the mean squared error of the prediction, or the bound itself."""

    variance: ReverseVariance = "posterior"
    """Variances of the model's steps: those of the diffusion's steps, those of the steps given the
    image, or learned between the two."""

    chain_steps: int | None = 100
    """Steps of the chain that draws samples and that the bound is of, of nearly equal length;
    without it all levels."""

    eta: float | None = None
    """Noise of the implicit model's samples: 0 for none, 1 for the posterior variance; without it
    samples are those of the model's own variances."""

    width: int = 32
    """Channels of the network's first scale."""

    multipliers: tuple[int, ...] | None = None
    """Of the width, one a scale; without it 1, 2 below 16 pixels and 1, 2, 2 from there on."""

    num_blocks: int = 1
    """Residual blocks a scale on the way down; one more on the way up."""

    attention_scales: tuple[int, ...] = ()
    """Scales with self-attention, 0 the finest."""

    dropout: float = 0.0
    """Fraction of activations dropped in training."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float | None = 1.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.995
    """Decay of the average of the weights that draws samples and is measured; less at first."""

    changeable = frozenset({"steps", "show_data", "chain_steps", "eta"})
    tunable = frozenset({"dropout", "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("levels", "width", "num_blocks")
        for name in ("first_variance", "last_variance"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"DiffusionRecipe: {name} is {getattr(self, name)}; expected in (0, 1)"
                )
        if self.chain_steps is not None and not 1 <= self.chain_steps <= self.levels:
            raise ValueError(
                f"DiffusionRecipe: chain_steps is {self.chain_steps}; expected from 1 to the "
                f"{self.levels} levels, or none for all"
            )
        if self.eta is not None:
            self.check_fraction("eta")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"DiffusionRecipe: dropout is {self.dropout}; expected 0 to below 1")
        if self.ema_decay is None:
            raise ValueError("DiffusionRecipe: ema_decay is None; expected from 0 to 1")

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "DiffusionExperiment":
        from gencore.recipes.diffusion.diffusion_experiment import DiffusionExperiment

        return DiffusionExperiment(self, fabric, dataset)
