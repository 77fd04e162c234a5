"""The dynamic generator, learned by alternating back-propagation through time (Gao 2021, ch. 3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.state_space import StateSpaceRecipe
from gencore.recipes.video.whole_clips import ClipTable
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.recipes.video.dynamicgenerator_experiment import DynamicGeneratorExperiment

__all__ = ["DynamicGeneratorRecipe", "HiddenPart"]

HiddenPart = Literal["none", "regions", "frames"]

# §3.3, with the rates and steps of the authors' published program, which the thesis does not state.
# Of textures and occlusion neither tells the sizes of state and noise: those are ours, as is the
# emission network, which is not the program's and has no batch normalisation.
_PROGRAM: dict[str, Any] = {
    "frame_size": 64, "width": 64, "reduction": "mean", "noise_std": 1.0, "hidden_widths": (20, 20),
    "langevin_steps": 15, "step_std": 0.03, "learning_rate": 2e-3, "noise_size": 100,
}  # fmt: skip
_GAO_2021: dict[str, dict[str, Any]] = {
    "gao2021-texture": {**_PROGRAM, "num_frames": 60, "state_size": 80, "steps": 3000},
    "gao2021-actions": {
        **_PROGRAM, "num_frames": 30, "num_clips": None, "state_size": 100, "noise_size": 50,
        "appearance_size": 100, "steps": 7000,
    },
    "gao2021-occlusion": {
        **_PROGRAM, "num_frames": 60, "state_size": 80, "steps": 3000, "hidden": "regions",
    },
    "gao2021-missing-frames": {
        **_PROGRAM, "num_frames": 70, "state_size": 80, "steps": 3000, "hidden": "frames",
    },
}  # fmt: skip
_USED_BY: dict[str, UsedBy] = {
    "region_size": used_by(hidden=("regions",)),
    "missing_frames": used_by(hidden=("frames",)),
}


@dataclass(kw_only=True)
class DynamicGeneratorRecipe(StateSpaceRecipe):
    """Dynamic generators of films, by alternating back-propagation through time.

    Each step moves the latents of its clips on by Langevin dynamics, from where they stand, and
    then the weights. The defaults learn a talking head in a few minutes on two CPU cores. The
    presets take days there; give them films with --data.
    """

    presets = _GAO_2021
    used_by = _USED_BY
    figure_samples = 2

    motion_size: int = 0
    """Numbers of a clip's kind of motion, for several clips; 0 for none."""

    hidden: HiddenPart = "none"
    """What is not seen in training, and recovered: nothing, a square region of every frame, or
    whole frames."""

    region_size: float = 0.4
    """Side of the hidden regions, as a part of the frames' sides."""

    missing_frames: float = 0.5
    """Part of the frames that are missing."""

    burn_in: int = 20
    """Frames that are made and thrown away before a film that is drawn."""

    shown_frames: int = 120
    """Frames of a film that is drawn."""

    steps: int = 1500
    """Optimisation steps of the whole run."""

    batch_size: int = 1
    """Clips in one step, over all devices together."""

    changeable = frozenset({"steps", "burn_in", "shown_frames"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("shown_frames")
        self.check_not_negative("motion_size", "burn_in")
        self.check_fraction("region_size", "missing_frames")

    def build(
        self, fabric: "Fabric", dataset: "ClipTable | ClipShape"
    ) -> "DynamicGeneratorExperiment":
        from gencore.recipes.video.dynamicgenerator_experiment import DynamicGeneratorExperiment

        return DynamicGeneratorExperiment(self, fabric, dataset)
