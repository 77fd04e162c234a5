"""What recipes of generators with an adversary share: the methods and their options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gencore.objectives.games.names import FDivergenceName, GeneratorLossKind
from gencore.recipes.adversarial.two_players import DISCRIMINATOR_FIELDS, TwoPlayerRecipe
from gencore.train import UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.train import BatchSource

__all__ = ["ADVERSARIAL_USES", "SCORES", "TRAINED", "TUNABLE", "AdversarialRecipe", "OptimizerName"]

MethodName = Literal[
    "gan", "hinge", "least-squares", "wgan", "f-gan", "ebgan", "bgan", "mbgan", "mixup", "mmd",
    "sinkhorn",
]  # fmt: skip
OptimizerName = Literal["adam", "sgd"]

SCORES = ("gan", "hinge", "least-squares", "wgan", "f-gan")
TRAINED = (*SCORES, "ebgan", "bgan", "mbgan", "mixup")
# What may differ on resume, of every adversarial recipe.
TUNABLE = TwoPlayerRecipe.tunable | {
    "discriminator_ema_decay", "gradient_penalty", "pulling_away", "smoothing",
}  # fmt: skip
_PLAYER = used_by(method=TRAINED)
_BATCHES = used_by(method=("bgan", "mbgan"))
_EBGAN = used_by(method=("ebgan",))

ADVERSARIAL_USES: dict[str, UsedBy] = {
    **dict.fromkeys(DISCRIMINATOR_FIELDS, _PLAYER),
    "discriminator_steps": _PLAYER, "discriminator_optimizer": _PLAYER, "updates": _PLAYER,
    "discriminator_ema_decay": used_by(method=("gan",)),
    "spectral_norm": used_by(method=(*SCORES, "mixup")),
    "gradient_penalty": used_by(method=SCORES),
    "weight_clip": used_by(method=("wgan",)), "generator_loss": used_by(method=("gan",)),
    "divergence": used_by(method=("f-gan",)), "margin": _EBGAN, "energy_power": _EBGAN,
    "pulling_away": _EBGAN, "group_size": _BATCHES, "smoothing": _BATCHES,
    "sinkhorn_epsilon": used_by(method=("sinkhorn",)), "num_proposals": used_by(method=("gan",)),
}  # fmt: skip


@dataclass(kw_only=True)
class AdversarialRecipe(TwoPlayerRecipe):
    """A generator and its adversary."""

    method: MethodName = "gan"
    """What the generator learns from. A discriminator of points: the logistic game (gan), hinge,
    least-squares, wgan, a bound of an f-divergence (f-gan), energies of an auto-encoder (ebgan),
    mixup. One of batches: bgan, mbgan. A distance, without a game: mmd, sinkhorn."""

    latent_size: int = 2
    """Numbers of normal noise that the generator gets."""

    batch_size: int = 128
    """Data points, and samples, in one step of either player, over all devices together."""

    discriminator_ema_decay: float | None = None
    """Decay of the average of the discriminator's weights that judges the proposals of a
    Metropolis-Hastings GAN; without it the weights themselves do."""

    optimizer: OptimizerName = "adam"
    """What trains the generator: Adam, or stochastic gradient descent."""

    discriminator_optimizer: OptimizerName = "adam"
    """What trains the discriminator."""

    momentum: float = 0.5
    """Decay of what the optimisers keep of earlier gradients, for both players: β₁ of Adam, the
    momentum of gradient descent."""

    discriminator_steps: int = 1
    """Steps of the discriminator, each on other data, in one of the generator."""

    updates: Literal["alternating", "simultaneous"] = "alternating"
    """Whether the generator's step meets the discriminator after its steps, or as it was before."""

    generator_loss: GeneratorLossKind = "non-saturating"
    """Loss of the generator in the logistic game."""

    divergence: FDivergenceName = "jensen-shannon"
    """What the discriminator of f-gan bounds."""

    gradient_penalty: float = 0.0
    """Weight of the penalty on the discriminator's slope; 0 for none."""

    spectral_norm: bool = False
    """Divide each layer's weights of the discriminator by their largest singular value."""

    weight_clip: float | None = None
    """Keep the weights of the discriminator within ± this."""

    margin: float = 1.0
    """Energy above which samples are not raised further."""

    energy_power: Literal[1, 2] = 1
    """Power of energies in both losses."""

    pulling_away: float = 0.0
    """Weight of the term that keeps the codes of samples apart; 0 for none."""

    group_size: int = 32
    """Points in one of the mixed batches that the discriminator judges; divides batch_size."""

    smoothing: float = 0.5
    """Batch smoothing: 0 for pure batches, ½ for all proportions alike."""

    sinkhorn_epsilon: float = 0.05
    """Entropic regularisation of the transport, in units of squared distances."""

    num_proposals: int = 0
    """Proposals of each chain of a Metropolis-Hastings GAN, whose samples are measured besides; 0
    for no chains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        self.check_positive(
            "latent_size", "discriminator_steps", "margin", "group_size", "sinkhorn_epsilon"
        )
        self.check_not_negative(
            "gradient_penalty", "pulling_away", "momentum", "smoothing", "num_proposals"
        )
        if self.weight_clip is not None:
            self.check_positive("weight_clip")
        if self.discriminator_ema_decay is not None:
            self.check_fraction("discriminator_ema_decay")
        if self.momentum >= 1 or self.smoothing > 0.5:
            raise ValueError(
                f"{owner}: momentum is {self.momentum} and smoothing {self.smoothing}; expected "
                "less than 1, and at most 0.5"
            )
        if self.accumulate > 1 and (self.spectral_norm or self.pulling_away or not self.is_game):
            cause = (
                "with spectral_norm each part of a batch would see a discriminator of its own"
                if self.spectral_norm
                else f"{'pulling_away' if self.is_game else self.method} compares the samples of "
                "a whole batch"
            )
            raise ValueError(f"{owner}: accumulate is {self.accumulate}, but {cause}")
        self._check_groups(self.accumulate)
        if self.method == "wgan" and not (
            self.gradient_penalty or self.spectral_norm or self.weight_clip
        ):
            raise ValueError(
                f"{owner}: method is wgan, whose discriminator needs a bound; expected "
                "gradient_penalty, spectral_norm or weight_clip"
            )

    @property
    def is_game(self) -> bool:
        """Whether there is a discriminator."""
        return self.method in TRAINED

    def grouped(self, fabric: "Fabric", source: "BatchSource") -> "BatchSource":
        """A batch for each step of the discriminator, of which the last is the generator's too."""
        from gencore.train.batch_groups import BatchGroups

        self._check_groups(self.accumulate * fabric.world_size)
        return BatchGroups(source, self.discriminator_steps)

    def _check_groups(self, parts: int) -> None:
        """Raise a ValueError unless each part of a batch is of whole groups."""
        if self.method in ("bgan", "mbgan") and self.batch_size % (self.group_size * parts):
            raise ValueError(
                f"{type(self).__name__}: batch_size is {self.batch_size} in {parts} parts; "
                f"expected a multiple of group_size, {self.group_size}, in each"
            )
