"""Variational autoencoders of images in training."""

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Size, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.inference import DataLatents, LatentAdam, NormalParameters
from gencore.inference.posterior_optimisation import rows_of_posterior
from gencore.models import (
    VAE,
    VLO,
    BernoulliLikelihood,
    CouplingFlow,
    DecoderLikelihood,
    DecoderModel,
    FlowPosterior,
    FrozenGenerator,
    GaussianLikelihood,
    LevelLikelihood,
    TopDownLevel,
    TopDownVAE,
    VectorLevel,
    infer_posterior,
    pca_posterior,
)
from gencore.nn import MLP, BottomUp, Categorical, DiscretizedLogistic
from gencore.ops import random_key
from gencore.ops.random import stream_key
from gencore.recipes.image_samples_experiment import ImageSamplesExperiment
from gencore.recipes.latent.bounds import bound_sums
from gencore.recipes.latent.latents_of_images import LatentsState, make_latents
from gencore.recipes.latent.vae import VAERecipe
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks
from gencore.train.optimisation import rate_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["VAEExperiment", "make_vae"]

# Images, latents of an image, and numbers that are decoded at once, which bounds the memory.
_CHUNK = 256
_SAMPLES_CHUNK = 50
_NUMBERS = 2**25
_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 11
# Numbers that the encoder gives the steps of the posterior.
_IAF_CONTEXT = 16


class VAEExperiment(ImageSamplesExperiment):
    """A variational autoencoder in training."""

    recipe: VAERecipe

    def __init__(self, recipe: VAERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        make = make_top_down_vae if recipe.upper_latents else make_vae
        vae: DecoderModel = make(recipe, self.image_shape).to(fabric.device)
        self._vlo: VLO | None = None
        state: dict[str, StateObject] = {}
        if recipe.objective == "vlo":
            latents = self._make_latents()
            assert isinstance(vae, VAE)
            state["latents"] = LatentsState(latents)
            self._vlo = VLO(
                vae.decoder, latents, num_inner_steps=recipe.inner_steps, likelihood=vae.likelihood
            )
            vae = self._vlo.vae
        optimizer = torch.optim.Adam(vae.parameters(), recipe.learning_rate, fused=True)
        self._method, self._options = _maximised(recipe)
        self._optimisation = recipe.optimisation(
            fabric, vae, optimizer, ema_warmup=True, method=self._method
        )
        self._rate_factor = rate_factor(
            recipe.schedule, warmup_steps=recipe.warmup_steps, steps=recipe.steps
        )
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
    def model(self) -> DecoderModel:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self._optimisation.averaged.eval()
        assert isinstance(model, DecoderModel)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._optimisation.module.train()
        key = random_key(device=batch.x.device)
        scheduler = self._optimisation.scheduler
        factor = 1.0 if scheduler is None else self._rate_factor(scheduler.last_epoch)

        def loss(part: Batch) -> dict[str, Tensor]:
            x = to_float(part.x, 0, 1)
            if self._method == "forward":
                given: dict[str, Any] = {}
                if self._vlo is not None:
                    rows_key = stream_key(key, "latents")
                    given["posterior"] = self._vlo.descend(
                        x, part.index, key=rows_key, first=part.first, factor=factor
                    )
                terms = self._optimisation.model(x, key=key, first=part.first, **given)._asdict()
                levels = enumerate(terms.pop("level_kls", ()))
                return {**terms, **{f"kl/level_{level}": kl for level, kl in levels}}
            bound = self._optimisation.model(x, key=key, first=part.first, **self._options)
            return {"loss": -bound.mean()}

        return self._optimisation.step(batch, loss)

    def posterior(self, x: Tensor) -> NormalParameters | None:
        """Of images in [0, 1] what `inference_steps` find, or None where there is an encoder."""
        if self._vlo is None:
            return None
        optimizer = LatentAdam(self.recipe.latent_learning_rate)
        model = self.model
        assert isinstance(model, VAE)
        return infer_posterior(model, x, self.recipe.inference_steps, optimizer=optimizer)

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
        decoded_numbers = model.likelihood.decoded_shape(self.image_shape).numel()
        error = 0.0
        for part in chunks(len(images), _CHUNK):
            x = self._floats(images[part.start : part.stop])
            q = self.posterior(x)
            given: dict[str, Any] = {} if q is None else {"posterior": q}
            most = max(1, min(_SAMPLES_CHUNK, _NUMBERS // (len(x) * decoded_numbers)))
            for num_samples, total in bound_sums(
                model, x, totals, key=key, first=part.start, chunk_size=most, **given
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
        image; in a hierarchy, of its noise, which moves the latents below with it."""
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
        if isinstance(model, TopDownVAE):
            codes = model.to_noise(codes)
        num_latents = codes.shape[1]
        z = codes[:1].repeat(num_latents, columns, 1)
        for latent in range(num_latents):
            z[latent, :, latent] = values
        flat = z.flatten(0, 1)
        traversal = (
            model.decode_noise(flat) if isinstance(model, TopDownVAE) else model.decode(flat)
        )
        save_image_grid(traversal, folder / "traversals.png", columns=columns)

    def _floats(self, images: Tensor) -> Tensor:
        return to_float(images.to(self.fabric.device), 0, 1)


def _maximised(recipe: VAERecipe) -> tuple[str, dict[str, Any]]:
    """The method of the VAE that is trained, a bound or its loss, and options of that."""
    samples = {"num_samples": recipe.train_samples, "estimator": recipe.estimator}
    if recipe.objective == "iwae":
        return "log_prob_bound", samples
    if recipe.estimator == "score":
        return "elbo", {**samples, "baseline": "leave_one_out"}
    if recipe.estimator == "path":
        return "elbo", {"estimator": "path"}
    return "forward", {}


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
        prior = CouplingFlow(latents, num_layers=4, hidden_widths=widths[:1], mixing="permutation")
    return VAE(
        nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, decoded)),
        latents, prior=prior, posterior_flow=flow, likelihood=likelihood,
        recon_weight=recipe.recon_weight, kl_weight=recipe.kl_weight, free_bits=recipe.free_bits,
    )  # fmt: skip


def make_top_down_vae(recipe: VAERecipe, shape: Size) -> TopDownVAE:
    """The hierarchical VAE of a recipe: its encoder's features go on from those of the bottom
    level, with the last of the hidden widths."""
    likelihood = _likelihood(recipe, shape[0])
    widths, decoded = recipe.hidden_widths, likelihood.decoded_shape(shape)
    width = widths[-1]
    bottom: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise((shape.numel(), *widths)):
        bottom += [nn.Linear(width_in, width_out), nn.ReLU()]
    blocks = [nn.Sequential(*bottom)]
    levels: list[TopDownLevel] = []
    above = 0
    for size in (*recipe.upper_latents, recipe.latent_size):
        posterior, prior = (
            MLP(inputs, (width,), 2 * size, activation="relu", zero_last=False)
            for inputs in (above + width, above)
        )
        levels.append(VectorLevel(size, posterior, prior if above else None))
        above += size
    blocks += [
        nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in recipe.upper_latents
    ]  # fmt: skip
    decoder = MLP(above, widths[::-1], decoded.numel(), activation="relu", zero_last=False)
    return TopDownVAE(
        BottomUp(*blocks), levels, nn.Sequential(decoder, nn.Unflatten(1, decoded)),
        likelihood=likelihood, recon_weight=recipe.recon_weight, kl_weight=recipe.kl_weight,
        free_bits=recipe.free_bits,
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
