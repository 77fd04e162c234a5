"""AGAVE and what it is compared with, in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Generator, Tensor, nn

from gencore.compression import AGAVEModel, AuxiliaryPixelCNNModel, ChainModel, CodingModel
from gencore.data import ImageDataset
from gencore.models import (
    AGAVE,
    AutoregressiveImageModel,
    AuxiliaryPixelCNN,
    AuxiliaryTarget,
    AuxiliaryVAE,
    BoundTerms,
    DownSampledTarget,
    FlowPosterior,
    FullResolutionTarget,
    GatedPixelCNN,
    GrayscaleDecoder,
    GrayscaleTarget,
    PixelCNNPlusPlus,
)
from gencore.nn import DiscretizedLogisticMixture, FeatureStack, ImageDecoder, ImageEncoder
from gencore.ops import random_key
from gencore.recipes.autoregressive.agave import AGAVERecipe
from gencore.recipes.level_bits import level_bits
from gencore.recipes.levels_experiment import LevelsExperiment
from gencore.train import Batch, StateObject
from gencore.train.chunks import chunks
from gencore.train.done_steps import DoneSteps

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["AGAVEExperiment", "PlainPixelCNN", "make_model"]

# Images, and latents of the importance-weighted bound, that are measured at once.
_CHUNK = 128

_FIGURE_ROWS = 6
_FIGURE_COLUMNS = 10


class PlainPixelCNN(nn.Module):
    """An autoregressive model alone, with the methods that models with an auxiliary image have."""

    def __init__(self, primary: AutoregressiveImageModel) -> None:
        super().__init__()
        self.primary = primary

    def loss_terms(self, x: Tensor, *, key: Tensor | None = None, first: int = 0) -> BoundTerms:
        """log p(x) as the primary term of levels x [N, C, H, W]; nothing is drawn."""
        log_prob = self.primary.log_prob(x)
        return BoundTerms(log_prob, torch.zeros_like(log_prob), torch.zeros_like(log_prob))

    def bound(self, x: Tensor, *, key: Tensor | None = None, first: int = 0) -> Tensor:
        """log p(x) itself, [N]."""
        return self.loss_terms(x).primary

    def sample(self, num: int, **options: Any) -> Tensor:
        """As of the model."""
        return self.primary.sample(num, **options)


Model: TypeAlias = AGAVE | AuxiliaryVAE | AuxiliaryPixelCNN | PlainPixelCNN


class AGAVEExperiment(LevelsExperiment):
    """A model with an auxiliary image, or without, in training on its objective."""

    recipe: AGAVERecipe

    def __init__(self, recipe: AGAVERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset, class_conditional=False)
        model = make_model(recipe, self.image_shape).to(fabric.device)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adamax(weights, recipe.learning_rate)
        self.optimisation = recipe.optimisation(
            fabric, model, optimizer, ema_warmup=True, method="loss_terms"
        )
        self._done = DoneSteps()
        self.state: Mapping[str, StateObject] = {**self.optimisation.state, "steps": self._done}

    @property
    def model(self) -> Model:
        """The model that is measured."""
        model = self.optimisation.averaged
        assert isinstance(model, AGAVE | AuxiliaryVAE | AuxiliaryPixelCNN | PlainPixelCNN)
        return model.eval()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Draw latents and move the weights towards a higher objective."""
        recipe, done = self.recipe, self._done.number
        key = random_key(device=self.fabric.device)
        weights = objective_weights(recipe, done)
        options = {"joint": False} if done < recipe.pretrain_steps else {}
        self.optimisation.module.train()

        def loss(part: Batch) -> dict[str, Tensor]:
            terms: BoundTerms = self.optimisation.model(
                part.x, key=key, first=part.first, **options
            )
            scalars = {"loss": -terms.objective(**weights), **self._shares(terms)}
            return {
                name: level_bits(-value, self.image_shape).mean() for name, value in scalars.items()
            }

        scalars = self.optimisation.step(batch, loss)
        self._done.number += 1
        return scalars

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of the model; of the plain VAE with the noise of its likelihood."""
        model = self.model
        if isinstance(model, AuxiliaryVAE):
            x = model.sample(num, generator=generator)
        else:
            drawn = model.sample(num, method=self.recipe.method, generator=generator)
            assert isinstance(drawn, Tensor)
            x = drawn
        return self.shown(x)

    def image_model(self) -> CodingModel | ChainModel:
        """The model that compresses; a `ValueError` for the plain VAE."""
        model = self.model
        if isinstance(model, AGAVE):
            return AGAVEModel(model)
        if isinstance(model, AuxiliaryPixelCNN):
            return AuxiliaryPixelCNNModel(model)
        if isinstance(model, PlainPixelCNN):
            return model.primary
        raise ValueError(
            "the plain VAE gives its pixels no probabilities in whole numbers; models that "
            "compress have pixels that follow each other"
        )

    def evaluate(self, num: int) -> dict[str, float]:
        """Bits per dimension of up to `num` held-out test images, and of training images: those of
        the bound, and of the test images the terms that it consists of and the importance-weighted
        bound. All are of x, and have weight 1. Beside them stand those of two Gaussians."""
        measures: dict[str, float] = {"num_samples": min(num, len(self.test))}
        for name, part in (("test", self.test), ("train", self.dataset)):
            images = part.subset(torch.randperm(len(part))[:num]).images
            for term, bits in self._mean_bits(images).items():
                if name == "test" or term == "bits_per_dim":
                    measures[f"{term}/{name}"] = bits
            samples = self.recipe.importance_samples
            if name == "test" and samples and hasattr(self.model, "iw_bound"):
                measures[f"bits_per_dim_iw{samples}/test"] = self._iw_bits(images)
        for name, bits in self.gaussian_bits().items():
            measures[f"bits_per_dim/{name}"] = bits
        return measures

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images."""
        if num_samples or num_evaluate:
            _ = self.test

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Of a model with latents and pixels: f(z) of latents from the prior, each with images
        drawn given it; test images, above their f(z) and the images drawn given it; and lines in
        latent space between test images, f(z) above the images drawn given it."""
        from gencore.train.figures import save_image_grid

        model = self.model
        if not isinstance(model, AGAVE):
            return
        folder.mkdir(exist_ok=True)
        target, columns = model.vae.target, _FIGURE_COLUMNS
        z = model.vae.sample_latents(_FIGURE_ROWS).repeat_interleave(columns, 0)
        drawn = model.decode(z, method=self.recipe.method)
        seen = target.image(drawn.auxiliary).unflatten(0, (_FIGURE_ROWS, columns))[:, :1]
        pixels = self.shown(drawn.x).unflatten(0, (_FIGURE_ROWS, columns))
        rows = torch.cat([seen, pixels], 1).flatten(0, 1)
        save_image_grid(rows, folder / "auxiliary.png", columns=columns + 1)

        test = self.test
        x = test.images[torch.randperm(len(test))[:columns]].to(self.fabric.device)
        drawn = model.reconstruct(x, method=self.recipe.method)
        rows = torch.cat([self.shown(x), target.image(drawn.auxiliary), self.shown(drawn.x)])
        save_image_grid(rows, folder / "reconstructions.png", columns=len(x))

        ends = test.images[torch.randperm(len(test)).repeat(2)[:_FIGURE_ROWS]]
        x1, x2 = ends.to(self.fabric.device).chunk(2)
        drawn = model.interpolate(x1, x2, columns, method=self.recipe.method)
        lines = zip(
            target.image(drawn.auxiliary).split(columns),
            self.shown(drawn.x).split(columns),
            strict=True,
        )
        rows = torch.cat([row for line in lines for row in line])
        save_image_grid(rows, folder / "interpolation.png", columns=columns)

    def _shares(self, terms: BoundTerms) -> dict[str, Tensor]:
        """What each term costs, in nats; those that the model has."""
        costs = {"primary": -terms.primary, "auxiliary": -terms.auxiliary, "kl": terms.kl}
        missing = {
            "vae": {"primary"},
            "pixelcnn": {"auxiliary", "kl"},
            "auxiliary-pixelcnn": {"kl"},
        }.get(self.recipe.model, set())
        return {name: cost for name, cost in costs.items() if name not in missing}

    @torch.no_grad()
    def _mean_bits(self, images: Tensor) -> dict[str, float]:
        """Mean bits per dimension of the bound and of its terms."""
        model, device = self.model, self.fabric.device
        key, sums = random_key(device=device), dict[str, float]()
        for part in chunks(len(images), _CHUNK):
            x = images[part].to(device)
            # The same latents in both.
            terms = model.loss_terms(x, key=key, first=part.start)
            bound = -model.bound(x, key=key, first=part.start)
            for name, cost in {"bits_per_dim": bound, **self._shares(terms)}.items():
                bits = level_bits(-cost.double(), self.image_shape).sum().item()
                sums[name] = sums.get(name, 0.0) + bits
        return {name: total / len(images) for name, total in sums.items()}

    @torch.no_grad()
    def _iw_bits(self, images: Tensor) -> float:
        model, device = self.model, self.fabric.device
        assert isinstance(model, AGAVE | AuxiliaryVAE)
        key = random_key(device=device)
        bits = [
            level_bits(
                model.iw_bound(
                    images[part].to(device), self.recipe.importance_samples,
                    chunk=_CHUNK, key=key, first=part.start,
                ).double(),
                self.image_shape,
            )
            for part in chunks(len(images), _CHUNK)
        ]  # fmt: skip
        return torch.cat(bits).mean().item()


def objective_weights(recipe: AGAVERecipe, step: int) -> dict[str, float]:
    """The weights of the objective (3.13) in a step, counted from 0, or of (3.6)."""
    alone = recipe.model in ("naive", "shallow", "grey")
    dropped = recipe.auxiliary_drop_step is not None and step >= recipe.auxiliary_drop_step
    if alone or dropped:
        return {"kl_weight": 1.0, "auxiliary_weight": 0.0}
    kl_weight = recipe.kl_weight if recipe.model == "agave" else 1.0
    return {"kl_weight": kl_weight, "auxiliary_weight": 1.0}


def make_model(recipe: AGAVERecipe, shape: Sequence[int]) -> Model:
    """The model that the recipe names, for images of `shape` [C, H, W]."""
    colours, height, width = shape
    target = _target(recipe, shape)
    if recipe.model == "pixelcnn":
        return PlainPixelCNN(_pixelcnn(recipe, (colours, height, width), recipe.levels, 0))
    if recipe.model == "auxiliary-pixelcnn":
        auxiliary = _pixelcnn(recipe, target.shape, target.bins, 0)
        primary = _pixelcnn(recipe, (colours, height, width), recipe.levels, target.shape[0])
        return AuxiliaryPixelCNN(auxiliary, primary, target)
    vae = _vae(recipe, target)
    if recipe.model == "vae":
        return vae
    if recipe.model == "shallow":
        # Few layers of 3×3: a pixel sees num_resnets pixels up, and to each side.
        stack = FeatureStack(target.shape[0], recipe.channels, recipe.num_resnets)
        shallow = GatedPixelCNN(
            (colours, height, width), recipe.channels, recipe.num_resnets, first_kernel_size=3,
            likelihood=_mixture(recipe, recipe.levels), context_channels=stack.out_channels,
        )  # fmt: skip
        return AGAVE(vae, shallow, stack)
    pixels = _pixelcnn(recipe, (colours, height, width), recipe.levels, target.shape[0])
    return AGAVE(vae, GrayscaleDecoder(pixels) if recipe.model == "grey" else pixels)


def _target(recipe: AGAVERecipe, shape: Sequence[int]) -> AuxiliaryTarget:
    if recipe.target == "small":
        return DownSampledTarget(shape, recipe.target_factor, recipe.levels)
    bins = recipe.levels if recipe.target_bins is None else recipe.target_bins
    if recipe.target == "grey":
        return GrayscaleTarget(shape, recipe.levels, bins=bins)
    return FullResolutionTarget(shape, recipe.levels, bins=bins)


def _vae(recipe: AGAVERecipe, target: AuxiliaryTarget) -> AuxiliaryVAE:
    latents, sizes = recipe.latent_size, {
        "channels": recipe.vae_channels, "num_scales": recipe.vae_scales,
    }  # fmt: skip
    contexts = 2 * latents if recipe.iaf_steps else 0
    encoder = ImageEncoder(target.image_shape, 2 * latents + contexts, **sizes)
    decoder = ImageDecoder(latents, target.shape, **sizes)
    posterior = FlowPosterior(latents, contexts, num_steps=recipe.iaf_steps)
    return AuxiliaryVAE(encoder, decoder, target, latents, posterior=posterior)


def _pixelcnn(
    recipe: AGAVERecipe, shape: Sequence[int], levels: int, context_channels: int
) -> PixelCNNPlusPlus:
    colours, height, width = shape
    return PixelCNNPlusPlus(
        (colours, height, width),
        recipe.channels,
        recipe.num_resnets,
        recipe.num_scales,
        likelihood=_mixture(recipe, levels),
        dropout=recipe.dropout,
        context_channels=context_channels,
        deep_context=bool(context_channels),
    )


def _mixture(recipe: AGAVERecipe, levels: int) -> DiscretizedLogisticMixture:
    return DiscretizedLogisticMixture(levels, recipe.num_components)
