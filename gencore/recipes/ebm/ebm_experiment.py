"""The short-run energy-based model on images (Yan 2022, §2.4.6)."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gencore.data import ImageDataset, to_float
from gencore.metrics import (
    ClassifierFeatures,
    Features,
    frechet_distance,
    independent_pixels,
    pixel_features,
)
from gencore.models import (
    ConvEnergy,
    ConvEnergyName,
    DivergenceError,
    ShortRunEBM,
    check_divergence,
)
from gencore.ops import philox_normal, random_key
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.samplers import ReplayBuffer
from gencore.train import Diverged, Experiment, StateObject

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["EBMExperiment"]

# Chains that are sampled at once, which bounds the memory of a large sample.
_CHUNK = 512
# Beyond this many dimensions covariances of pixels, of 2 GB each, are left out.
_MAX_PIXELS = 2**14


class EBMExperiment(Experiment):
    """A `ShortRunEBM` in training; every rank runs its part of the chains of a single process."""

    def __init__(self, recipe: EBMRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.dataset = dataset
        shape = dataset.images.shape[1:]
        self.ebm = ShortRunEBM(
            energy_network(recipe, shape),
            shape,
            num_steps=recipe.chain_steps,
            step_size=recipe.step_size,
            noise_scale=recipe.noise_scale,
            grad_clamp=recipe.grad_clamp,
            generator_weight=recipe.generator_weight,
            energy_penalty=recipe.energy_penalty,
        )
        optimizer = torch.optim.Adam(
            self.ebm.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, 0.999), fused=True
        )
        self.ema = AveragedModel(
            self.ebm,
            device=fabric.device,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay),
        ).requires_grad_(False)
        # Only the loss goes through the wrapped model, which averages gradients over ranks.
        self.model, self.optimizer = fabric.setup(self.ebm, optimizer)
        state: dict[str, StateObject] = {
            "model": self.ebm, "optimizer": self.optimizer, "ema": self.ema,
        }  # fmt: skip
        self.buffer = None
        if recipe.buffer_size:
            self.buffer = ReplayBuffer(
                recipe.buffer_size, shape, reinit_fraction=recipe.reinit_fraction
            ).to(fabric.device)
            state["buffer"] = self.buffer
        self.state: Mapping[str, StateObject] = state

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        """Draw samples, compare their energy with the data's, and move the weights."""
        fabric, num = self.fabric, len(batch)
        first = fabric.global_rank * num
        data_key, start_key, chain_key = (random_key(device=fabric.device) for _ in range(3))
        x = to_float(batch, -1, 1)
        noise = philox_normal(x.shape, data_key, first_element=first * batch[0].numel())
        x += self.recipe.data_noise * noise
        if self.buffer is None:
            start = self.ebm.start(num, key=start_key, first=first)
        else:
            total = fabric.world_size * num
            start, slots = self.buffer.draw(num, key=start_key, first=first, total=total)

        terms = self.model(x, start, key=chain_key, first=first)
        scalars = fabric.all_reduce(tuple(term.detach() for term in terms[:3]), reduce_op="mean")
        try:
            check_divergence(*scalars, max_gap=self.recipe.max_gap)
        except DivergenceError as error:
            raise Diverged(
                str(error), advice="a lower learning_rate or step_size, or an energy_penalty of 0.1"
            ) from error

        self.optimizer.zero_grad()
        fabric.backward(terms.loss)
        grad_norm = fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.recipe.max_grad_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.ema.update_parameters(self.ebm)
        if self.buffer is not None:
            self.buffer.put(_gather(fabric, terms.samples), _gather(fabric, slots))
        loss, energy_data, energy_samples = scalars
        return {
            "loss": loss,
            "energy_data": energy_data,
            "energy_samples": energy_samples,
            "grad_norm": grad_norm,
        }

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images from the averaged weights; with a replay buffer, from its chains."""
        chunk = _CHUNK if self.buffer is None else min(_CHUNK, len(self.buffer.chains))
        sizes = [min(chunk, num - first) for first in range(0, num, chunk)] or [0]
        x = torch.cat([self._sample_chunk(size, generator) for size in sizes])
        return ((x + 1) / 2).clamp(0, 1)

    def _sample_chunk(self, num: int, generator: Generator | None) -> Tensor:
        ebm = self.ema.module
        assert isinstance(ebm, ShortRunEBM)
        start_key, chain_key = (random_key(generator, self.fabric.device) for _ in range(2))
        if self.buffer is None:
            start = ebm.start(num, key=start_key)
        else:
            _, slots = self.buffer.draw(num, key=start_key)
            start = self.buffer.chains[slots]
        return ebm.dynamics.sample(start, ebm.num_steps, key=chain_key)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """The measures need two images of each kind: a covariance needs as many."""
        if not num_evaluate:
            return
        numbers = {
            "num_evaluate": num_evaluate,
            "the training part": len(self.dataset),
            "the test part": len(self._test),
        }
        for name, number in numbers.items():
            if number < 2:
                raise ValueError(
                    f"{name} is {number} image, but the measures need at least 2: give more, or "
                    "measure nothing (num_evaluate 0)"
                )

    @cached_property
    def _test(self) -> ImageDataset:
        return self.recipe.load_test_data(self.dataset)

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances from the held-out test images: on pixels in [0, 1], up to 16,384 of
        them, and, where the data has labels of two classes or more, on the activations of a small
        classifier trained on it.

        `samples` is the model's; `independent_pixels` that of images without any correlation, which
        it has to beat; `train` that of real images, which it cannot be expected to beat.
        """
        images, labels = self.dataset.images, self.dataset.labels
        test = self._test.images
        candidates = {
            "samples": self.sample(num).cpu(),
            "independent_pixels": independent_pixels(images, num),
            "train": images[torch.randperm(len(images))[:num]],
        }
        features: dict[str, Features] = {}
        if images[0].numel() <= _MAX_PIXELS:
            features["pixels"] = pixel_features
        if labels is not None and len(labels.unique()) > 1:
            features["classifier"] = ClassifierFeatures.fit(images, labels)
        return {
            f"frechet_{kind}/{name}": frechet_distance(candidate, test, feature)
            for kind, feature in features.items()
            for name, candidate in candidates.items()
        }


def energy_network(recipe: EBMRecipe, shape: torch.Size) -> ConvEnergy:
    """The network that the recipe names, or one that suits the images, for images of `shape`."""
    channels, height, width = shape
    if height != width:
        raise ValueError(
            f"EBMRecipe: the images are {height}x{width}; expected square ones (set image_size)"
        )
    name = recipe.network
    if name == "auto":
        medium: ConvEnergyName = "mnist" if channels == 1 else "cifar10"
        name = "digits" if height < 32 else "celeba" if height >= 64 else medium
    return ConvEnergy.preset(
        name, image_size=height, channels=channels, spectral_norm=recipe.spectral_norm
    )


def _gather(fabric: "Fabric", part: Tensor) -> Tensor:
    """The parts [N, ...] of all ranks as one tensor, in the order of the ranks."""
    gathered = fabric.all_gather(part)  # [ranks, N, ...], or [N, ...] from a single process
    assert isinstance(gathered, Tensor)
    return gathered.reshape(-1, *part.shape[1:])
