"""VQ-VAE on images, and then an autoregressive prior of its codes."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.compression import VQVAEModel
from gencore.data import ImageDataset
from gencore.metrics import psnr
from gencore.models import VQVAE, GatedPixelCNN
from gencore.ops import random_key
from gencore.recipes.autoregressive.vqvae import VQVAERecipe
from gencore.recipes.level_bits import level_bits
from gencore.train import Batch, ImageExperiment, Optimisation, StateObject
from gencore.train.chunks import chunks
from gencore.train.done_steps import DoneSteps
from gencore.train.optimisation import make_scheduler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["VQVAEExperiment"]

# Images that are measured at once, which bounds the memory.
_CHUNK = 256
_FIGURE_COLUMNS = 10


class VQVAEExperiment(ImageExperiment):
    """An autoencoder with a code book in training, and after `vq_steps` the prior of its codes."""

    recipe: VQVAERecipe

    def __init__(self, recipe: VQVAERecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        channels, height, width = self.image_shape
        autoencoder = VQVAE(
            (channels, height, width),
            recipe.hidden_channels,
            recipe.num_codes,
            recipe.code_dim,
            downsampling=_downsampling(recipe, height, width),
            num_blocks=recipe.num_blocks,
            block_channels=max(recipe.hidden_channels // 2, 1),
            update=recipe.update,
            decay=recipe.decay,
            commitment=recipe.commitment,
            revive_after=recipe.revive_after,
        )
        prior = GatedPixelCNN(
            autoencoder.code_shape,
            recipe.prior_channels,
            recipe.prior_layers,
            levels=recipe.num_codes,
            embedding=recipe.prior_embedding,
        )
        self._done = DoneSteps()  # of both stages together
        prior_steps = max(recipe.steps - recipe.vq_steps, 1)
        self.vq = _optimisation(recipe, fabric, autoencoder, recipe.vq_steps)
        self.codes = _optimisation(recipe, fabric, prior, prior_steps, method="log_prob")
        self.state: Mapping[str, StateObject] = {
            "steps": self._done,
            **{f"vq_{name}": thing for name, thing in self.vq.state.items()},
            **{f"prior_{name}": thing for name, thing in self.codes.state.items()},
        }

    @property
    def autoencoder(self) -> VQVAE:
        """The autoencoder with averaged weights, in evaluation mode."""
        model = self.vq.averaged.eval()
        assert isinstance(model, VQVAE)
        return model

    @property
    def prior(self) -> GatedPixelCNN | None:
        """The prior with averaged weights, in evaluation mode; none before its first step."""
        if self._done.number <= self.recipe.vq_steps:
            return None
        model = self.codes.averaged.eval()
        assert isinstance(model, GatedPixelCNN)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """A step of the autoencoder, or of the prior once that has had its steps."""
        if self._done.number == 0 and self.recipe.steps <= self.recipe.vq_steps:
            warnings.warn(
                f"no prior of the codes is trained: the run has {self.recipe.steps} steps, and the "
                f"first {self.recipe.vq_steps} (vq_steps) are the autoencoder's; samples have "
                "codes of a uniform prior",
                stacklevel=2,
            )
        is_vq = self._done.number < self.recipe.vq_steps
        scalars = self._vq_step(batch) if is_vq else self._prior_step(batch)
        self._done.number += 1
        return scalars

    def _vq_step(self, batch: Batch) -> dict[str, Tensor]:
        key = random_key(device=self.fabric.device)
        code_nats = math.prod(self.autoencoder.code_shape) * math.log(self.recipe.num_codes)
        self.vq.module.train()

        def loss(part: Batch) -> dict[str, Tensor]:
            values = self.vq.model(part.x, key=key)
            return {
                # In nats a dimension, so that learning rates do not depend on the size.
                "loss": values.loss.mean() / self._num_dims,
                "bits_per_dim": self._bits(values.log_likelihood.detach() - code_nats).mean(),
                "perplexity": values.perplexity,
            }

        return self.vq.step(batch, loss)

    def _prior_step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            codes = self.autoencoder.encode(batch.x).unsqueeze(1)
        self.codes.module.train()
        nats = math.prod(codes.shape[1:]) * math.log(2)

        def loss(part: Batch) -> dict[str, Tensor]:
            return {"bits_per_code": -self.codes.model(part.x).mean() / nats}

        return self.codes.step(Batch(codes, None, batch.index, batch.first), loss)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of codes from the prior, or from the uniform one while there is no other."""
        levels = self.autoencoder.sample(num, self.prior, generator=generator)
        return levels / 255

    def image_model(self) -> VQVAEModel:
        """The lossy coder of images: their codes by the prior, or by the uniform one while there is
        no other."""
        return VQVAEModel(self.autoencoder, self.prior)

    def evaluate(self, num: int) -> dict[str, float]:
        """The bound in bits per dimension, under the uniform prior and the learned one, of up to
        `num` held-out test images and of training images.

        Of the test images also the bits a code under the learned prior, which are at most log₂ K if
        it has learned anything, how many codes are in use, and the reconstructions' PSNR.
        """
        train, test = self.dataset, self.test
        measures: dict[str, float] = {"num_samples": min(num, len(test))}
        model, prior = self.autoencoder, self.prior
        for name, part in (("test", test), ("train", train)):
            chosen = part.subset(torch.randperm(len(part))[:num]).images
            codes = self._chunked(model.encode, chosen)
            bound = self._chunked(model.log_prob_bound, chosen)
            uniform = model.log_prior(codes)
            measures[f"bits_per_dim/{name}/uniform_prior"] = self._mean_bits(bound)
            if prior is not None:
                learned = torch.cat([model.log_prior(c, prior) for c in _split(codes)])
                measures[f"bits_per_dim/{name}/prior"] = self._mean_bits(bound - uniform + learned)
                code_bits = -learned.double().mean() / (codes[0].numel() * math.log(2))
                measures[f"bits_per_code/{name}"] = code_bits.item()
            if name == "test":
                decoded = self._chunked(self._reconstructed, chosen)
                measures["psnr"] = psnr(decoded.cpu(), chosen).mean().item()
                counts = torch.bincount(codes.flatten(), minlength=self.recipe.num_codes)
                entropy = torch.special.entr(counts.double() / counts.sum()).sum()
                measures["perplexity"] = entropy.exp().item()
        return measures

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test images."""
        if num_samples or num_evaluate:
            _ = self.test

    def figures(self, folder: Path) -> None:
        """Held-out images, and below each row of them their reconstructions."""
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        num = min(4 * _FIGURE_COLUMNS, len(self.test))
        images = self.test.subset(torch.randperm(len(self.test))[:num]).images
        decoded = self._chunked(self._reconstructed, images).cpu()
        rows = [
            row
            for pair in zip(images.split(_FIGURE_COLUMNS), decoded.split(_FIGURE_COLUMNS),
                            strict=True)
            for row in pair
        ]  # fmt: skip
        # A last row that is not full would end before its reconstructions begin.
        full = [row for row in rows if len(row) == len(rows[0])]
        save_image_grid(torch.cat(full) / 255, folder / "reconstructions.png", columns=len(rows[0]))

    @property
    def _num_dims(self) -> int:
        return math.prod(self.image_shape)

    def _bits(self, log_prob: Tensor) -> Tensor:
        return level_bits(log_prob, self.image_shape)

    def _mean_bits(self, log_prob: Tensor) -> float:
        return self._bits(log_prob.double()).mean().item()

    def _reconstructed(self, images: Tensor) -> Tensor:
        return self.autoencoder.reconstruct(images).round().to(torch.uint8)

    @torch.no_grad()
    def _chunked(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        device = self.fabric.device
        return torch.cat([function(part.to(device)) for part in _split(images)])


def _split(x: Tensor) -> list[Tensor]:
    return [x[part] for part in chunks(len(x), _CHUNK)]


def _optimisation(
    recipe: VQVAERecipe,
    fabric: "Fabric",
    module: nn.Module,
    steps: int,
    *,
    method: str = "forward",
) -> Optimisation:
    """As `recipe.optimisation`, of a stage with its own number of steps."""
    module.to(fabric.device)
    optimizer = torch.optim.Adam(module.parameters(), recipe.learning_rate, fused=True)
    scheduler = make_scheduler(
        optimizer, recipe.schedule, warmup_steps=recipe.warmup_steps, steps=steps
    )
    return Optimisation(
        fabric, module, optimizer, scheduler=scheduler,
        max_grad_norm=recipe.max_grad_norm, ema_decay=recipe.ema_decay, ema_warmup=True,
        method=method, advice="a lower learning_rate or max_grad_norm, or more warmup_steps",
    )  # fmt: skip


def _downsampling(recipe: VQVAERecipe, height: int, width: int) -> int:
    """The factor that the recipe names, or the one that suits the images."""
    factor = recipe.downsampling
    if factor is None:
        factor = 2 if min(height, width) < 16 else 4
    if height % factor or width % factor:
        raise ValueError(
            f"downsampling is {factor}, but the images are {height}x{width}: choose a power of two "
            "that divides their sides, or set image_size"
        )
    return factor
