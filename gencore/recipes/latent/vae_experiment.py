"""Variational autoencoders of images in training."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Size, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.inference import DataLatents, LatentAdam
from gencore.inference.posterior_optimisation import rows_of_posterior
from gencore.models import (
    VAE,
    VLO,
    BernoulliLikelihood,
    CouplingFlow,
    DecoderLikelihood,
    FlowPosterior,
    FrozenGenerator,
    GaussianLikelihood,
    LevelLikelihood,
    NormalParameters,
    infer_posterior,
    pca_posterior,
)
from gencore.nn import MLP, Categorical, DiscretizedLogistic
from gencore.ops import random_key
from gencore.ops.random import stream_key
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.latent.bounds import bound_sums
from gencore.recipes.latent.latents_of_images import LatentsState, make_latents
from gencore.recipes.latent.vae import VAERecipe
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["VAEExperiment", "make_vae"]

# Images that are computed at once, which bounds the memory.
_CHUNK = 256
_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 11
# Numbers that the encoder gives the steps of the posterior.
_IAF_CONTEXT = 16


class VAEExperiment(ImageSamplesExperiment):
    """A variational autoencoder in training."""

    recipe: VAERecipe

    def __init__(self, recipe: VAERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        vae = make_vae(recipe, self.image_shape).to(fabric.device)
        self._vlo: VLO | None = None
        state: dict[str, StateObject] = {}
        if recipe.objective == "vlo":
            latents = self._make_latents()
            state["latents"] = LatentsState(latents)
            self._vlo = VLO(
                vae.decoder, latents, num_inner_steps=recipe.inner_steps, likelihood=vae.likelihood
            )
            vae = self._vlo.vae
        optimizer = torch.optim.Adam(vae.parameters(), recipe.learning_rate, fused=True)
        self._optimisation = recipe.optimisation(
            fabric, vae, optimizer, ema_warmup=True,
            method="log_prob_bound" if recipe.objective == "iwae" else "forward",
        )  # fmt: skip
        self.state: Mapping[str, StateObject] = {**self._optimisation.state, **state}

    def _make_latents(self) -> DataLatents:
        """The posterior of each training image, from its principal components."""
        recipe, images = self.recipe, self.dataset.images
        if images.is_meta:  # they come with the checkpoint
            start = torch.zeros(len(images), 2 * recipe.latent_size)
        else:
            start = rows_of_posterior(pca_posterior(to_float(images, 0, 1), recipe.latent_size))
        return make_latents(self.fabric, start, learning_rate=recipe.latent_learning_rate)

    @property
    def model(self) -> VAE:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self._optimisation.averaged.eval()
        assert isinstance(model, VAE)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._optimisation.module.train()
        key = random_key(device=batch.x.device)

        def loss(part: Batch) -> dict[str, Tensor]:
            x = to_float(part.x, 0, 1)
            if self.recipe.objective != "iwae":
                posterior = None
                if self._vlo is not None:
                    rows_key = stream_key(key, "latents")
                    posterior = self._vlo.descend(x, part.index, key=rows_key, first=part.first)
                terms = self._optimisation.model(x, posterior=posterior, key=key, first=part.first)
                return dict(terms._asdict())
            num = self.recipe.train_samples
            bound = self._optimisation.model(x, num, key=key, first=part.first)
            return {"loss": -bound.mean()}

        return self._optimisation.step(batch, loss)

    def posterior(self, x: Tensor) -> NormalParameters | None:
        """Of images in [0, 1] what `inference_steps` find, or None where there is an encoder."""
        if self._vlo is None:
            return None
        optimizer = LatentAdam(self.recipe.latent_learning_rate)
        return infer_posterior(self.model, x, self.recipe.inference_steps, optimizer=optimizer)

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """The expected images of latents from the prior."""
        key = random_key(generator, device=self.fabric.device)
        parts = [
            self.model.sample(part.stop - part.start, key=key, first=part.start)
            for part in chunks(num, _CHUNK)
        ]
        return torch.cat(parts).clamp(0, 1)

    def latent_generator(self) -> tuple[nn.Module, tuple[int, ...]]:
        """The model as a frozen module from noise u ~ N(0, I), [N, U], to images in [0, 1], and the
        shape (U,) of one u: what a model of latents corrects."""
        generator = FrozenGenerator(self.model)
        return generator, (generator.noise_size,)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Measures need two images of each kind, and figures test images."""
        super().prepare(num_samples, num_evaluate)
        if num_samples:
            _ = self.test

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Bounds of log p(x) of up to `num` test images, in nats an image, with one latent and with
        `bound_samples`; of levels also in bits a dimension. Fréchet distances of samples, and the
        mean squared error of reconstructions."""
        measures = super().evaluate(num)
        images = self.test.images[torch.randperm(len(self.test))[:num]]
        key = random_key(device=self.fabric.device)
        model = self.model
        totals = dict.fromkeys((1, self.recipe.bound_samples), 0.0)
        error = 0.0
        for part in chunks(len(images), _CHUNK):
            x = self._floats(images[part.start : part.stop])
            q = self.posterior(x)
            given: dict[str, Any] = {} if q is None else {"posterior": q}
            for num_samples, total in bound_sums(
                model, x, totals, key=key, first=part.start, **given
            ).items():
                totals[num_samples] += total
            decoded = model.decode(model.codes(x) if q is None else q.mean)
            error += (decoded - x).square().sum().item()
        for num_samples, total in totals.items():
            measures[f"bound_{num_samples}/test"] = total / len(images)
            if isinstance(model.likelihood, LevelLikelihood):
                bits = -total / (images.numel() * math.log(2))
                measures[f"bits_per_dim_{num_samples}/test"] = bits
        return {**measures, "squared_error/test": error / images.numel()}

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Images along lines in noise between two samples; test images above their reconstructions;
        and what each latent does: a row of values from −3 to 3 of one, with the others of a test
        image."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        model, columns = self.model, _FIGURE_COLUMNS
        start, end = model.sample_noise(2 * _FIGURE_ROWS).chunk(2)
        lines = model.interpolate(start, end, columns).flatten(0, 1)
        save_image_grid(lines, folder / "interpolation.png", columns=columns)
        x = self._floats(self.test.images[torch.randperm(len(self.test))[: 2 * columns]])
        q = self.posterior(x)
        codes = model.codes(x) if q is None else q.mean
        pairs = zip(x.split(columns), model.decode(codes).split(columns), strict=True)
        rows = [row for pair in pairs for row in pair]
        save_image_grid(torch.cat(rows), folder / "reconstructions.png", columns=columns)
        values = torch.linspace(-3, 3, columns, device=x.device)
        z = codes[:1].repeat(self.recipe.latent_size, columns, 1)
        for latent in range(self.recipe.latent_size):
            z[latent, :, latent] = values
        traversal = model.decode(z.flatten(0, 1))
        save_image_grid(traversal, folder / "traversals.png", columns=columns)

    def _floats(self, images: Tensor) -> Tensor:
        return to_float(images.to(self.fabric.device), 0, 1)


def make_vae(recipe: VAERecipe, shape: Size) -> VAE:
    """The VAE of a recipe for images of a shape: fully connected networks with rectified units."""
    likelihood = _likelihood(recipe, shape[0])
    latents, pixels = recipe.latent_size, shape.numel()
    decoded = likelihood.decoded_shape(shape)
    flow = None
    if recipe.posterior == "iaf":
        flow = FlowPosterior(latents, _IAF_CONTEXT, hidden_widths=recipe.hidden_widths[:1])
    encoded = 2 * latents + (_IAF_CONTEXT if flow is not None else 0)
    widths = recipe.hidden_widths
    encoder = MLP(pixels, widths, encoded, activation="relu", zero_last=False)
    decoder = MLP(latents, widths[::-1], decoded.numel(), activation="relu", zero_last=False)
    prior = None
    if recipe.prior == "flow":
        prior = CouplingFlow(latents, num_layers=4, hidden_widths=widths[:1])
    return VAE(
        nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, decoded)),
        latents, prior=prior, posterior_flow=flow, likelihood=likelihood,
        recon_weight=recipe.recon_weight, kl_weight=recipe.kl_weight, free_bits=recipe.free_bits,
    )  # fmt: skip


def _likelihood(recipe: VAERecipe, channels: int) -> DecoderLikelihood:
    match recipe.pixels:
        case "bernoulli":
            return BernoulliLikelihood()
        case "gaussian":
            return GaussianLikelihood(recipe.scale, learned=recipe.learn_scale)
        case "categorical":
            return LevelLikelihood(Categorical(), channels)
        case "logistic":
            return LevelLikelihood(DiscretizedLogistic(channels=channels), channels)
