"""A generator and its adversary in training."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.metrics import GaussianKernel
from gencore.models import (
    Adversary,
    AutoencoderEnergy,
    BatchAdversary,
    DistanceAdversary,
    EnergyAdversary,
    MixupAdversary,
    PlattScaling,
    ScoreAdversary,
)
from gencore.nn import clip_weights
from gencore.nn.parametrized import spectral_norm
from gencore.objectives import (
    AdversarialGame,
    BGANLoss,
    EnergyGame,
    FDivergenceGame,
    HingeGame,
    LeastSquaresGame,
    LogisticGame,
    MBGANLoss,
    WassersteinGame,
    maximum_mean_discrepancy,
    sinkhorn_divergence,
)
from gencore.ops import philox_normal, random_key, split_key
from gencore.ops.random import stream_key
from gencore.recipes.adversarial.adversarial import AdversarialRecipe, OptimizerName
from gencore.samplers import MetropolisHastingsGAN
from gencore.train import Batch, Optimisation, StateObject
from gencore.train.batch_groups import split_group
from gencore.train.batch_norm import synchronise_batch_norm
from gencore.train.chunks import chunks, in_chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["AdversarialTraining", "Networks", "discriminator_scalars", "make_adversary"]

_ADVICE = "lower learning rates, gradient_penalty, spectral_norm or max_grad_norm"
# Bandwidths of the kernels of MMD, for data of two dimensions: from within a mode to between them.
# They grow with the root of the dimensions, as distances do.
_BANDWIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# After those of larger ε. A step of training needs no exact transport.
_SINKHORN_ITERATIONS = 10
# What is logged of the discriminator, where the generator has the same.
_BESIDE = {"loss": "discriminator_loss", "grad_norm": "discriminator_grad_norm"}
# Chains that run at once.
_CHUNK = 1024


class Networks:
    """What adversaries are made of, for data of one kind.

    Args:
        scores: makes a discriminator of points, [N, ...] → [N] or [N, 1].
        set_scores: one of sets, [G, B, ...] → [G, B].
        energy: an auto-encoder.
    """

    def __init__(
        self,
        scores: Callable[[], nn.Module],
        set_scores: Callable[[], nn.Module],
        energy: Callable[[], AutoencoderEnergy],
    ) -> None:
        self.scores, self.set_scores, self.energy = scores, set_scores, energy


class AdversarialTraining:
    """Steps of an adversary, if it has any, and one of the generator.

    Args:
        recipe: the options.
        fabric: the run's processes.
        generator: noise [N, L], and what is given → samples.
        adversary: its opponent.
        noise_size: L; the recipe's `latent_size` by default.
        given: what the generator gets of a batch beside noise; by default its classes, if any.

    Attributes:
        state: what a checkpoint has to hold.
    """

    def __init__(
        self,
        recipe: AdversarialRecipe,
        fabric: "Fabric",
        generator: nn.Module,
        adversary: Adversary,
        *,
        noise_size: int | None = None,
        given: Callable[[Batch], Sequence[Tensor]] | None = None,
    ) -> None:
        self._recipe, self._fabric = recipe, fabric
        self._noise_size = recipe.latent_size if noise_size is None else noise_size
        self._given = _labels if given is None else given
        owner = type(recipe).__name__
        generator = synchronise_batch_norm(owner, fabric, generator.to(fabric.device))
        self.generator = recipe.optimisation(
            fabric, generator,
            self._optimizer(generator, recipe.optimizer, recipe.learning_rate),
            ema_warmup=True, advice=_ADVICE,
        )  # fmt: skip
        self._adversary = synchronise_batch_norm(owner, fabric, adversary.to(fabric.device))
        # As it was before its steps, for the generator in simultaneous updates.
        self._before: nn.Module | None = None
        if recipe.updates == "simultaneous":
            self._before = deepcopy(self._adversary)
        self._player: Optimisation | None = None
        players = {"generator": self.generator}
        if adversary.is_trained:
            optimizer = self._optimizer(
                self._adversary, recipe.discriminator_optimizer, recipe.discriminator_learning_rate
            )
            self._player = recipe.discriminator_optimisation(
                fabric, self._adversary, optimizer, steps_each=recipe.discriminator_steps,
                ema_decay=recipe.discriminator_ema_decay, advice=_ADVICE,
            )  # fmt: skip
            players["discriminator"] = self._player
        self.state: Mapping[str, StateObject] = {
            f"{name}_{part}": thing
            for name, player in players.items()
            for part, thing in player.state.items()
        }

    def _optimizer(
        self, module: nn.Module, name: OptimizerName, rate: float
    ) -> torch.optim.Optimizer:
        weights, momentum = module.parameters(), self._recipe.momentum
        if name == "sgd":
            return torch.optim.SGD(weights, rate, momentum=momentum, fused=True)
        return torch.optim.Adam(weights, rate, betas=(momentum, 0.999), fused=True)

    @property
    def averaged(self) -> nn.Module:
        """The generator with averaged weights, if they are averaged, in evaluation mode."""
        return self.generator.averaged.eval()

    @torch.no_grad()
    def metropolis_hastings(self, held_out: Tensor, generator: Generator | None = None) -> Tensor:
        """Samples of a Metropolis-Hastings GAN, by a discriminator that is calibrated first.

        Args:
            held_out: starts of the chains [N, ...], as the discriminator sees data.
            generator: of the proposals.
        """
        assert self._player is not None
        network, adversary = self.averaged, self._player.averaged.eval()
        assert isinstance(adversary, ScoreAdversary)
        size = self._recipe.latent_size

        def proposal(num: int, *, key: Tensor, first: int) -> Tensor:
            samples: Tensor = network(philox_normal((num, size), key, first_element=first * size))
            return samples

        of_samples, of_chains = split_key(random_key(generator, device=held_out.device), 2)
        rows = chunks(len(held_out), _CHUNK)
        scores = in_chunks(adversary.scores, _CHUNK)
        samples = torch.cat([
            proposal(part.stop - part.start, key=of_samples, first=part.start) for part in rows
        ])  # fmt: skip
        scaling = PlattScaling.fit(scores(held_out), scores(samples))
        sampler = MetropolisHastingsGAN(proposal, lambda x: scaling(adversary.scores(x)))
        num = self._recipe.num_proposals
        return torch.cat([
            sampler.generate(held_out[part], num, key=of_chains, first=part.start) for part in rows
        ])  # fmt: skip

    def step(self, batch: Batch, data: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """One step of the game.

        Args:
            batch: of `AdversarialRecipe.grouped`.
            data: what a batch holds → what the discriminator sees, e.g. images in [0, 1].
        """
        self.generator.module.train()
        opponent = self._adversary.train()
        if self._before is not None:
            self._before.load_state_dict(self._adversary.state_dict())
            opponent = self._before.train()
        batches = split_group(batch, self._recipe.discriminator_steps)
        scalars: dict[str, Tensor] = {}
        if self._player is not None:
            for part in batches:
                scalars = self._step_adversary(self._player, part, data)
        return {**self._step_generator(opponent, batches[-1], data), **scalars}

    def _step_adversary(
        self, player: Optimisation, batch: Batch, data: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        key = random_key(device=self._fabric.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            with torch.no_grad(), self._fabric.autocast():
                fake = self._samples(self.generator.module, part, key)
            terms: dict[str, Tensor] = player.model(
                data(part.x), fake.float(), labels=part.label, key=key, first=part.first
            )
            return terms

        scalars = discriminator_scalars(player.step(batch, loss))
        if self._recipe.weight_clip is not None:
            clip_weights(self._adversary, self._recipe.weight_clip)
        return scalars

    def _step_generator(
        self, adversary: nn.Module, batch: Batch, data: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        key = random_key(device=self._fabric.device)
        assert isinstance(adversary, Adversary)
        adversary.requires_grad_(False)  # its gradients are its own steps'

        def loss(part: Batch) -> dict[str, Tensor]:
            fake = self._samples(self.generator.model, part, key)
            with self._fabric.autocast():
                of_samples = adversary.generator_loss(
                    fake, data(part.x), labels=part.label, key=key, first=part.first
                )
            return {"loss": of_samples}

        try:
            return self.generator.step(batch, loss)
        finally:
            adversary.requires_grad_(True)

    def _samples(self, generator: Callable[..., Tensor], part: Batch, key: Tensor) -> Tensor:
        noise = part.normal((self._noise_size,), key=stream_key(key, "latents"))
        return generator(noise, *self._given(part))


def _labels(batch: Batch) -> Sequence[Tensor]:
    return () if batch.label is None else (batch.label,)


def discriminator_scalars(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an `Adversary` returns, by names that stand beside the generator's."""
    return {_BESIDE.get(name, name): term for name, term in terms.items()}


