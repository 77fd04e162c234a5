"""Multi-grid energy-based models of images, and what they are compared with (Gao 2021, §2.2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.ebm.multigrid_experiment import MultiGridExperiment

__all__ = ["MultiGridRecipe"]

# §2.2.3, which states neither the step size nor anything of the optimiser: those are ours.
_IMAGES: dict[str, dict[str, Any]] = {
    "celeba": {"data": "celeba", "chain_steps": 30},
    "cifar10": {"data": "cifar-10-batches-bin", "chain_steps": 40, "synthesis_noise": False},
    "svhn": {"data": "svhn", "chain_steps": 30},
    "inpainting": {"data": "celeba", "chain_steps": 30, "conditional": True},
}
_GRIDS = {"image_size": 64, "network": "gao2021", "batch_size": 100}
# The baselines of §2.2.3 at the finest grid. Those from data have one step (CD1), or the chains of
# the step before, in training, and the multi-grid method's 90 in use.
_METHODS: dict[str, dict[str, Any]] = {
    "": {},
    "-single": {"single_grid": True, "sampling_steps": 90},
    "-cd1": {"single_grid": True, "chains": "data", "chain_steps": 1, "sampling_steps": 90},
    "-persistent": {"single_grid": True, "chains": "persistent", "sampling_steps": 90},
}
_GAO_2021 = {
    f"gao2021-{images}{method}": {**_GRIDS, **_IMAGES[images], **_METHODS[method]}
    for images in _IMAGES
    for method in _METHODS
}


_USED_BY: dict[str, UsedBy] = {"buffer_size": used_by(chains=("persistent",))}


@dataclass(kw_only=True)
class MultiGridRecipe(ImageRecipe, OptimisedRecipe):
    """Multi-grid energy-based model: short chains from 1x1 to the full size, an energy each grid.

    The presets have the grids, networks and numbers of steps that Gao 2021 states, and those of its
    baselines: the finest grid alone, contrastive divergence of one step, and persistent chains.
    Where folders of images have other names than theirs, give them with --data.
    """

    presets = _GAO_2021
    used_by = _USED_BY

    data: str = "photos"
    """Images: a name such as "photos" or "digits", or the path of a folder, an array or shards (see
    gencore list). They have to be squares of 8, 16, 32 or 64 pixels: set image_size."""

    steps: int = 600
    """Optimisation steps of the whole run."""

    batch_size: int = 32
    """Images, and chains, in one step, over all devices together."""

    network: Literal["auto", "gao2021", "small32", "small16", "small8"] = "auto"
    """Grids and their networks; "auto" goes by image size."""

    single_grid: bool = False
    """The finest grid alone, whose chains go from 1x1 to the full size at once."""

    chains: Literal["coarse", "data", "persistent"] = "coarse"
    """Where chains start in training: from the coarser grid's samples, from the data (contrastive
    divergence), or where those of the step before ended, at first at data."""

    chain_steps: int = 30
    """Steps of the sampler at each grid in training."""

    sampling_steps: int | None = None
    """Steps of the sampler at each grid in use; without it as many as in training."""

    step_size: float = 0.05
    """Factor of the energy's gradient in a step of the sampler, for pixels in [-1, 1]."""

    noise_scale: float = 0.01
    """Standard deviation of the noise in a step of the sampler; 0 is gradient descent."""

    synthesis_noise: bool = True
    """Whether the steps of the sampler have noise in use as well."""

    grad_clamp: float | None = None
    """Bound on each element of the gradient that moves the chains."""

    clamp: bool = True
    """Keep the chains' pixels in [-1, 1]."""

    data_noise: float = 0.03
    """Standard deviation of noise that hides the grey levels' steps, for pixels in [-1, 1]."""

    conditional: bool = False
    """Learn to fill in squares of half the images' side at random places, given the rest."""

    buffer_size: int = 1024
    """Chains that go on from step to step at each grid."""

    energy_penalty: float = 0.0
    """Weight of the squared energies, which keeps them from drifting."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    beta1: float = 0.5
    """Decay of Adam's average of gradients; a short memory suits a moving target."""

    max_grad_norm: float | None = 10.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws the samples; without it the weights do."""

    max_gap: float = 1000.0
    """Training has diverged when the mean energies of a grid's data and samples differ by more."""

    tunable = frozenset({
        "chain_steps", "sampling_steps", "step_size", "noise_scale", "synthesis_noise",
        "grad_clamp", "data_noise", "energy_penalty", "learning_rate", "beta1", "max_grad_norm",
        "ema_decay", "max_gap",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("chain_steps", "step_size", "max_gap", "buffer_size")
        if self.sampling_steps is not None:
            self.check_positive("sampling_steps")
        if self.grad_clamp is not None:
            self.check_positive("grad_clamp")
        self.check_not_negative("noise_scale", "data_noise", "energy_penalty")
        self.check_fraction("beta1")
        if self.chains == "persistent" and self.buffer_size < self.batch_size:
            raise ValueError(
                f"MultiGridRecipe: buffer_size is {self.buffer_size}; expected at least the "
                f"{self.batch_size} chains of a step (batch_size)"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "MultiGridExperiment":
        from gencore.recipes.ebm.multigrid_experiment import MultiGridExperiment

        return MultiGridExperiment(self, fabric, dataset)
