"""Adaptive density estimation in training: Algorithm 1, and the models that it is compared with."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset
from gencore.metrics import full_gaussian_bits, independent_gaussian_bits
from gencore.models import (
    AVADE,
    VADE,
    AVADELoss,
    ImageFeatures,
    ScoreAdversary,
    fit_likelihood_around,
)
from gencore.nn import (
    Compose,
    ConvDecoder,
    ConvDiscriminator,
    ConvEncoder,
    Transform,
    UniformDequantization,
)
from gencore.objectives import LogisticGame
from gencore.ops import random_key
from gencore.recipes.adversarial.adversarial_training import discriminator_scalars
from gencore.recipes.dequantised_bits import mean_dequantised_bits
from gencore.recipes.hybrids.avade import AVADERecipe
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.level_bits import level_bits
from gencore.recipes.untrained import warn_if_untrained
from gencore.train import Batch, Optimisation, StateObject
from gencore.train.batch_norm import synchronise_batch_norm
from gencore.train.chunks import chunks
from gencore.train.done_steps import DoneSteps
from gencore.train.optimisation import make_scheduler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["AVADEExperiment"]

# Images that are drawn or measured at once, which bounds the memory.
_CHUNK = 512
# Beyond this many dimensions the full covariance, and minutes of factorising it, are left out.
_MAX_GAUSSIAN_DIMS = 4096
_FIGURE_COLUMNS = 10
_ADVICE = "a lower learning_rate, discriminator_learning_rate or max_grad_norm"


T = TypeVar("T", bound="LatentImages")


class LatentImages(nn.Module):
    """A frozen decoder from latents [N, L] to images [N, C, H, W] in [0, 1]."""

    def __init__(self, model: VADE) -> None:
        super().__init__()
        self.decoder, self.features = deepcopy(model.decoder), deepcopy(model.features)
        self.requires_grad_(False).eval()

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.features.inverse(self.decoder(z))[0]
        return (x + 0.5).clamp(0, 1)

    def train(self: T, mode: bool = True) -> T:
        """Does nothing: it stays in evaluation mode."""
        return super().train(False)


class AVADEExperiment(ImageSamplesExperiment):
    """One of the five models of table 5.1: a step of the discriminator, if there is one, and one of
    the generator.

    Images are dequantised to y in [0, 1), and the model sees y − ½; the discriminator sees them as
    they are, in the middle of their levels.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training images, or their shape alone.
    """

    recipe: AVADERecipe

    def __init__(self, recipe: AVADERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        self._dequantization = UniformDequantization()
        model = make_model(recipe, self.image_shape).to(fabric.device)
        if not dataset.images.is_meta:  # else the scales come with the weights
            self._initialize(model)
        module = synchronise_batch_norm("AVADERecipe", fabric, model)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        self.generator = recipe.optimisation(
            fabric, module, torch.optim.Adamax(weights, recipe.learning_rate),
            ema_warmup=True, method="loss", advice=_ADVICE,
        )  # fmt: skip
        self._done = DoneSteps()
        states = {"generator": self.generator.state}
        self.discriminator: Optimisation | None = None
        if recipe.parts.adversarial:
            self.discriminator = self._make_discriminator()
            states["discriminator"] = self.discriminator.state
        self.state: Mapping[str, StateObject] = {
            "steps": self._done,
            **{
                f"{player}_{name}": thing
                for player, state in states.items()
                for name, thing in state.items()
            },
        }

    @torch.no_grad()
    def _initialize(self, model: AVADE) -> None:
        """Scales that come from the first data, the same on every rank: those of the flow, and σ,
        which starts at the deviation of all features."""
        chosen = torch.randperm(len(self.dataset))[: max(self.recipe.batch_size, 64)]
        images = self.dataset.images[chosen].to(self.fabric.device)
        key = random_key(device=self.fabric.device)
        features, _ = model.features(self._dequantization(images, key=key)[0] - 0.5)
        model.log_std.fill_(math.log(max(features.std(correction=0).item(), 1e-3)))

    def _make_discriminator(self) -> Optimisation:
        recipe = self.recipe
        widths = recipe.discriminator_widths or default_widths(self.image_shape)
        network = ConvDiscriminator(
            self.image_shape, widths=widths, blocks=recipe.discriminator_blocks
        )
        adversary = ScoreAdversary(
            network, LogisticGame("combined"), penalty_weight=recipe.gradient_penalty
        ).to(self.fabric.device)
        optimizer = torch.optim.Adamax(adversary.parameters(), recipe.discriminator_learning_rate)
        each = recipe.discriminator_steps
        scheduler = make_scheduler(
            optimizer, recipe.schedule, warmup_steps=recipe.warmup_steps * each,
            steps=max(recipe.steps - recipe.likelihood_steps, 1) * each,
        )  # fmt: skip
        return Optimisation(
            self.fabric, adversary, optimizer, scheduler=scheduler,
            max_grad_norm=recipe.max_grad_norm, accumulate=recipe.accumulate, advice=_ADVICE,
        )  # fmt: skip

    @property
    def model(self) -> AVADE:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self.generator.averaged.eval()
        assert isinstance(model, AVADE)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Steps of the discriminator, if there is one and its time has come, and one of the
        generator."""
        recipe, device = self.recipe, self.fabric.device
        if self._done.number == 0 and self.discriminator is not None:
            warn_if_untrained(
                "the discriminator is not trained",
                steps=recipe.steps,
                first_steps=recipe.likelihood_steps,
                option="coverage_steps",
                first_are="by likelihood alone",
            )
        model = self.generator.module.train()
        assert isinstance(model, AVADE)
        judged = self.discriminator is not None and self._done.number >= recipe.likelihood_steps
        scalars: dict[str, Tensor] = {}
        critic = None
        if judged:
            assert self.discriminator is not None
            critic = self.discriminator.module.get_submodule("network")
            for _ in range(recipe.discriminator_steps):
                scalars = self._step_discriminator(batch, self.discriminator, model)
        key = random_key(device=device)

        def loss(part: Batch) -> dict[str, Tensor]:
            y, log_det = self._dequantization(part.x, key=key, first=part.first)
            terms: AVADELoss = self.generator.model(y - 0.5, critic, key=key, first=part.first)
            found = {"loss": terms.loss}
            if terms.coverage is not None:
                bits = level_bits(log_det.mean() - terms.coverage.detach(), self.image_shape)
                found["bits_per_dim"] = bits
            if terms.quality is not None:
                found["quality"] = terms.quality
            return found

        found = self.generator.step(batch, loss)
        self._done.number += 1
        return {**found, **scalars}

    def _step_discriminator(
        self, batch: Batch, player: Optimisation, model: AVADE
    ) -> dict[str, Tensor]:
        device = self.fabric.device
        sample_key, penalty_key = random_key(device=device), random_key(device=device)

        def loss(part: Batch) -> dict[str, Tensor]:
            with torch.no_grad(), self.fabric.autocast():
                samples = model.adversarial_samples(len(part), key=sample_key, first=part.first)
            real = (part.x.float() + 0.5) / 256 - 0.5
            terms: dict[str, Tensor] = player.model(
                real, samples.float(), key=penalty_key, first=part.first
            )
            return discriminator_scalars(terms)

        found = player.step(batch, loss)
        found.pop("grad_norm", None)  # the generator's is the one that is logged
        return found

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images f⁻¹(μ(z)), with `noisy_samples` f⁻¹(μ(z) + σε)."""
        noise = self.recipe.noisy_samples and self.recipe.parts.coverage
        key = random_key(generator, device=self.fabric.device)
        with torch.no_grad():
            parts = [
                self.model.sample(part.stop - part.start, noise=noise, key=key, first=part.start)
                for part in chunks(num, _CHUNK)
            ]
        return (torch.cat(parts) + 0.5).clamp(0, 1)

    def latent_generator(self) -> tuple[nn.Module, tuple[int, ...]]:
        """A frozen module from z ~ N(0, I) [N, L] to images [N, C, H, W] in [0, 1], and the shape
        (L,) of one z."""
        model = self.model
        return LatentImages(model), (model.latent_size,)

    def evaluate(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` held-out test images, and of training images, and the
        Fréchet distances of its samples.

        The bits are the importance-weighted bound with uniform dequantisation, from above. Those of
        a GAN are of an encoder and a noise level, trained around the frozen generator. Beside them
        stand those of the test images under two Gaussians fitted to the training images.
        """
        measures: dict[str, float] = {"num_samples": min(num, len(self.test))}
        for name, bits in self._bits(num).items():
            measures[f"bits_per_dim/{name}"] = bits
        return {**measures, **super().evaluate(num)}

    def _bits(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` images of each part, and of the baselines."""
        train, test = self.dataset, self.test
        model: VADE = self.model
        if not self.recipe.parts.coverage:
            model = self._with_likelihood(model)
        found = {}
        for name, part in (("test", test), ("train", train)):
            chosen = torch.randperm(len(part))[:num]
            found[name] = self._mean_bits(model, part.images[chosen])
        images = train.images, test.images
        found["independent_gaussian"] = independent_gaussian_bits(*images)
        if len(train) > 1 and train.images[0].numel() <= _MAX_GAUSSIAN_DIMS:
            found["full_gaussian"] = full_gaussian_bits(*images)
        return found

    def _with_likelihood(self, model: VADE) -> VADE:
        recipe = self.recipe
        return fit_likelihood_around(
            model.decoder,
            make_encoder(recipe, self.image_shape),
            self.dataset.images.to(self.fabric.device),
            recipe.latent_size,
            steps=recipe.encoder_steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
        )

    def _mean_bits(self, model: VADE, images: Tensor) -> float:
        return mean_dequantised_bits(
            model, images.to(self.fabric.device), self.recipe.importance_samples
        )

    def figures(self, folder: Path) -> None:
        """Held-out images, and below each what its posterior's mean decodes to, of models with an
        encoder."""
        from gencore.train.figures import save_image_grid

        if not self.recipe.parts.coverage:
            return
        folder.mkdir(exist_ok=True)
        test = self.test.images
        images = test[torch.randperm(len(test))[:_FIGURE_COLUMNS]].to(self.fabric.device)
        x = (images.float() + 0.5) / 256 - 0.5
        with torch.no_grad():
            decoded = self.model.decode(self.model.encode(x).mean)
        rows = (torch.cat([x, decoded]) + 0.5).clamp(0, 1)
        save_image_grid(rows, folder / "reconstructions.png", columns=len(images))


def default_widths(shape: Sequence[int]) -> tuple[int, ...]:
    """Channels at each scale, down to sides of 4, for images of `shape` [C, H, W]: table A.1's for
    those of 32 pixels, and fewer for smaller ones."""
    side = math.gcd(*shape[1:])
    widths = (32, 64, 128, 256)
    num = 1
    while num < len(widths) and side % 2**num == 0 and min(shape[1:]) // 2**num >= 4:
        num += 1
    return widths[:num]


def make_encoder(recipe: AVADERecipe, shape: Sequence[int]) -> ConvEncoder:
    """The recipe's encoder for images, or features, of `shape` [C, H, W]."""
    return ConvEncoder(
        shape,
        2 * recipe.latent_size,
        widths=recipe.widths or default_widths(shape),
        blocks=recipe.blocks,
    )


def make_model(recipe: AVADERecipe, shape: Sequence[int]) -> AVADE:
    """The recipe's model for images of `shape` [C, H, W]."""
    features: Transform = Compose()
    if recipe.parts.features:
        features = ImageFeatures(
            shape,
            num_scales=recipe.num_scales,
            num_couplings=recipe.num_couplings,
            hidden_channels=recipe.flow_channels,
            num_blocks=recipe.num_blocks,
            batch_norm=recipe.batch_norm,
        )
    decoder = ConvDecoder(
        recipe.latent_size,
        shape,
        widths=recipe.widths or default_widths(shape),
        blocks=recipe.blocks,
    )
    return AVADE(
        make_encoder(recipe, shape),
        decoder,
        features,
        recipe.latent_size,
        encoder_input=recipe.encoder_input,
        coverage=recipe.parts.coverage,
        adversarial_weight=recipe.adversarial_weight if recipe.parts.coverage else 1.0,
        sample_noise=recipe.sample_noise,
        train_features=recipe.train_features,
    )
