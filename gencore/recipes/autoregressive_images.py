"""Recipes of autoregressive models of images, by maximum likelihood."""

from dataclasses import dataclass
from typing import Literal

from gencore.recipes.levels import LevelsRecipe
from gencore.train import OptimisedRecipe

__all__ = ["AutoregressiveRecipe"]


@dataclass(kw_only=True)
class AutoregressiveRecipe(LevelsRecipe, OptimisedRecipe):
    """What recipes of autoregressive models of images have in common: training and sampling.

    Their experiments are :class:`AutoregressiveExperiment`, beside this file.
    """

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Images in one step, over all devices together."""

    class_conditional: bool = False
    """Condition the network on the image's class; the data need labels."""

    method: Literal["incremental", "naive"] = "incremental"
    """How samples are drawn: pixel by pixel with the features of what is done kept, or with the
    whole network for each pixel, which draws the same images but for rounding."""

    optimizer: Literal["adam", "adamax", "rmsprop"] = "adam"
    """Adam, or Adamax, its variant with the largest gradient in place of their mean square, or
    RMSProp."""

    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float | None = 5.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws samples and is measured; less at first."""

    changeable = frozenset({"steps", "show_data", "method"})
    tunable = frozenset({"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("warmup_steps")
        if self.ema_decay is None:
            raise ValueError(f"{type(self).__name__}: ema_decay is None; expected from 0 to 1")
