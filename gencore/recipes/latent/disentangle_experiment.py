"""The disentangling VAE in training: Algorithm 5.1 on images and their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from gencore.data import ImageDataset, to_float
from gencore.inference.gaussian_posterior import NormalParameters, draw_latents
from gencore.metrics import label_probe_error
from gencore.metrics.distances.nearest import k_nearest
from gencore.models import DisentangledCodes, DisentanglingLoss, DisentanglingVAE
from gencore.nn import LookUpDiscriminator, NotatedNetwork
from gencore.objectives import adversarial_discriminator_loss
from gencore.ops import random_key
from gencore.recipes.latent.disentangle import DisentangleRecipe
from gencore.train import Batch, ImageExperiment, Optimisation, StateObject
from gencore.train.chunks import chunks
from gencore.train.optimisation import make_scheduler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DisentangleExperiment", "default_widths", "make_networks"]

_CHUNK = 512  # images that are coded at once, which bounds the memory
_FIGURE_SIDE = 10
_ADVICE = "a lower learning_rate, discriminator_learning_rate or adversarial_weight"


class Exemplars(nn.Module):
    """An image of each label, whose s samples have."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images: Tensor
        self.register_buffer("images", images)


class DisentangleExperiment(ImageExperiment):
    """A step of encoder and decoder, and one of the discriminator.

    Each image of a batch has two partners, drawn anew: one of the same label and one of any.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training images and their labels, or their shape and labels alone.
    """

    recipe: DisentangleRecipe

    def __init__(self, recipe: DisentangleRecipe, fabric: "Fabric", dataset: ImageDataset) -> None:
        super().__init__(recipe, fabric, dataset)
        if dataset.labels is None:
            raise ValueError(
                f"DisentangleRecipe: the images of {recipe.data!r} have no labels, which say what "
                "two of them have in common"
            )
        labels = dataset.labels.cpu()
        self._labels = labels.unique()
        places = torch.searchsorted(self._labels, labels)
        self._places = places
        # The images of each label, one label after the other, and where each label starts.
        self._order, self._counts = places.argsort(stable=True), places.bincount()
        self._starts = self._counts.cumsum(0) - self._counts
        device = fabric.device
        encoder, decoder, discriminator = make_networks(recipe, self.image_shape, len(self._labels))
        model = DisentanglingVAE(
            encoder, decoder, recipe.specified_size, recipe.latent_size,
            recon_weight=recipe.recon_weight, swap_weight=recipe.swap_weight,
            kl_weight=recipe.kl_weight, adversarial_weight=recipe.adversarial_weight,
            sample_weight=recipe.sample_weight,
        ).to(device)  # fmt: skip
        self.generator = recipe.optimisation(
            fabric, model, torch.optim.Adam(model.parameters(), recipe.learning_rate),
            ema_warmup=True, method="loss", advice=_ADVICE,
        )  # fmt: skip
        discriminator = discriminator.to(device)
        optimizer = torch.optim.Adam(
            discriminator.parameters(), recipe.discriminator_learning_rate, betas=(0.5, 0.999)
        )
        self.discriminator = Optimisation(
            fabric, discriminator, optimizer,
            scheduler=make_scheduler(
                optimizer, recipe.schedule, warmup_steps=recipe.warmup_steps, steps=recipe.steps
            ),
            max_grad_norm=recipe.max_grad_norm, accumulate=recipe.accumulate,
            advice=_ADVICE,
        )  # fmt: skip
        shown = dataset.images[self._order[self._starts].to(dataset.images.device)]
        if shown.is_meta:  # the images come with the weights
            shown = torch.zeros(shown.shape, dtype=shown.dtype)
        self.exemplars = Exemplars(shown.to(device, copy=True))
        self.state: Mapping[str, StateObject] = {
            "exemplars": self.exemplars,
            **{f"generator_{name}": part for name, part in self.generator.state.items()},
            **{f"discriminator_{name}": part for name, part in self.discriminator.state.items()},
        }

    @property
    def model(self) -> DisentanglingVAE:
        """The model with averaged weights, if they are averaged, in evaluation mode."""
        model = self.generator.averaged.eval()
        assert isinstance(model, DisentanglingVAE)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """A step of the generator, and of the discriminator unless nothing it says has a weight."""
        recipe, device = self.recipe, self.fabric.device
        keys = [random_key(device=device) for _ in range(3)]
        judged = recipe.adversarial_weight > 0 or recipe.sample_weight > 0
        judge = self.discriminator.module if judged else None

        def loss(part: Batch) -> dict[str, Tensor]:
            same, other = self._partners(part, keys[0])
            terms: DisentanglingLoss = self.generator.model(
                to_float(part.x, 0, 1), self._images(same), self._images(other),
                self._places[other].to(device), judge, key=keys[1], first=part.first,
            )  # fmt: skip
            return {name: term for name, term in terms._asdict().items() if term is not None}

        scalars = self.generator.step(batch, loss)
        if not judged:
            return scalars
        model = self.generator.module
        assert isinstance(model, DisentanglingVAE)

        def discriminator_loss(part: Batch) -> dict[str, Tensor]:
            real, (_, other) = to_float(part.x, 0, 1), self._partners(part, keys[0])
            fake = model.swapped_samples(real, self._images(other), key=keys[2], first=part.first)
            labels = self._places[part.index.cpu()].to(device)
            # In one pass, after which ranks average gradients.
            logits: Tensor = self.discriminator.model(
                torch.cat([real, fake]), torch.cat([labels, labels])
            )
            return {"discriminator_loss": adversarial_discriminator_loss(*logits.chunk(2))}

        found = self.discriminator.step(batch, discriminator_loss)
        return {**scalars, "discriminator_loss": found["discriminator_loss"]}

    def _partners(self, batch: Batch, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the data set: of an image of the same label, perhaps itself, and of any."""
        uniform = batch.uniform((2,), key=key).cpu().double()
        places = self._places[batch.index.cpu()]
        counts = self._counts[places]
        within = (uniform[:, 0] * counts).long()
        same = self._order[self._starts[places] + within]
        return same, (uniform[:, 1] * len(self._places)).long()

    def _images(self, rows: Tensor) -> Tensor:
        images = self.dataset.images
        return to_float(images[rows.to(images.device)].to(self.fabric.device), 0, 1)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Images of s of each label's first training image, as many of each, and z ~ N(0, I)."""
        key = random_key(generator, device=self.fabric.device)
        with torch.no_grad():
            s = self.model.encode(to_float(self.exemplars.images, 0, 1)).s
            rows = torch.arange(num, device=s.device) * len(s) // max(num, 1)
            parts = [
                self.model.sample(s[rows[part]], key=key, first=part.start)
                for part in chunks(num, _CHUNK)
            ]
        return torch.cat(parts).clamp(0, 1)

    @torch.no_grad()
    def codes(self, images: Tensor) -> DisentangledCodes:
        """s and q(z | y) of images, uint8 [N, C, H, W]."""
        parts = [
            self.model.encode(to_float(images[part].to(self.fabric.device), 0, 1))
            for part in chunks(len(images), _CHUNK)
        ]
        s = torch.cat([part.s for part in parts])
        mean, log_std = (
            torch.cat([part.posterior[i] for part in parts]) for i in (0, 1)
        )  # fmt: skip
        return DisentangledCodes(s, NormalParameters(mean, log_std))

    def evaluate(self, num: int) -> dict[str, float]:
        """What codes of up to `num` test images tell of their labels, and the error of
        reconstructions.

        `probe_error/…` is that of a network trained on the training images' codes: s, the mean of
        z, and z drawn from its posterior; `chance` that of the most frequent training label.
        `retrieval_error/…` is the share of test images whose nearest training image has another
        label. `squared_error/test` is the mean over pixels in [0, 1].
        """
        train, test = self.dataset, self.test
        chosen = torch.randperm(len(test))[:num]
        assert test.labels is not None
        labels, images = test.labels[chosen].cpu(), test.images[chosen]
        known = self._labels[self._places]
        codes, of_train = self.codes(images), self.codes(train.images)
        key = random_key(device=self.fabric.device)
        drawn, drawn_of_train = (
            draw_latents(c.posterior, 1, key, first)[0].squeeze(1)
            for c, first in ((codes, len(train)), (of_train, 0))
        )
        compared = {
            "s": (of_train.s, codes.s),
            "z_mean": (of_train.posterior.mean, codes.posterior.mean),
            "z_sampled": (drawn_of_train, drawn),
        }
        measures: dict[str, float] = {"num_samples": len(chosen)}
        for name, (a, b) in compared.items():
            measures[f"probe_error/{name}"] = label_probe_error(a, known, b, labels)
        frequent = self._labels[self._counts.argmax()]
        measures["probe_error/chance"] = (labels != frequent).float().mean().item()
        for name in ("s", "z_mean"):
            a, b = compared[name]
            nearest = k_nearest(b, a, 1, batch_size=_CHUNK).indices[:, 0].cpu()
            measures[f"retrieval_error/{name}"] = (known[nearest] != labels).float().mean().item()
        with torch.no_grad():
            errors = [
                (self.model.decode(codes.posterior.mean[part], codes.s[part])
                 - to_float(images[part].to(self.fabric.device), 0, 1)).square().flatten(1).mean(1)
                for part in chunks(len(images), _CHUNK)
            ]  # fmt: skip
        measures["squared_error/test"] = torch.cat(errors).mean().item()
        return measures

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Swaps, a plane between two test images' codes, and samples for one s.

        In `interpolation.png` s changes from row to row, and z from column to column. In `swap.png`
        the first column has s and the first row z; in `samples_of_s.png` the first column has s,
        and z is from the prior, alike in each column.
        """
        from gencore.train.figures import save_image_grid

        folder.mkdir(exist_ok=True)
        test, device, model = self.test, self.fabric.device, self.model
        chosen = torch.randperm(len(test))
        images = to_float(test.images[chosen].to(device), 0, 1)
        assert test.labels is not None
        rows = to_float(self.exemplars.images[:_FIGURE_SIDE], 0, 1)
        top = images[: _FIGURE_SIDE - 1]
        self._save_table(rows, top, model.swap_grid(rows, top), folder / "swap.png")
        labels = test.labels[chosen]
        end = int((labels != labels[0]).int().argmax())  # the first of another label
        plane = model.interpolate_grid(images[:1], images[end : end + 1], 8)[0].flatten(0, 1)
        save_image_grid(plane.clamp(0, 1), folder / "interpolation.png", columns=8)
        s = model.encode(rows).s
        key = random_key(device=device)
        samples = torch.stack([model.sample(one.expand(9, -1), key=key) for one in s])
        together = torch.cat([rows[:, None], samples], 1).flatten(0, 1)
        save_image_grid(together.clamp(0, 1), folder / "samples_of_s.png", columns=10)

    @staticmethod
    def _save_table(left: Tensor, top: Tensor, inner: Tensor, path: Path) -> None:
        """A table of images [N, M, ...] with a column before it and a row above."""
        from gencore.train.figures import save_image_grid

        head = torch.cat([torch.full_like(top[:1], 0.5), top])
        body = torch.cat([left[:, None], inner], 1).flatten(0, 1)
        save_image_grid(torch.cat([head, body]).clamp(0, 1), path, columns=len(head))


def default_widths(shape: Sequence[int]) -> tuple[int, ...]:
    """Channels of the encoder for images of `shape` [C, H, W]: half those of Table 5.1, whose
    images have 32 pixels a side; sides are halved up to three times, where they are even."""
    halvings = 0
    while halvings < 3 and not any(side % 2 ** (halvings + 1) for side in shape[1:]):
        halvings += 1
    return (8, 16, 32, 64)[: halvings + 1]


def make_networks(
    recipe: DisentangleRecipe, shape: Sequence[int], num_labels: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Encoder, decoder and discriminator of Table 5.1 for images of `shape` [C, H, W]."""
    channels, height, width = shape
    widths = recipe.widths or default_widths(shape)
    factor = 2 ** (len(widths) - 1)
    if height % factor or width % factor:
        raise ValueError(
            f"DisentangleRecipe: the images are {height}x{width}; expected sides that are "
            f"multiples of {factor} for {len(widths)} widths"
        )
    s, z = recipe.specified_size, recipe.latent_size
    down = "".join(f" -convp5/2,ReLU-> {each}" for each in widths[1:])
    encoder = NotatedNetwork(
        f"{channels}@{height}x{width} -convp5,ReLU-> {widths[0]}{down} -FC-> {s + 2 * z}"
    )
    # FC of s and z in a row is FC(s) + FC(z), which the table has.
    maps = f"{widths[-1]}@{height // factor}x{width // factor}"
    values = widths[-1] * (height // factor) * (width // factor)
    up = "".join(f" -convp5/1/2,ReLU-> {each}" for each in reversed(widths[:-1]))
    decoder = NotatedNetwork(
        f"{s + z} -FC,ReLU-> {values} -reshape-> {maps}{up} -convp5-> {channels}"
    )
    judge = recipe.discriminator_widths or tuple(2 * each for each in widths[:-1]) or (16,)
    return encoder, decoder, LookUpDiscriminator(shape, num_labels, widths=judge)
