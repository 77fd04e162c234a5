"""The dynamic generator, learned by alternating back-propagation through time (Gao 2021, ch. 3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.models.video.names import FrameReduction
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.whole_clips import ClipTable, WholeClipRecipe
from gencore.train import OptimisedRecipe, UsedBy, used_by

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
class DynamicGeneratorRecipe(WholeClipRecipe, OptimisedRecipe):
    """Dynamic generators of films, by alternating back-propagation through time.

    Each step moves the latents of its clips on by Langevin dynamics, from where they stand, and
    then the weights. The defaults learn a talking head in a few minutes on two CPU cores. The
    presets take days there; give them films with --data.
    """

    presets = _GAO_2021
    used_by = _USED_BY
    figure_samples = 2

    data: str = "carphone"
    """Films: a name such as "carphone" or "moving-shapes", or the path of a film, a folder of
    frames or a folder of films (see gencore list)."""

    state_size: int = 20
    """Numbers of a state."""

    noise_size: int = 10
    """Numbers of the noise that moves it on."""

    appearance_size: int = 0
    """Numbers of a clip's appearance, for several clips; 0 for none."""

    motion_size: int = 0
    """Numbers of a clip's kind of motion, likewise."""

    hidden_widths: tuple[int, ...] = (20, 20)
    """Hidden layers of the transition."""

    width: int = 16
    """Channels of the finest maps of the emission network; they double with each coarser scale."""

    noise_std: float = 0.3
    """Standard deviation of a pixel, from -1 to 1, around what the model shows."""

    reduction: FrameReduction = "sum"
    """Squared errors as a sum over frames, as in (3.6), or as a mean, as in the authors'
    program."""

    langevin_steps: int = 5
    """Langevin steps on the latents in one step."""

    step_std: float = 0.03
    """Standard deviation of the noise of a Langevin step."""

    langevin_noise: bool = True
    """Draw that noise; without it latents climb to where they are most likely."""

    metropolis: bool = False
    """Correct Langevin steps by the Metropolis-Hastings rule."""

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

    learning_rate: float = 2e-3
    """Learning rate of Adam, after the warm-up."""

    changeable = frozenset({"steps", "burn_in", "shown_frames"})
    tunable = frozenset({
        "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "langevin_steps", "step_std",
        "langevin_noise", "metropolis", "noise_std", "reduction",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "state_size", "noise_size", "width", "noise_std", "langevin_steps", "step_std",
            "shown_frames",
        )  # fmt: skip
        self.check_not_negative("appearance_size", "motion_size", "burn_in")
        self.check_fraction("region_size", "missing_frames")
        if any(width < 1 for width in self.hidden_widths):
            raise ValueError(
                f"DynamicGeneratorRecipe: hidden_widths is {self.hidden_widths}; expected positive "
                "widths"
            )
        if self.metropolis and not self.langevin_noise:
            raise ValueError(
                "DynamicGeneratorRecipe: metropolis corrects steps with noise, but langevin_noise "
                "is False"
            )

    def build(
        self, fabric: "Fabric", dataset: "ClipTable | ClipShape"
    ) -> "DynamicGeneratorExperiment":
        from gencore.recipes.video.dynamicgenerator_experiment import DynamicGeneratorExperiment

        return DynamicGeneratorExperiment(self, fabric, dataset)
