"""How the models of latents are trained: by one loss, in two stages, as a game, or code by code."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gencore.data import to_float
from gencore.inference import DataLatents
from gencore.models import (
    GLO,
    VAE,
    WAEGAN,
    WAEMMD,
    Autoencoder,
    Coded,
    Flow,
    GenerativeLatentFlow,
    LatentGenerator,
    TwoStageVAE,
    VAELoss,
)
from gencore.objectives import adversarial_discriminator_loss, laplacian_distance
from gencore.ops import random_key
from gencore.recipes.latent.glf import GLFRecipe
from gencore.recipes.latent.latents_of_images import LatentsState
from gencore.train import Batch, Optimisation, StateObject
from gencore.train.batch_norm import synchronise_batch_norm
from gencore.train.optimisation import make_scheduler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "CodeByCode",
    "FlowAfterwards",
    "Game",
    "OneLoss",
    "Training",
    "VAEAfterwards",
    "optimise",
]

First = TypeVar("First", bound=nn.Module)


class Training(ABC):
    """The modules of a model in training.

    Attributes:
        state: what a checkpoint has to hold.
    """

    state: Mapping[str, StateObject]

    @property
    @abstractmethod
    def model(self) -> LatentGenerator:
        """The model with averaged weights, if they are averaged, in evaluation mode."""

    @abstractmethod
    def step(self, batch: Batch, done: int) -> dict[str, Tensor]:
        """One step on images, after so many done steps; scalars to log."""


class OneLoss(Training):
    """All of a model by one loss."""

    def __init__(self, optimisation: Optimisation) -> None:
        self._optimisation = optimisation
        self.state = optimisation.state

    @property
    def model(self) -> LatentGenerator:
        model = self._optimisation.averaged.eval()
        assert isinstance(model, LatentGenerator)
        return model

    def step(self, batch: Batch, done: int) -> dict[str, Tensor]:
        module = self._optimisation.module.train()
        key = random_key(device=batch.x.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            draws = isinstance(module, VAE | WAEMMD)
            noise = {"key": key, "first": part.first} if draws else {}
            terms = self._optimisation.model(to_float(part.x, 0, 1), **noise)
            return dict(terms._asdict())

        return self._optimisation.step(batch, loss)


class Afterwards(Training, Generic[First]):
    """A module alone, and then a second one alone, on the codes that the first gives."""

    def __init__(self, first: Optimisation, second: Optimisation, first_steps: int) -> None:
        self._first, self._second, self._first_steps = first, second, first_steps
        self.state = {
            f"{stage}_{name}": thing
            for stage, part in (("first", first), ("second", second))
            for name, thing in part.state.items()
        }

    @property
    @abstractmethod
    def first(self) -> First:
        """The first module with averaged weights, in evaluation mode."""

    @abstractmethod
    def _first_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        """The first one's loss of images."""

    @abstractmethod
    def _codes(self, batch: Batch, key: Tensor) -> Tensor:
        """The codes of images."""

    @abstractmethod
    def _second_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        """The second one's loss of codes."""

    def step(self, batch: Batch, done: int) -> dict[str, Tensor]:
        key, code_key = (random_key(device=batch.x.device) for _ in range(2))
        if done < self._first_steps:
            self._first.module.train()
            return self._first.step(batch, lambda part: self._first_loss(part, key))
        with torch.no_grad():
            codes = self._codes(batch, code_key)
        self._second.module.train()
        coded = Batch(codes, None, batch.index, batch.first)
        return self._second.step(coded, lambda part: self._second_loss(part, key))


class FlowAfterwards(Afterwards[Autoencoder]):
    """Generative latent flow in two stages: the autoencoder, and the flow of its codes."""

    @property
    def first(self) -> Autoencoder:
        module = self._first.averaged.eval()
        assert isinstance(module, Autoencoder)
        return module

    @property
    def model(self) -> GenerativeLatentFlow:
        flow = self._second.averaged.eval()
        assert isinstance(flow, Flow)
        return GenerativeLatentFlow(self.first, flow).eval()

    def _first_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        coded: Coded = self._first.model(to_float(part.x, 0, 1))
        return {"reconstruction": coded.error.mean()}

    def _codes(self, batch: Batch, key: Tensor) -> Tensor:
        return self.first.encode(to_float(batch.x, 0, 1))

    def _second_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        return {"nll": -self._second.model(part.x).mean()}


