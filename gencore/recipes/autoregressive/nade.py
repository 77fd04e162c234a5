"""Autoregressive models of binary images, by maximum likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.data.splits import Split
    from gencore.recipes.autoregressive.nade_experiment import NADEExperiment

__all__ = ["NADERecipe"]

_DARN = used_by(model=("darn",))
_USED_BY: dict[str, UsedBy] = {
    "hidden_widths": used_by(model=("nade", "eonade", "made")),
    "latents": _DARN, "deterministic_widths": _DARN,
    "num_masks": used_by(model=("made",)),
    "order_agnostic": UsedBy(
        "model made and num_masks above 1",
        lambda fields: fields["model"] == "made" and fields["num_masks"] > 1,
    ),
}  # fmt: skip


@dataclass(kw_only=True)
class NADERecipe(ImageRecipe, OptimisedRecipe):
    """Autoregressive model of binarised images: NADE, EoNADE, MADE or DARN.

    Grey levels become bits once, before training. The defaults take about a minute on digits, with
    two CPU cores.
    """

    used_by = _USED_BY

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 100
    """Images in one step, over all devices together."""

    model: Literal["nade", "eonade", "made", "darn"] = "nade"
    """The model."""

    binarization: Literal["threshold", "stochastic"] = "threshold"
    """How a grey level becomes a bit: 1 from 128 on, or 1 with probability level / 255, drawn once
    for all runs."""

    order: Literal["raster", "random"] = "raster"
    """The order of the pixels, row by row or drawn from the seed; EoNADE learns all of them."""

    hidden_widths: tuple[int, ...] = (500,)
    """Widths of the hidden layers: one of nade, any number of eonade and made."""

    latents: tuple[int, ...] = (100,)
    """Units of the stochastic layers of darn, from the images upwards."""

    deterministic_widths: tuple[int, ...] = ()
    """Widths of the tanh layers in each network between two stochastic layers of darn; without it
    they are linear."""

    num_masks: int = 1
    """Sets of masks of made: further ones permute its hidden units."""

    order_agnostic: bool = False
    """Draw an order of the pixels for each further set of masks of made."""

    num_orderings: int = 5
    """Random orders of the pixels that measure eonade, each alone and as an ensemble."""

    importance_samples: int = 100
    """Samples of the latents that measure darn, beside the variational bound."""

    weight_decay: float = 0.0
    """Decoupled decay of the weights (AdamW)."""

    changeable = frozenset({"steps", "show_data", "num_orderings", "importance_samples"})
    tunable = frozenset({
        "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "weight_decay",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_masks", "num_orderings", "importance_samples")
        self.check_not_negative("weight_decay")
        for name in ("hidden_widths", "latents", "deterministic_widths"):
            widths = getattr(self, name)
            optional = name == "deterministic_widths"
            if min(widths, default=int(optional)) < 1:
                raise ValueError(
                    f"NADERecipe: {name} is {widths}; expected positive widths"
                    f"{'' if optional else ', at least one'}"
                )
        if self.model == "nade" and len(self.hidden_widths) > 1:
            raise ValueError(
                f"NADERecipe: hidden_widths is {self.hidden_widths}; expected one width for the "
                "model nade"
            )

    def load_part(self, split: "Split") -> "ImageDataset":
        from gencore.recipes.autoregressive.nade_experiment import binarized

        return binarized(super().load_part(split), self.binarization, split)

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "NADEExperiment":
        from gencore.recipes.autoregressive.nade_experiment import NADEExperiment

        return NADEExperiment(self, fabric, dataset)