def make_adversary(recipe: AdversarialRecipe, networks: Networks) -> Adversary:
    """The adversary of a recipe's method."""
    match recipe.method:
        case "mmd":
            return DistanceAdversary(_kernel_distance)
        case "sinkhorn":
            return DistanceAdversary(
                lambda x, y: sinkhorn_divergence(
                    x.flatten(1),
                    y.flatten(1),
                    epsilon=recipe.sinkhorn_epsilon,
                    tolerance=None,
                    max_iterations=_SINKHORN_ITERATIONS,
                )
            )
        case "ebgan":
            game = EnergyGame(recipe.margin, recipe.energy_power)
            return EnergyAdversary(networks.energy(), game, pulling_away_weight=recipe.pulling_away)
        case "bgan" | "mbgan":
            loss = BGANLoss() if recipe.method == "bgan" else MBGANLoss()
            return BatchAdversary(
                networks.set_scores(), loss, group_size=recipe.group_size,
                smoothing=recipe.smoothing,
            )  # fmt: skip
    network = networks.scores()
    if recipe.spectral_norm:
        _normalise_layers(network)
    if recipe.method == "mixup":
        return MixupAdversary(network)
    return ScoreAdversary(network, _game(recipe), penalty_weight=recipe.gradient_penalty)


def _kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.flatten(1), y.flatten(1)
    scale = math.sqrt(x.shape[1] / 2)
    kernel = GaussianKernel([scale * bandwidth for bandwidth in _BANDWIDTHS])
    return maximum_mean_discrepancy(x, y, kernel)


def _game(recipe: AdversarialRecipe) -> AdversarialGame:
    match recipe.method:
        case "hinge":
            return HingeGame()
        case "least-squares":
            return LeastSquaresGame()
        case "wgan":
            return WassersteinGame()
        case "f-gan":
            return FDivergenceGame(recipe.divergence)
        case _:
            return LogisticGame(recipe.generator_loss)


def _normalise_layers(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            spectral_norm(layer)
