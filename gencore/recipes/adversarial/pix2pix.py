"""Translation of images, learned from pairs (Isola et al. 2017)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.recipes.adversarial.two_players import DISCRIMINATOR_FIELDS, TwoPlayerRecipe
from gencore.train import ImageRecipe, UsedBy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.adversarial.pix2pix_experiment import Pix2PixExperiment

__all__ = ["PairTask", "Pix2PixRecipe"]

PairTask = Literal["colours", "details", "edges", "left-to-right", "right-to-left"]

# Isola et al. 2017, §6.1 and §6.2, for pairs in one picture of 256x512 pixels. Its smallest sets
# of pairs, of 400 pictures, were trained for 200 passes.
_ISOLA_2017: dict[str, Any] = {
    "task": "right-to-left", "num_scales": 8, "width": 64, "patch_scales": 3, "batch_size": 1,
    "steps": 80_000, "learning_rate": 2e-4, "discriminator_learning_rate": 2e-4,
    "reconstruction_weight": 100.0,
}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    "isola2017": _ISOLA_2017,
    "isola2017-colours": {**_ISOLA_2017, "task": "colours", "batch_size": 4},
    # Wang et al. 2018, §3.2 and §3.3, with this generator.
    "wang2018": {**_ISOLA_2017, "num_discriminators": 3, "game": "least-squares",
                 "reconstruction_weight": 0.0, "feature_weight": 10.0,
                 "normalization": "instance"},
}  # fmt: skip

_USED_BY = {
    name: UsedBy("an adversarial_weight above 0", lambda fields: fields["adversarial_weight"] > 0)
    for name in (
        *DISCRIMINATOR_FIELDS, "game", "feature_weight", "discriminator_width",
        "num_discriminators", "patch_scales",
    )
} | {"show_data": UsedBy("recipes whose samples are no translations", lambda _: False)}  # fmt: skip


@dataclass(kw_only=True)
class Pix2PixRecipe(ImageRecipe, TwoPlayerRecipe):
    """Translation of images from pairs: losses of pixels, and discriminators of patches.

    Pairs are made of any images (task), or each image has both halves of one. Measures compare the
    translations of test images with the truth. The defaults take five minutes with two CPU cores.
    """

    presets = _PRESETS
    used_by = _USED_BY
    figure_samples = 8

    data: str = "photographs"
    """Images: a name such as "photographs" or "textures", or the path of a folder, an array or
    shards (see gencore list). Their sides have to be multiples of 2^num_scales."""

    task: PairTask = "colours"
    """What is given and what is wanted: colours of a grey image; details of one of a quarter of the
    size; an image of the strength of its edges; or one half of each image of the other."""

    steps: int = 1000
    """Steps of both players in the whole run."""

    batch_size: int = 16
    """Pairs in one step, over all devices together."""

    num_scales: int = 4
    """Halvings of the generator, a U-Net."""

    width: int = 32
    """Channels of the finest features of the generator; they double to eight times as many."""

    dropout: float = 0.5
    """Part of the coarse features that is dropped, the generator's noise, also in use."""

    normalization: Literal["batch", "instance", "none"] = "batch"
    """What both networks normalise over."""

    num_discriminators: int = 1
    """Discriminators, each of half the size of the one before."""

    patch_scales: int = 1
    """Halvings of a discriminator; it judges patches of 16, 34, 70 or 142 pixels for 1 to 4."""

    discriminator_width: int = 32
    """Channels of the finest features of a discriminator; they double to eight times as many."""

    game: Literal["logistic", "hinge", "least-squares"] = "logistic"
    """The losses of both players."""

    adversarial_weight: float = 1.0
    """Weight of the generator's loss in the game; with 0 there is no discriminator."""

    reconstruction_weight: float = 100.0
    """Weight of the mean absolute difference of pixels in [-1, 1]."""

    feature_weight: float = 0.0
    """Weight of the difference of the discriminators' features."""

    learning_rate: float = 1e-3
    """Learning rate of the generator's Adam, after the warm-up."""

    discriminator_learning_rate: float = 2e-4
    """Learning rate of the discriminators' Adam, after their warm-up."""

    beta1: float = 0.5
    """Decay of the average of gradients in both."""

    tunable = TwoPlayerRecipe.tunable | {
        "beta1", "dropout", "reconstruction_weight", "feature_weight",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "num_scales", "width", "num_discriminators", "patch_scales", "discriminator_width"
        )
        self.check_not_negative(
            "adversarial_weight", "reconstruction_weight", "feature_weight", "dropout", "beta1"
        )
        if self.dropout >= 1 or self.beta1 >= 1:
            raise ValueError(
                f"Pix2PixRecipe: dropout is {self.dropout} and beta1 {self.beta1}; expected less "
                "than 1"
            )
        if not (self.adversarial_weight or self.reconstruction_weight):
            raise ValueError(
                "Pix2PixRecipe: adversarial_weight and reconstruction_weight are 0; expected one "
                "of them to be positive"
            )
        if self.accumulate > 1 and self.normalization == "batch":
            raise ValueError(
                f"Pix2PixRecipe: accumulate is {self.accumulate}, but normalization is over a "
                "batch, which its parts are not"
            )

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "Pix2PixExperiment":
        from gencore.recipes.adversarial.pix2pix_experiment import Pix2PixExperiment

        return Pix2PixExperiment(self, fabric, dataset)
