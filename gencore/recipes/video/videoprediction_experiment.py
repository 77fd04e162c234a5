"""Multi-scale prediction of frames in training: the generator, and the game with its adversary."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from gencore.data import MovingShapes, VideoDataset, save_film, to_float
from gencore.data.names import FILM_SUFFIXES
from gencore.metrics import clip_moving_areas, evaluate_frame_prediction
from gencore.models import MultiScaleDiscriminator, MultiScaleGenerator, copy_last, image_pyramid
from gencore.objectives import multi_scale_discriminator_loss, multi_scale_prediction_loss
from gencore.ops import random_key
from gencore.recipes.video.clips import ClipShape
from gencore.recipes.video.videoprediction import VideoPredictionRecipe
from gencore.train import Batch, Experiment, Optimisation, StateObject
from gencore.train.chunks import chunks
from gencore.train.done_steps import DoneSteps
from gencore.train.optimisation import make_scheduler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["VideoPredictionExperiment"]

# Test clips that are predicted at once, which bounds the memory.
_CHUNK = 16
# The windows of the structural similarity have this side.
_MIN_SIDE = 11
# Smaller frames are enlarged in films, about to this.
_SHOWN_SIDE = 128
_ADVICE = "a lower learning_rate, discriminator_learning_rate or max_grad_norm"


class VideoPredictionExperiment(Experiment):
    """Algorithm 4.1: a step of the discriminator, and one of the generator on the same frames.

    The thesis sums the losses over the batch, and so the gradients; here they are means, unless the
    recipe says `sums`.

    Args:
        recipe: the options.
        fabric: the run's processes.
        dataset: the training clips, or their shape alone.
    """

    def __init__(
        self, recipe: VideoPredictionRecipe, fabric: "Fabric", dataset: VideoDataset | ClipShape
    ) -> None:
        self.recipe, self.fabric, self._channels = recipe, fabric, dataset.shape[1]
        generator = MultiScaleGenerator(
            recipe.patch_size,
            num_scales=recipe.num_scales,
            num_inputs=recipe.num_inputs,
            channels=self._channels,
            width=recipe.width,
            batch_norm=recipe.batch_norm,
            noise_std=recipe.noise_std,
            upsampling=recipe.upsampling,
        ).to(fabric.device)
        optimizer = self._optimizer(generator, recipe.learning_rate)
        self.generator = Optimisation(
            fabric, generator, optimizer,
            scheduler=make_scheduler(
                optimizer, recipe.schedule, warmup_steps=recipe.warmup_steps, steps=recipe.steps,
                final=recipe.final_learning_rate / recipe.learning_rate,
            ),
            max_grad_norm=recipe.max_grad_norm, ema_decay=recipe.ema_decay, ema_warmup=True,
            accumulate=recipe.accumulate, advice=_ADVICE,
        )  # fmt: skip
        self._done = DoneSteps()  # the schedules of the weights go by it
        self._weights = recipe.weight("lp"), recipe.weight("gdl")
        states = {"generator": self.generator.state}
        self.discriminator: Optimisation | None = None
        if recipe.adversarial_weight:
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

    def _make_discriminator(self) -> Optimisation:
        recipe = self.recipe
        module = MultiScaleDiscriminator(
            recipe.patch_size,
            num_scales=recipe.num_scales,
            num_inputs=recipe.num_inputs,
            channels=self._channels,
            width=recipe.width,
            batch_norm=recipe.batch_norm,
            separate_frames=recipe.separate_frames,
        ).to(self.fabric.device)
        return Optimisation(
            self.fabric, module, self._optimizer(module, recipe.discriminator_learning_rate),
            max_grad_norm=recipe.max_grad_norm, accumulate=recipe.accumulate, method="compare",
            advice=_ADVICE,
        )  # fmt: skip

    def _optimizer(self, module: nn.Module, learning_rate: float) -> Optimizer:
        if self.recipe.optimizer == "sgd":
            return torch.optim.SGD(module.parameters(), learning_rate)
        return torch.optim.Adam(module.parameters(), learning_rate, fused=True)

    @property
    def model(self) -> MultiScaleGenerator:
        """The generator with averaged weights, if they are averaged, in evaluation mode."""
        model = self.generator.averaged.eval()
        assert isinstance(model, MultiScaleGenerator)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """A step of the discriminator, if there is one, and then of the generator."""
        self.generator.module.train()
        key = random_key(device=self.fabric.device) if self.recipe.noise_std else None
        # Both players need the predictions. Of a whole batch one pass serves both.
        whole = self._predict(batch, key) if self.recipe.accumulate == 1 else None
        scalars: dict[str, Tensor] = {}
        if self.discriminator is not None:
            adversary = self.discriminator

            def discriminator_loss(part: Batch) -> dict[str, Tensor]:
                frames, target = _frames(part)
                if whole is None:
                    with torch.no_grad():
                        predicted = self._predict(part, key)
                else:
                    predicted = tuple(image.detach() for image in whole)
                real = image_pyramid(target, self.recipe.num_scales)
                logits = adversary.model(frames, real, predicted)
                loss = multi_scale_discriminator_loss(*logits)
                return {"discriminator_loss": self._reduce(loss)}

            found = adversary.step(batch, discriminator_loss)
            scalars["discriminator_loss"] = found["discriminator_loss"]
        lp_weight, gdl_weight = (weight(self._done.number) for weight in self._weights)

        def generator_loss(part: Batch) -> dict[str, Tensor]:
            frames, target = _frames(part)
            predictions = self._predict(part, key) if whole is None else whole
            losses = multi_scale_prediction_loss(
                predictions,
                image_pyramid(target, self.recipe.num_scales),
                self._judge(frames, predictions),
                adversarial_weight=self.recipe.adversarial_weight,
                lp_weight=lp_weight,
                gradient_difference_weight=gdl_weight,
                p=self.recipe.p,
                alpha=self.recipe.alpha,
                pixel_means=not self.recipe.sums,
            )
            return {name: self._reduce(loss) for name, loss in losses._asdict().items()}

        found = self.generator.step(batch, generator_loss)
        if self.discriminator is None:
            del found["adversarial"]
        self._done.number += 1
        return {**found, **scalars}

    def _predict(self, part: Batch, key: Tensor | None) -> tuple[Tensor, ...]:
        """Predictions of all scales, with a graph unless the caller is without."""
        frames, _ = _frames(part)
        predictions: tuple[Tensor, ...] = self.generator.model(frames, key, part.first)
        return predictions

    def _judge(self, frames: Tensor, predictions: tuple[Tensor, ...]) -> Tensor | None:
        """The discriminators' logits, with a graph to the predictions and not to their weights."""
        if self.discriminator is None:
            return None
        adversary = self.discriminator.module
        adversary.requires_grad_(False)
        # Not through Fabric's wrapper, which would wait for gradients of the weights.
        with self.fabric.autocast():
            logits: Tensor = adversary(frames, predictions)
        adversary.requires_grad_(True)
        return logits.float()

    def _reduce(self, losses: Tensor) -> Tensor:
        """The mean over rows, or the sum over those of the whole batch."""
        return losses.mean() * (self.recipe.batch_size if self.recipe.sums else 1)

    @cached_property
    def test(self) -> VideoDataset:
        """The test clips, of as many frames as are shown and predicted."""
        return self.recipe.load_clips("test", self._channels)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Figures and measures need test clips, and measures frames of some size."""
        if num_samples or num_evaluate:
            divisor = 2 ** (self.recipe.num_scales - 1)
            height, width = (side - side % divisor for side in self.test.shape[2:])
            if num_evaluate and min(height, width) < _MIN_SIDE:
                raise ValueError(
                    f"frames of {height} x {width} pixels cannot be measured: the structural "
                    f"similarity needs {_MIN_SIDE}; set num_evaluate to 0"
                )

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """The frames that follow the first ones of `num` test clips, evenly spaced in the film:
        [num, num_predicted, C, H, W] in [0, 1]."""
        recipe = self.recipe
        parts = []
        for clips in self._test_clips(num):
            given = to_float(clips[:, : recipe.num_inputs], -1, 1)
            parts.append(self.model.predict(given, recipe.num_predicted, generator=generator))
        return (torch.cat(parts) + 1) / 2

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """A row for each clip: the given frames, then the true ones, then the predicted ones. As a
        film, the true clip plays beside the given frames and their prediction."""
        from gencore.train.figures import save_contact_sheet

        real = torch.cat([to_float(clips).cpu() for clips in self._test_clips(len(samples))])
        samples = samples.cpu()
        if path.suffix in FILM_SUFFIXES:
            predicted = torch.cat([real[:, : self.recipe.num_inputs], samples], 1)
            pairs = torch.stack([real, predicted], 1).flatten(0, 1)
            save_film(pairs, path, columns=4, scale=max(1, _SHOWN_SIDE // max(real.shape[-2:])))
        else:
            save_contact_sheet(torch.cat([real, samples], 1), path)

    def evaluate(self, num: int) -> dict[str, float]:
        """Mean PSNR, SSIM and sharpness difference of each predicted frame of up to `num` test
        clips, as `evaluate_frame_prediction` takes them, beside those of the last given frame.

        Frames are whole, cut to sides that the scales divide. What moves is known of
        "moving-shapes"; of other films the optical flow tells it.
        """
        num = min(num, len(self.test))
        clips = list(self._clips_and_motion(num))
        measures: dict[str, float] = {"num_samples": num}
        predictors = {"model": self.model.predict, "last_input": copy_last}
        for name, predictor in predictors.items():
            scores = evaluate_frame_prediction(
                predictor,
                clips,
                num_given=self.recipe.num_inputs,
                num_frames=self.recipe.num_predicted,
                low=-1.0,
                high=1.0,
            )
            for column, value in scores.columns().items():
                if not math.isnan(value):
                    measures[f"{column}/{name}"] = value
        return measures

    def _test_clips(self, num: int) -> Iterator[Tensor]:
        """`num` test clips, evenly spaced, a few at a time, uint8 [n, T, C, H, W]."""
        for part in self._chosen(num):
            clips = torch.stack([self.test[index] for index in part])
            yield self._cut(clips).to(self.fabric.device)

    def _clips_and_motion(self, num: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Those clips, and the pixels that move, bool [n, T, H, W]: where the data do not know
        them, by their optical flow."""
        for part, clips in zip(self._chosen(num), self._test_clips(num), strict=True):
            if isinstance(self.test, MovingShapes):
                known = torch.stack([self.test.motion(index).moving for index in part])
                yield clips, self._cut(known).to(clips.device)
            else:
                yield clips, clip_moving_areas(clips)

    def _chosen(self, num: int) -> Iterator[list[int]]:
        chosen = [len(self.test) * i // num for i in range(num)]
        return (chosen[part] for part in chunks(num, _CHUNK))

    def _cut(self, frames: Tensor) -> Tensor:
        """The middle of frames [..., H, W], with sides that the scales divide."""
        divisor = 2 ** (self.recipe.num_scales - 1)
        rows, columns = (
            slice(side % divisor // 2, side - side % divisor + side % divisor // 2)
            for side in self.test.shape[2:]
        )
        return frames[..., rows, columns]


def _frames(batch: Batch) -> tuple[Tensor, Tensor]:
    """The given frames [B, m, C, S, S] and the next one [B, C, S, S], in [-1, 1]."""
    clips = to_float(batch.x, -1, 1)
    return clips[:, :-1], clips[:, -1].contiguous()