class VAEAfterwards(Afterwards[VAE]):
    """A VAE of images, and a VAE of its latents."""

    @property
    def first(self) -> VAE:
        module = self._first.averaged.eval()
        assert isinstance(module, VAE)
        return module

    @property
    def model(self) -> TwoStageVAE:
        second = self._second.averaged.eval()
        assert isinstance(second, VAE)
        return TwoStageVAE(self.first, second).eval()

    def _first_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        terms: VAELoss = self._first.model(to_float(part.x, 0, 1), key=key, first=part.first)
        return dict(terms._asdict())

    def _codes(self, batch: Batch, key: Tensor) -> Tensor:
        return self.model.draw_codes(to_float(batch.x, 0, 1), key=key, first=batch.first)

    def _second_loss(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        terms: VAELoss = self._second.model(part.x, key=key, first=part.first)
        return {f"second_{name}": value for name, value in terms._asdict().items()}


class Game(Training):
    """A step of the adversary of the codes, and one of the autoencoder."""

    def __init__(
        self, recipe: GLFRecipe, autoencoder: Optimisation, adversary: Optimisation
    ) -> None:
        self._recipe, self._autoencoder, self._adversary = recipe, autoencoder, adversary
        self.state = {
            f"{player}_{name}": thing
            for player, part in (("autoencoder", autoencoder), ("adversary", adversary))
            for name, thing in part.state.items()
        }

    @property
    def model(self) -> WAEGAN:
        return self._made_of(self._autoencoder.averaged).eval()

    def _made_of(self, autoencoder: nn.Module) -> WAEGAN:
        assert isinstance(autoencoder, Autoencoder)
        return WAEGAN(
            autoencoder, self._adversary.module,
            adversary_weight=self._recipe.adversary_weight, prior_std=self._recipe.prior_std,
        )  # fmt: skip

    def step(self, batch: Batch, done: int) -> dict[str, Tensor]:
        wae = self._made_of(self._autoencoder.module).train()
        key = random_key(device=batch.x.device)
        # One pass serves both players: a second one would move the running statistics twice.
        coded: Coded = self._autoencoder.model(to_float(batch.x, 0, 1))

        def adversary_loss(part: Batch) -> dict[str, Tensor]:
            prior = self._recipe.prior_std * part.normal((self._recipe.latent_size,), key=key)
            logits = self._adversary.model(torch.cat([prior, coded.codes.detach()]))
            return {"adversary_loss": adversarial_discriminator_loss(*logits.chunk(2))}

        scalars = self._adversary.step(batch, adversary_loss)
        loss = self._autoencoder.step(batch, lambda part: dict(wae.loss(coded)._asdict()))
        return {**loss, "adversary_loss": scalars["adversary_loss"]}


class CodeByCode(Training):
    """Generative latent optimisation: steps on the codes of a batch, and one of the decoder."""

    def __init__(self, recipe: GLFRecipe, decoder: Optimisation, latents: DataLatents) -> None:
        self._recipe, self._decoder, self._latents = recipe, decoder, latents
        self.state = {**decoder.state, "latents": LatentsState(latents)}

    @property
    def model(self) -> GLO:
        return self._made_of(self._decoder.averaged).eval()

    def _made_of(self, decoder: nn.Module) -> GLO:
        return GLO(
            decoder, self._latents, distance=laplacian_distance,
            num_inner_steps=self._recipe.inner_steps,
        )  # fmt: skip

    def step(self, batch: Batch, done: int) -> dict[str, Tensor]:
        glo = self._made_of(self._decoder.module).train()
        x = to_float(batch.x, 0, 1)
        # The codes' learning rate falls as the decoder's does.
        (group,) = self._decoder.optimizer.param_groups
        codes = glo.descend(x, batch.index, factor=group["lr"] / self._recipe.learning_rate)

        def loss(part: Batch) -> dict[str, Tensor]:
            return {"reconstruction": glo.distance(x, self._decoder.model(codes)).mean()}

        return self._decoder.step(batch, loss)


def optimise(
    recipe: GLFRecipe,
    fabric: "Fabric",
    module: nn.Module,
    *,
    learning_rate: float | None = None,
    first_step: int = 0,
    steps: int | None = None,
    method: str = "forward",
) -> Optimisation:
    """A module with Adam; weights of a flow in it decay.

    Args:
        recipe: the settings.
        fabric: the run's processes.
        module: what is trained.
        learning_rate: the recipe's if None.
        first_step: the steps of the run before the module's first one.
        steps: those of the module; the recipe's if None.
        method: of the module, which is the loss.
    """
    module = synchronise_batch_norm("GLFRecipe", fabric, module)
    flows = [part for part in module.modules() if isinstance(part, Flow)]
    decaying = {weight for flow in flows for weight in flow.parameters()}
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight not in decaying]},
        {
            "params": [weight for weight in weights if weight in decaying],
            "weight_decay": recipe.flow_weight_decay,
        },
    ]
    optimizer = torch.optim.Adam(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate if learning_rate is None else learning_rate,
        fused=True,
    )
    scheduler: LRScheduler | None
    if recipe.decay_steps:
        factor = recipe.decay()
        scheduler = LambdaLR(optimizer, lambda step: factor(first_step + step))
    else:
        scheduler = make_scheduler(
            optimizer, recipe.schedule, warmup_steps=recipe.warmup_steps,
            steps=recipe.steps if steps is None else steps,
        )  # fmt: skip
    return Optimisation(
        fabric, module, optimizer, scheduler=scheduler, max_grad_norm=recipe.max_grad_norm,
        ema_decay=recipe.ema_decay, ema_warmup=True, method=method,
        advice="a lower learning_rate or max_grad_norm, or a larger recon_weight",
    )  # fmt: skip
