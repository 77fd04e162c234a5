"""Representations that tell how patches of photographs lie to each other (Doersch et al. 2015)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencore.models.representations.names import PatchColour
from gencore.train import ImageRecipe, OptimisedRecipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.representations.patches_experiment import PatchesExperiment

__all__ = ["PatchesRecipe"]


@dataclass(kw_only=True)
class PatchesRecipe(ImageRecipe, OptimisedRecipe):
    """A siamese network that guesses which of the eight neighbours one patch is of another.

    The defaults are for photographs of faces, whose parts lie in the same way in all of them, and
    take less than a minute on two CPU cores.
    """

    data: str = "faces"
    """Images: a name such as "faces" or "photographs", or the path of a folder, an array or shards
    (see gencore list)."""

    patch_size: int = 8
    """Side of the patches, a multiple of 4."""

    gap: int = 3
    """Pixels between two patches."""

    jitter: int = 1
    """Pixels by which each patch is moved at most, along both axes."""

    colour: PatchColour = "keep"
    """Against what lenses do to colours: keep them, project the direction from magenta to green
    away, or drop two of three channels."""

    channels: int = 16
    """Channels of the encoder's first convolution, a multiple of 8; two and four times as many
    follow."""

    code_size: int = 64
    """Numbers of a patch's code."""

    steps: int = 2000
    """Optimisation steps of the whole run."""

    changeable = frozenset({"steps"})
    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("patch_size", "channels", "code_size")
        self.check_not_negative("gap", "jitter")
        if self.patch_size % 4 or self.channels % 8:
            raise ValueError(
                f"PatchesRecipe: patch_size is {self.patch_size} and channels is {self.channels}; "
                "expected multiples of 4 and of 8"
            )
        if self.show_data:
            raise ValueError(
                "PatchesRecipe: show_data is True, but this recipe draws no samples; its figure "
                "shows patches of data"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "PatchesExperiment":
        from gencore.recipes.representations.patches_experiment import PatchesExperiment

        return PatchesExperiment(self, fabric, dataset)
