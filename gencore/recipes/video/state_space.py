"""Options of dynamic generators, whatever gives their first state."""

from dataclasses import dataclass

from gencore.models.video.names import FrameReduction
from gencore.recipes.video.whole_clips import WholeClipRecipe
from gencore.train import OptimisedRecipe

__all__ = ["StateSpaceRecipe"]


@dataclass(kw_only=True)
class StateSpaceRecipe(WholeClipRecipe, OptimisedRecipe):
    """A recipe of films that a state makes, which noise moves on from frame to frame."""

    data: str = "carphone"
    """Films: a name such as "carphone" or "moving-shapes", or the path of a film, a folder of
    frames or a folder of films (see gencore list)."""

    state_size: int = 20
    """Numbers of a state."""

    noise_size: int = 10
    """Numbers of the noise that moves it on."""

    appearance_size: int = 0
    """Numbers of a clip's appearance, for several clips; 0 for none."""

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

    learning_rate: float = 2e-3
    """Learning rate of Adam, after the warm-up."""

    tunable = frozenset({
        "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "langevin_steps", "step_std",
        "langevin_noise", "metropolis", "noise_std", "reduction",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "state_size", "noise_size", "width", "noise_std", "langevin_steps", "step_std"
        )
        self.check_not_negative("appearance_size")
        if any(width < 1 for width in self.hidden_widths):
            raise ValueError(
                f"{type(self).__name__}: hidden_widths is {self.hidden_widths}; expected positive "
                "widths"
            )
        if self.metropolis and not self.langevin_noise:
            raise ValueError(
                f"{type(self).__name__}: metropolis corrects steps with noise, but langevin_noise "
                "is False"
            )
