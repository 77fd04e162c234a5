"""What recipes of a generator and a discriminator share: the options of both players' training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencore.train import OptimisedRecipe
from gencore.train.recipe import Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn
    from torch.optim import Optimizer

    from gencore.train import Optimisation

__all__ = ["DISCRIMINATOR_FIELDS", "TwoPlayerRecipe"]

# What has no effect where there is no discriminator.
DISCRIMINATOR_FIELDS = (
    "discriminator_learning_rate", "discriminator_schedule", "discriminator_warmup_steps",
    "discriminator_max_grad_norm",
)  # fmt: skip


@dataclass(kw_only=True)
class TwoPlayerRecipe(OptimisedRecipe):
    """A recipe that trains a generator and a discriminator: the settings of an `Optimisation` each.

    Example:
        >>> from gencore.recipes.adversarial.gan import GANRecipe
        >>> recipe = GANRecipe(discriminator_schedule="linear")
        >>> recipe.schedule, "steps" in recipe.tuned()  # where the rate falls to 0 depends on them
        ('constant', True)
    """

    learning_rate: float = 1e-3
    """Learning rate of the generator, after the warm-up."""

    schedule: Schedule = "constant"
    """The generator's learning rate after the warm-up: constant, or falling to 0 after the last
    step, in a line or in half a cosine."""

    warmup_steps: int = 0
    """Steps in which the generator's learning rate grows linearly to its value."""

    max_grad_norm: float | None = None
    """Longer gradients of the generator's loss are cut to this norm; without it none is."""

    ema_decay: float | None = None
    """Decay of the average of the generator's weights that draws samples and is measured; without
    it the weights themselves do."""

    discriminator_learning_rate: float = 1e-3
    """Learning rate of the discriminator, after its warm-up."""

    discriminator_schedule: Schedule = "constant"
    """The discriminator's learning rate after its warm-up, as for schedule."""

    discriminator_warmup_steps: int = 0
    """Steps of the discriminator in which its learning rate grows linearly to its value."""

    discriminator_max_grad_norm: float | None = None
    """Longer gradients of the discriminator's loss are cut to this norm; without it none is."""

    tunable = frozenset({
        "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay",
        "discriminator_learning_rate", "discriminator_warmup_steps", "discriminator_max_grad_norm",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("discriminator_learning_rate")
        self.check_not_negative("discriminator_warmup_steps")
        if self.discriminator_max_grad_norm is not None:
            self.check_positive("discriminator_max_grad_norm")

    def tuned(self) -> frozenset[str]:
        """Those, and the steps where the schedule of either player ends at the last one."""
        ends = frozenset() if self.discriminator_schedule == "constant" else frozenset({"steps"})
        return super().tuned() | ends

    def discriminator_optimisation(
        self,
        fabric: "Fabric",
        module: "nn.Module",
        optimizer: "Optimizer",
        *,
        steps_each: int = 1,
        ema_decay: float | None = None,
        advice: str,
    ) -> "Optimisation":
        """The `Optimisation` of a discriminator with these settings.

        Args:
            fabric, module, optimizer, ema_decay, advice: as of `Optimisation`.
            steps_each: the discriminator's steps in one of the run, which its schedule counts.
        """
        from gencore.train.optimisation import Optimisation, make_scheduler

        scheduler = make_scheduler(
            optimizer, self.discriminator_schedule,
            warmup_steps=self.discriminator_warmup_steps, steps=self.steps * steps_each,
        )  # fmt: skip
        return Optimisation(
            fabric, module, optimizer, scheduler=scheduler,
            max_grad_norm=self.discriminator_max_grad_norm, ema_decay=ema_decay, ema_warmup=True,
            accumulate=self.accumulate, advice=advice,
        )  # fmt: skip
