"""VQ-VAE on images, and then an autoregressive prior of its codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.autoregressive.vqvae_experiment import VQVAEExperiment

__all__ = ["VQVAERecipe"]

_USED_BY: dict[str, UsedBy] = {"decay": used_by(update=("ema",))}


@dataclass(kw_only=True)
class VQVAERecipe(ImageRecipe, OptimisedRecipe):
    """VQ-VAE on images: an autoencoder with a code book, then a Gated PixelCNN of its codes.

    The defaults take a few minutes on digits, with two CPU cores.
    """

    used_by = _USED_BY

    steps: int = 1600
    """Optimisation steps of the whole run, of the autoencoder and of the prior together."""

    vq_steps: int = 1000
    """Steps of the autoencoder; the prior is trained in all further ones, on codes that stay."""

    batch_size: int = 64
    """Images in one step, over all devices together."""

    hidden_channels: int = 64
    """Width of the encoder and of the decoder."""

    num_blocks: int = 2
    """Residual blocks of the encoder, and of the decoder."""

    num_codes: int = 64
    """Vectors in the code book."""

    code_dim: int = 16
    """Numbers of such a vector."""

    downsampling: int | None = None
    """Pixels on the side of a code, a power of two; without it 2 for sides below 16, else 4."""

    update: Literal["ema", "loss"] = "ema"
    """What the code book follows: averages of what its codes stand for, or the loss."""

    decay: float = 0.99
    """Decay of these averages."""

    commitment: float = 0.25
    """Weight of the encoder's distance to its codes."""

    revive_after: int | None = 20
    """Steps after which a code that none has used starts anew; without it dead codes stay."""

    prior_channels: int = 32
    """Width of both stacks of the prior. Few images of codes are soon learned by heart."""

    prior_layers: int = 3
    """Layers of the prior."""

    prior_embedding: int = 8
    """Learned numbers by which the prior sees a code."""

    warmup_steps: int = 100
    """Steps in which the learning rate grows linearly to its value, of the autoencoder and again of
    the prior."""

    max_grad_norm: float | None = 5.0
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = 0.99
    """Decay of the average of the weights that draws samples and is measured; less at first."""

    tunable = frozenset(
        {"learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "commitment", "decay"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "vq_steps", "hidden_channels", "num_codes", "code_dim", "prior_channels",
            "prior_layers", "prior_embedding",
        )  # fmt: skip
        self.check_not_negative("num_blocks", "commitment")
        self.check_fraction("decay")
        if self.num_codes < 2:
            raise ValueError(f"VQVAERecipe: num_codes is {self.num_codes}; expected at least 2")
        if self.accumulate > 1:
            raise ValueError(
                f"VQVAERecipe: accumulate is {self.accumulate}, but the code book learns from a "
                "whole batch, which its parts are not"
            )
        for name in ("downsampling", "revive_after"):
            if getattr(self, name) is not None:
                self.check_positive(name)

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "VQVAEExperiment":
        from gencore.recipes.autoregressive.vqvae_experiment import VQVAEExperiment

        return VQVAEExperiment(self, fabric, dataset)
