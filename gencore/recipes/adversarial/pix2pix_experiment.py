"""Translation of images from pairs in training: the generator, and the game with its adversary."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset
from gencore.metrics import psnr, ssim
from gencore.models import MultiScalePatchDiscriminator, PairAdversary
from gencore.nn import UNetGenerator
from gencore.objectives import make_game
from gencore.ops import random_key
from gencore.recipes.adversarial.adversarial_training import discriminator_scalars
from gencore.recipes.adversarial.pairs import Pairs, make_pairs
from gencore.recipes.adversarial.pix2pix import Pix2PixRecipe
from gencore.train import Batch, ImageExperiment, Optimisation, StateObject
from gencore.train.batch_norm import synchronise_batch_norm
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Pix2PixExperiment"]

_CHUNK = 256
# The windows of the structural similarity have this side.
_MIN_SIDE = 11
_ADVICE = "lower learning rates, or max_grad_norm"


class Pix2PixExperiment(ImageExperiment):
    """A step of the discriminators, if there are any, and one of the generator, on one batch."""

    recipe: Pix2PixRecipe

    def __init__(self, recipe: Pix2PixRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        shape = torch.empty(1, *self.image_shape, dtype=torch.uint8)
        given, wanted = make_pairs(recipe.task, shape)
        owner, size = "Pix2PixRecipe", 2**recipe.num_scales
        if any(side % size for side in given.shape[2:]):
            raise ValueError(
                f"{owner}: what is given has sides of {list(given.shape[2:])}; expected multiples "
                f"of {size}, for num_scales {recipe.num_scales}"
            )
        generator = UNetGenerator(
            given.shape[1], wanted.shape[1], num_scales=recipe.num_scales, width=recipe.width,
            normalization=recipe.normalization, dropout=recipe.dropout,
        ).to(fabric.device)  # fmt: skip
        module = synchronise_batch_norm(owner, fabric, generator)
        self.generator = recipe.optimisation(
            fabric, module, self._adam(module, recipe.learning_rate), ema_warmup=True,
            advice=_ADVICE,
        )  # fmt: skip
        states = {"generator": self.generator.state}
        self.discriminator: Optimisation | None = None
        if recipe.adversarial_weight:
            self.discriminator = self._make_discriminator(given.shape[1] + wanted.shape[1])
            states["discriminator"] = self.discriminator.state
        self.state: Mapping[str, StateObject] = {
            f"{player}_{name}": thing
            for player, state in states.items()
            for name, thing in state.items()
        }

    def _make_discriminator(self, channels: int) -> Optimisation:
        recipe = self.recipe
        adversary = PairAdversary(
            MultiScalePatchDiscriminator(
                channels, num_discriminators=recipe.num_discriminators,
                num_scales=recipe.patch_scales, width=recipe.discriminator_width,
                normalization=recipe.normalization,
            ),
            adversarial_weight=recipe.adversarial_weight,
            reconstruction_weight=recipe.reconstruction_weight,
            feature_weight=recipe.feature_weight,
            game=make_game(recipe.game),
        ).to(self.fabric.device)  # fmt: skip
        module = synchronise_batch_norm("Pix2PixRecipe", self.fabric, adversary)
        return recipe.discriminator_optimisation(
            self.fabric, module, self._adam(module, recipe.discriminator_learning_rate),
            advice=_ADVICE,
        )  # fmt: skip

    def _adam(self, module: nn.Module, rate: float) -> torch.optim.Optimizer:
        betas = self.recipe.beta1, 0.999
        return torch.optim.Adam(module.parameters(), rate, betas=betas, fused=True)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.generator.module.train()
        # Both players need the translations. Of a whole batch one pass serves both.
        whole = None
        if self.recipe.accumulate == 1:
            whole = self.generator.model(self._pairs(batch.x).given)
        scalars: dict[str, Tensor] = {}
        if self.discriminator is not None:
            player = self.discriminator

            def discriminator_loss(part: Batch) -> dict[str, Tensor]:
                pairs = self._pairs(part.x)
                if whole is None:
                    with torch.no_grad(), self.fabric.autocast():
                        translated = self.generator.module(pairs.given)
                else:
                    translated = whole
                terms: dict[str, Tensor] = player.model(*pairs, translated.detach().float())
                return terms

            scalars = discriminator_scalars(player.step(batch, discriminator_loss))

        def generator_loss(part: Batch) -> dict[str, Tensor]:
            pairs = self._pairs(part.x)
            translated = self.generator.model(pairs.given) if whole is None else whole
            return self._generator_loss(pairs, translated.float())

        return {**self.generator.step(batch, generator_loss), **scalars}

    def _generator_loss(self, pairs: Pairs, translated: Tensor) -> dict[str, Tensor]:
        recipe = self.recipe
        if self.discriminator is None:
            reconstruction = (pairs.wanted - translated).abs().mean()
            loss = recipe.reconstruction_weight * reconstruction
            return {"loss": loss, "reconstruction": reconstruction}
        adversary = self.discriminator.module
        assert isinstance(adversary, PairAdversary)
        # Not through Fabric's wrapper, which would wait for gradients of the weights.
        with self.fabric.autocast():
            terms = adversary.generator_loss(*pairs, translated)._asdict()
        if not recipe.feature_weight:
            del terms["feature_matching"]
        return terms

    def _pairs(self, images: Tensor) -> Pairs:
        return make_pairs(self.recipe.task, images)

    @torch.no_grad()
    def translate(self, given: Tensor, generator: Generator | None = None) -> Tensor:
        """Translations in [0, 1] by averaged weights, if they are averaged, with dropout.

        Args:
            given: images [N, C, H, W] in [−1, 1].
            generator: of the dropout; by default torch's own.
        """
        device = self.fabric.device
        network = self.generator.averaged.eval()
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.train()
        seed = int(random_key(generator, device=device)[0])
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            parts = [network(given[rows].to(device)) for rows in chunks(len(given), _CHUNK)]
        return _unit(torch.cat(parts))

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Translations of `num` test images, evenly spaced."""
        given = self._pairs(self._chosen(num)).given
        return self.translate(given, generator)

    def _chosen(self, num: int) -> Tensor:
        """`num` test images, evenly spaced; more than there are repeat them."""
        images = self.test.images
        return images[torch.arange(num) * len(images) // num]

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A row of what is given, one of the translations, and one of what is wanted."""
        from gencore.train.figures import save_image_grid

        given, wanted = (_unit(part) for part in self._pairs(self._chosen(len(samples))))
        rows = [_colours(part.cpu()) for part in (given, samples, wanted)]
        save_image_grid(torch.cat(rows), path, columns=len(samples))

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Both need test images, and the structural similarity needs some size."""
        if num_samples or num_evaluate:
            sides = self._pairs(self._chosen(1)).wanted.shape[2:]
            if num_evaluate and min(sides) < _MIN_SIDE:
                raise ValueError(
                    f"images of {sides[0]} x {sides[1]} pixels cannot be measured: the structural "
                    f"similarity needs {_MIN_SIDE}; set num_evaluate to 0"
                )

    def evaluate(self, num: int) -> dict[str, float]:
        """How far translations of up to `num` test images are from what is wanted: the mean
        absolute difference of pixels in [0, 1], the PSNR of all pixels together in decibels, the
        mean SSIM, the sharpness as the mean absolute difference of neighbours relative to that of
        what is wanted, and of colours the overlap of their histograms, 1 for equal ones.
        `model` is the generator, `baseline` the given image where it is like the wanted one (grey
        or blurred), else the mean of the training images. `spread` is the mean absolute difference
        of two translations of an image, by other dropout."""
        images = self._chosen(min(num, len(self.test)))
        given, wanted = self._pairs(images)
        first, second = (
            self.translate(given, Generator(self.fabric.device).manual_seed(seed)).cpu()
            for seed in range(2)
        )
        measures = {"num_samples": len(images), "spread": (first - second).abs().mean().item()}
        target = _unit(wanted)
        for name, found in (("model", first), ("baseline", self._baseline(given, wanted))):
            scores = {
                "l1": (found - target).abs().mean(),
                # Of single images it may be infinite: those that are grey.
                "psnr": psnr(found.flatten(0, 1)[None], target.flatten(0, 1)[None])[0],
                "ssim": ssim(found, target).mean(),
                "sharpness": _variation(found) / _variation(target),
            }
            if self.recipe.task == "colours":
                scores["colour_overlap"] = colour_overlap(found, target)
            measures |= {f"{score}/{name}": value.item() for score, value in scores.items()}
        return measures

    def _baseline(self, given: Tensor, wanted: Tensor) -> Tensor:
        if self.recipe.task in ("colours", "details"):
            return _unit(given).expand_as(wanted)
        parts = torch.split(self.dataset.images, _CHUNK)
        total = sum(self._pairs(part).wanted.double().sum(0) for part in parts)
        assert isinstance(total, Tensor)
        return _unit((total / len(self.dataset)).float()).cpu().expand_as(wanted)


def colour_overlap(x: Tensor, y: Tensor, *, num_bins: int = 64) -> Tensor:
    """The overlap Σ min(p, q) of the histograms of red − green and of blue − (red + green)/2 of all
    pixels of two sets of images [N, 3, H, W] in [0, 1], the mean of both.

    Example:
        >>> x = torch.rand(2, 3, 4, 4)
        >>> colour_overlap(x, x), colour_overlap(x[:, :1].expand_as(x), x) < 1
        (tensor(1.), tensor(True))
    """

    def histograms(images: Tensor) -> Tensor:
        red, green, blue = images.float().unbind(1)
        differences = red - green, blue - (red + green) / 2
        return torch.stack([torch.histc(each, num_bins, -1, 1) for each in differences])

    p, q = (histograms(images) / images[:, 0].numel() for images in (x, y))
    return torch.minimum(p, q).sum(1).mean()


def _variation(images: Tensor) -> Tensor:
    """The mean absolute difference of neighbours."""
    return sum((images.diff(dim=axis).abs().mean() for axis in (2, 3)), torch.tensor(0.0))


def _unit(images: Tensor) -> Tensor:
    """From [−1, 1] to [0, 1]."""
    return ((images + 1) / 2).clamp(0, 1)


def _colours(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)
