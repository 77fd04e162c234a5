"""An energy that corrects the samples of a trained generator (Yan 2022, §3.3.3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.hybrids.latentebm_experiment import LatentEBMExperiment

__all__ = ["LatentEBMRecipe"]

# Yan 2022, §3.3.6: 60 steps of ε = 0.01 in training and 100 in use, 0.1 times the squared energies;
# 200 batches on GLOW and GLF, 1,000 on a VAE.
_YAN_2022: dict[str, Any] = {
    "chain_steps": 60, "sample_steps": 100, "time_step": 0.01, "energy_penalty": 0.1,
    "batch_size": 128,
}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    "yan2022-vae": {**_YAN_2022, "steps": 1000},
    "yan2022-flow": {**_YAN_2022, "steps": 200},
}


@dataclass(kw_only=True)
class LatentEBMRecipe(ImageRecipe, OptimisedRecipe):
    """Latent EBM: an energy of images that reweights the latents of a trained generator.

    The base is the run of another recipe with such a generator: glf (but its rae-gmm) or avade
    (GAN, VAE and others). Only the energy is trained, on --data: those of the base's run, or others
    of the same size.
    """

    presets = _PRESETS

    base: str = ""
    """Folder of the base's run. Sampling and resuming need it too, as it was: not trained on."""

    steps: int = 300
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images, and chains, in one step, over all devices together."""

    network: Literal["auto", "digits", "mnist", "cifar10", "celeba"] = "auto"
    """Widths of the energy network, by the data they were chosen for; "auto" goes by image size."""

    spectral_norm: bool = False
    """Bound the Lipschitz constant of every layer of the energy network by 1."""

    chain_steps: int = 60
    """Langevin steps of the latents in training."""

    sample_steps: int | None = 100
    """Langevin steps of the latents in use; without it as many as in training."""

    time_step: float = 0.01
    """ε: a step goes ε/2 times the gradient down, with noise of variance ε."""

    energy_penalty: float = 0.1
    """Weight of the squared energies, which keeps them from drifting."""

    learning_rate: float = 1e-4
    """Learning rate of Adam."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of data and samples differ by more."""

    changeable = frozenset({"steps", "show_data", "base", "sample_steps"})
    tunable = frozenset({
        "chain_steps", "time_step", "energy_penalty", "learning_rate", "max_grad_norm",
        "ema_decay", "max_gap",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("time_step", "max_gap")
        self.check_not_negative("chain_steps", "energy_penalty")
        if self.sample_steps is not None:
            self.check_not_negative("sample_steps")
        if self.spectral_norm and self.accumulate > 1:
            raise ValueError(
                f"LatentEBMRecipe: accumulate is {self.accumulate}, but with spectral_norm each "
                "part of a batch would see an energy of its own"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "LatentEBMExperiment":
        from gencore.recipes.hybrids.latentebm_experiment import LatentEBMExperiment

        return LatentEBMExperiment(self, fabric, dataset)
