"""Generative latent flow and what it is compared with (Yan 2022, §3.2): models with a density of
codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gencore.models.latent.names import LikelihoodName
from gencore.objectives.weight_schedule import WeightSchedule
from gencore.train import ImageRecipe, OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.recipes.latent.glf_experiment import GLFExperiment

__all__ = ["GLFRecipe", "LatentModelName"]

LatentModelName = Literal[
    "glf", "regularised", "perceptual", "vae", "vae-flow-prior", "wae-gan", "wae-mmd",
    "two-stage-vae", "rae-gmm", "glo",
]  # fmt: skip

# Yan 2022, §3.2.6: the data sets, with their numbers of training images, in which epochs are told.
_DATA: dict[str, tuple[int, dict[str, Any]]] = {
    "mnist": (60_000, {"data": "mnist", "latent_size": 20, "flow_width": 64}),
    "cifar10": (50_000, {
        "data": "cifar-10-batches-bin", "image_size": 32, "latent_size": 64, "flow_width": 256,
    }),
    "celeba": (162_770, {"data": "celeba", "image_size": 64, "latent_size": 64, "flow_width": 256}),
}  # fmt: skip
_SHARED = {"channels": 64, "hidden_features": 1024, "flow_blocks": 4, "learning_rate": 1e-3}


def _preset(
    data: str, batch_size: int, epochs: int, halvings: tuple[tuple[int, float], ...], **fields: Any
) -> dict[str, Any]:
    """Settings in epochs: how many, and from which ones on the learning rate has which factor."""
    num_images, shared = _DATA[data]

    def steps(number: int) -> int:
        return round(number * num_images / batch_size)

    if "first_epochs" in fields:
        fields["first_steps"] = steps(fields.pop("first_epochs"))
    schedule: dict[str, Any] = {}
    if halvings:
        schedule = {
            "decay_steps": tuple(steps(epoch) for epoch, _ in halvings),
            "decay_factors": tuple(factor for _, factor in halvings),
        }
    return {
        **shared, **_SHARED, "batch_size": batch_size, "steps": steps(epochs), **schedule, **fields,
    }  # fmt: skip


def _halved(every: int, epochs: int) -> tuple[tuple[int, float], ...]:
    """Half the learning rate after every so many epochs."""
    return tuple((epoch, 0.5 ** (epoch // every)) for epoch in range(every, epochs, every))


def _halved_twice(every: tuple[int, int], epochs: tuple[int, int]) -> tuple[tuple[int, float], ...]:
    """The same for two stages, the second of which starts with the whole learning rate."""
    first, second = (_halved(*stage) for stage in zip(every, epochs, strict=True))
    return (*first, (epochs[0], 1.0), *((epochs[0] + epoch, factor) for epoch, factor in second))


_GLF = {
    "mnist": _preset("mnist", 256, 100, ((50, 0.5),)),
    "cifar10": _preset("cifar10", 256, 200, _halved(50, 200)),
    "celeba": _preset("celeba", 256, 40, ()),
}
# VAEs are trained twice as long, with β = 1 and p(x | z) of unit variance.
_VAE = {
    "mnist": _preset("mnist", 256, 200, ((100, 0.5),)),
    "cifar10": _preset("cifar10", 256, 400, _halved(100, 400)),
    "celeba": _preset("celeba", 256, 80, ((40, 0.5),)),
}
_WAE = {"adversary_weight": 10.0, "adversary_learning_rate": 5e-4}
_WAE_GAN = {
    "mnist": _preset("mnist", 100, 100, ((30, 0.5), (50, 0.1)), **_WAE),
    "cifar10": _preset("cifar10", 100, 200, ((60, 0.5), (120, 0.1)), **_WAE),
    "celeba": _preset(
        "celeba", 100, 55, ((30, 0.5), (50, 0.1)), adversary_weight=1.0, prior_std=2**0.5,
        learning_rate=3e-4, adversary_learning_rate=1e-3,
    ),
}  # fmt: skip
# The paper's second VAE has three layers of 1024 units, and its scales are learned.
_STAGES = {"learning_rate": 1e-4, "second_width": 1024, "second_layers": 3, "learn_scale": True}
_TWO_STAGE = {
    "mnist": _preset(
        "mnist", 64, 1200, _halved_twice((150, 300), (400, 800)), first_epochs=400, **_STAGES
    ),
    "cifar10": _preset(
        "cifar10", 64, 3000, _halved_twice((300, 600), (1000, 2000)), first_epochs=1000, **_STAGES
    ),
    "celeba": _preset(
        "celeba", 64, 420, _halved_twice((48, 120), (120, 300)), first_epochs=120, **_STAGES
    ),
}


def _rows(data: str) -> dict[str, dict[str, Any]]:
    """The rows of Table 3.1, by what is added to the name of the data set."""
    rows: dict[str, dict[str, Any]] = {
        "": _GLF[data],
        "-perceptual": {**_GLF[data], "model": "perceptual"},
        "-vae-flow-prior": {**_VAE[data], "model": "vae-flow-prior"},
        "-vae": {**_VAE[data], "model": "vae"},
        "-wae-gan": {**_WAE_GAN[data], "model": "wae-gan"},
        "-two-stage-vae": {**_TWO_STAGE[data], "model": "two-stage-vae"},
        "-rae-gmm": {**_GLF[data], "model": "rae-gmm", "code_penalty": 0.5, "components": 10},
    }
    for name in ("-vae", "-wae-gan", "-two-stage-vae", "-rae-gmm"):
        rows[name] = _without_flow(rows[name])
    if data == "celeba":  # our features are those of a classifier, and it has no labels
        del rows["-perceptual"]
    return rows


def _without_flow(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not name.startswith("flow_")}


# Figures 3.7 and 3.8, for the weights β = 50, 100 and 400 of the reconstruction.
_SWEEP = _preset("cifar10", 256, 500, _halved(150, 500))
_YAN_2022 = {
    f"yan2022-{data}{name}": fields for data in _DATA for name, fields in _rows(data).items()
} | {
    f"yan2022-cifar10-{model}-{beta}": {**_SWEEP, "model": model, "recon_weight": float(beta)}
    for model in ("regularised", "vae-flow-prior")
    for beta in (50, 100, 400)
}

# Tolstikhin et al. 2018, §4, whose λ = 10 weighs against ‖x − x̂‖², here against half of it; and
# settings of ours.
_MNIST = {
    "tolstikhin2018-mnist": _without_flow(_preset(
        "mnist", 100, 100, ((30, 0.5), (50, 0.1)), model="wae-mmd", latent_size=8,
        divergence_weight=5.0,
    )),
    "mnist-glo": _without_flow(_preset("mnist", 128, 50, (), model="glo", schedule="cosine")),
}  # fmt: skip

_FLOWS = used_by(model=("glf", "regularised", "perceptual", "vae-flow-prior"))
_ADVERSARY, _CODES = used_by(model=("wae-gan",)), used_by(model=("glo",))
_SECOND_VAE = used_by(model=("two-stage-vae",))
_MIXTURE = used_by(model=("rae-gmm",))
_USED_BY: dict[str, UsedBy] = {
    "flow_blocks": _FLOWS, "flow_width": _FLOWS, "flow_weight_decay": _FLOWS,
    "stages": used_by(model=("glf", "perceptual")),
    "first_steps": UsedBy(
        "stages 2 or model two-stage-vae",
        lambda fields: fields["stages"] == 2 or fields["model"] == "two-stage-vae",
    ),
    "recon_weight": used_by(model=("regularised", "vae", "vae-flow-prior")),
    "likelihood": used_by(model=("vae", "vae-flow-prior", "two-stage-vae")),
    "learn_scale": used_by(
        model=("vae", "vae-flow-prior", "two-stage-vae"), likelihood=("gaussian",)
    ),
    "adversary_weight": _ADVERSARY, "adversary_learning_rate": _ADVERSARY,
    "adversary_width": _ADVERSARY, "prior_std": used_by(model=("wae-gan", "wae-mmd")),
    "divergence_weight": used_by(model=("wae-mmd",)),
    "inner_steps": _CODES, "latent_learning_rate": _CODES,
    "second_width": _SECOND_VAE, "second_layers": _SECOND_VAE,
    "code_penalty": _MIXTURE, "components": _MIXTURE,
}  # fmt: skip


@dataclass(kw_only=True)
class GLFRecipe(ImageRecipe, OptimisedRecipe):
    """Generative latent flow: an autoencoder and a flow of its codes, and its competitors.

    The defaults take half a minute on digits, with two CPU cores. The presets have what the sources
    state, in epochs of the 60,000 images of MNIST, of which 5,000 come with gencore; where the
    folders of CIFAR-10 and CelebA have other names than theirs, give them with --data.
    """

    presets = _YAN_2022 | _MNIST
    used_by = _USED_BY

    steps: int = 1500
    """Optimisation steps of the whole run, of both stages together."""

    batch_size: int = 128
    """Images in one step, over all devices together; at least 2 on each."""

    model: LatentModelName = "glf"
    """What is trained: generative latent flow, with its encoder regularised by the flow, or with a
    perceptual distance; a VAE, or one whose prior is a flow's; an autoencoder whose codes an
    adversary or kernels hold against a prior; a VAE of a VAE's latents; a regularised autoencoder
    and a Gaussian mixture; or a decoder and a code of each training image, without an encoder."""

    latent_size: int = 8
    """Latents of an image."""

    channels: int = 16
    """Channels of the encoder's first convolution; the second has twice as many."""

    hidden_features: int = 128
    """Features of the fully connected layer beside the latents."""

    flow_blocks: int = 4
    """Blocks of two couplings in the flow."""

    flow_width: int = 64
    """Units in each of the two hidden layers of a coupling's network."""

    flow_weight_decay: float = 2e-5
    """Weight of half the squared weights of the flow in its gradients."""

    stages: Literal[1, 2] = 1
    """Train autoencoder and flow at once (1), or the flow after the autoencoder (2)."""

    first_steps: int = 750
    """Steps of the first stage of two: those of the autoencoder, or of the first VAE."""

    recon_weight: float = 1.0
    """Weight β of the reconstruction against the density of the latents."""

    likelihood: LikelihoodName = "gaussian"
    """Distribution of pixels around what a VAE decodes, in two stages the first one."""

    learn_scale: bool = False
    """Learn the standard deviation of the pixels, which is 1 otherwise."""

    adversary_weight: float = 10.0
    """Weight of what the adversary says of the codes in the autoencoder's loss."""

    adversary_learning_rate: float = 5e-4
    """Learning rate of the adversary's Adam."""

    adversary_width: int = 512
    """Units in each of the four hidden layers of the adversary."""

    prior_std: float = 1.0
    """Standard deviation of the prior that codes are held against."""

    divergence_weight: float = 10.0
    """Weight of the kernels' distance between codes and prior in the autoencoder's loss."""

    inner_steps: int = 1
    """Steps of Adam on the codes of a batch before each of the decoder."""

    latent_learning_rate: float = 0.1
    """Learning rate of Adam on codes, which are kept in the unit ball."""

    second_width: int = 128
    """Units in each hidden layer of the second VAE's encoder and decoder."""

    second_layers: int = 3
    """Hidden layers of each of them."""

    code_penalty: float = 0.5
    """Weight of the squared norm of the codes."""

    components: int = 10
    """Gaussians in the mixture, which is fitted to the codes after the last step."""

    bound_samples: int = 1000
    """Latents of an image in the bound that evaluate reports of VAEs beside that of one."""

    decay_steps: tuple[int, ...] = ()
    """Numbers of done steps from which on learning rates have the factors of decay_factors."""

    decay_factors: tuple[float, ...] = ()
    """Factors of the learning rates from decay_steps on."""

    learning_rate: float = 1e-3
    """Learning rate of Adam, after the warm-up."""

    tunable = frozenset({
        "learning_rate", "adversary_learning_rate", "decay_steps", "decay_factors", "warmup_steps",
        "max_grad_norm", "ema_decay", "flow_weight_decay", "recon_weight", "adversary_weight",
        "divergence_weight", "code_penalty", "bound_samples",
    })  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "latent_size", "channels", "hidden_features", "flow_blocks", "flow_width",
            "first_steps", "adversary_learning_rate", "adversary_width", "prior_std",
            "second_width", "second_layers", "components", "latent_learning_rate",
            "bound_samples",
        )  # fmt: skip
        self.check_not_negative(
            "flow_weight_decay", "recon_weight", "adversary_weight", "divergence_weight",
            "code_penalty", "inner_steps",
        )  # fmt: skip
        name = type(self).__name__
        if self.accumulate > 1:
            raise ValueError(
                f"{name}: accumulate is {self.accumulate}, but the networks normalise over a "
                "batch, which its parts are not"
            )
        if self.batch_size < 2:
            raise ValueError(
                f"{name}: batch_size is {self.batch_size}; expected at least 2, as the networks "
                "normalise over a batch"
            )
        if self.decay_steps and (self.schedule != "constant" or self.warmup_steps):
            raise ValueError(
                f"{name}: decay_steps is {self.decay_steps}, but the schedule is {self.schedule} "
                f"after {self.warmup_steps} warmup_steps; expected one of the two"
            )
        try:
            self.decay()
        except ValueError as error:
            raise ValueError(
                f"{name}: decay_steps and decay_factors do not fit each other: {error}"
            ) from error

    def decay(self) -> WeightSchedule:
        """The factor of the learning rates, by the number of done steps."""
        return WeightSchedule(1.0, tuple(self.decay_steps), tuple(self.decay_factors))

    def build(self, fabric: "Fabric", dataset: "ImageDataset") -> "GLFExperiment":
        from gencore.recipes.latent.glf_experiment import GLFExperiment

        return GLFExperiment(self, fabric, dataset)
