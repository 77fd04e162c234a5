"""What recipes of flow contrastive estimation share: the two players' options."""

from dataclasses import dataclass

from gencore.train import OptimisedRecipe
from gencore.train.recipe import Schedule

__all__ = ["FlowGameRecipe"]


@dataclass(kw_only=True)
class FlowGameRecipe(OptimisedRecipe):
    """A density and a flow in a game: one update of one of them a step.

    At first the flow learns by maximum likelihood, then the density alone, then they take turns.
    """

    learning_rate: float = 5e-3
    """Learning rate of the density's Adam."""

    flow_learning_rate: float = 1e-3
    """Learning rate of the flow's Adamax in the game."""

    flow_warmup_steps: int = 300
    """Steps at first in which the flow learns by maximum likelihood; with 0 it starts at random."""

    flow_warmup_learning_rate: float = 4e-3
    """Learning rate of the flow in these steps."""

    density_warmup_steps: int = 200
    """Steps after them in which the density alone learns, against the flow as it is."""

    cap: int = 2
    """Updates of one player in a row, at most, in the game."""

    schedule: Schedule = "cosine"
    """The learning rates after the warm-up: constant, or falling to 0 after the last step, in a
    line or in half a cosine."""

    max_nll: float = 100.0
    """Training has diverged when the flow's negative log-likelihood exceeds this, in nats."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("flow_learning_rate", "flow_warmup_learning_rate", "cap", "max_nll")
        self.check_not_negative("flow_warmup_steps", "density_warmup_steps")

    @property
    def is_game(self) -> bool:
        """Whether both players are trained."""
        return True

    @property
    def likelihood_steps(self) -> int:
        """Steps at first in which the flow learns by maximum likelihood."""
        return self.flow_warmup_steps

    @property
    def density_steps(self) -> int:
        """Steps after them in which the density alone learns."""
        return self.density_warmup_steps
