"""A captioner of synthetic scenes in training, and its measures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from gencore.data import CaptionedScenes, to_float
from gencore.extras import language_extra
from gencore.metrics import attention_correctness, bleu, cider_d, rouge_l
from gencore.models import ImageCaptioner
from gencore.recipes.language.captions import CaptionsRecipe
from gencore.train import Batch, Experiment, StateObject
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["CaptionsExperiment"]

# Scenes that are captioned at once, which bounds the memory.
_CHUNK = 100
_FIGURE_SCENES = 5


class CaptionsExperiment(Experiment):
    """An `ImageCaptioner` in training: each step sees one of its captions of each scene."""

    def __init__(self, recipe: CaptionsRecipe, fabric: "Fabric", dataset: CaptionedScenes) -> None:
        self.recipe, self.fabric = recipe, fabric
        self.captions = dataset.captions.to(fabric.device)
        model = ImageCaptioner(
            len(dataset.vocabulary), (3, recipe.image_size, recipe.image_size),
            channels=recipe.channels, regions=recipe.regions, feature_size=recipe.feature_size,
            embedding_size=recipe.embedding_size, hidden_size=recipe.hidden_size,
            region_state=recipe.region_state, feedback=recipe.feedback,
        ).to(fabric.device)  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
        self.optimisation = recipe.optimisation(fabric, model, optimizer)
        self.state: Mapping[str, StateObject] = self.optimisation.state

    @property
    def model(self) -> ImageCaptioner:
        """The captioner, with averaged weights if they are averaged."""
        model = self.optimisation.averaged
        assert isinstance(model, ImageCaptioner)
        return model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Move the weights towards a higher likelihood of the captions, (B.3)."""

        def loss(part: Batch) -> dict[str, Tensor]:
            references = self.captions[part.index]
            chosen = (part.uniform(()) * references.shape[1]).long()
            captions = references[torch.arange(len(chosen), device=chosen.device), chosen]
            log_prob = self.optimisation.model(captions, to_float(part.x, 0, 1))
            return {"loss": -log_prob.sum(1).mean()}

        return self.optimisation.step(batch, loss)

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """Measures need a package."""
        if num_evaluate:
            with language_extra("measuring captions (num_evaluate 0 goes without)"):
                import sacrebleu  # noqa: F401

    @torch.no_grad()
    def evaluate(self, num: int) -> dict[str, float]:
        """Of `num` test scenes: −log p of a caption in nats, the mean of all four; of the captions
        that beam search writes BLEU4, CIDEr-D, ROUGE-L and how many are one of the four; and of a
        captioner with regions attention correctness.

        This is the attention p(r | h) or, with "of_word", p(r | w, h), that falls into the box of
        the object which a word names: at the words of the four given captions, and of those that
        are written where they name an object of the scene. "uniform" is the boxes' mean area.
        """
        scenes = self.recipe.load_part("test", num)
        written = scenes.vocabulary.decode(self._write(scenes))
        references = [list(four) for four in scenes.references]
        true = [text in four for text, four in zip(written, references, strict=True)]
        measures = {
            "nll": -self._log_prob(scenes).mean().item(),
            "bleu4": bleu(written, references),
            "cider_d": cider_d(written, references).mean().item(),
            "rouge_l": rouge_l(written, references).mean().item(),
            "true": sum(true) / num,
        }
        if self.recipe.regions != "none":
            measures |= self._correctness(scenes, written)
        return measures

    @torch.no_grad()
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """A caption drawn for each of the first `num` test scenes, as numbers of words, int64
        [num, T]."""
        scenes = self.recipe.load_part("test", num)
        drawn = [
            self.model.sample(
                self._floats(scenes.images[part]), max_length=self._max_length, generator=generator
            )
            for part in chunks(num, _CHUNK)
        ]
        return torch.cat(drawn)

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """The scenes with what was drawn for them as their titles."""
        from gencore.recipes.language.caption_figures import save_captioned_images

        scenes = self.recipe.load_part("test", len(samples))
        save_captioned_images(scenes.images, scenes.vocabulary.decode(samples.cpu()), path)

    @torch.no_grad()
    def figures(self, folder: Path) -> None:
        """Of a few test scenes the best captions, and where the captioner looks at each word."""
        if self.recipe.regions == "none":
            return
        from gencore.recipes.language.caption_figures import attention_map, save_attention

        folder.mkdir(exist_ok=True)
        scenes = self.recipe.load_part("test", _FIGURE_SCENES)
        words, images = self._write(scenes), self._floats(scenes.images)
        boxes = self.model.region_boxes(images)
        texts = [text.split() for text in scenes.vocabulary.decode(words)]
        for name, given_word in (("attention", False), ("attention_of_word", True)):
            weights = self.model.attention(words.to(images.device), images, given_word=given_word)
            maps = attention_map(weights.cpu(), boxes.cpu(), self.recipe.image_size)
            save_attention(scenes.images, texts, maps, folder / f"{name}.png")

    @property
    def _max_length(self) -> int:
        return self.captions.shape[2] + 2

    def _floats(self, images: Tensor) -> Tensor:
        return to_float(images.to(self.fabric.device), 0, 1)

    def _write(self, scenes: CaptionedScenes) -> Tensor:
        """The best captions, int64 [N, T]."""
        parts = [
            self.model.caption(
                self._floats(scenes.images[part]), beam_width=self.recipe.beam_width,
                max_length=self._max_length,
            ).words[:, 0].cpu()
            for part in chunks(len(scenes), _CHUNK)
        ]  # fmt: skip
        longest = max(part.shape[1] for part in parts)
        padded = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
        return torch.cat(padded)

    def _log_prob(self, scenes: CaptionedScenes) -> Tensor:
        """Of all captions, [N, 4]."""
        parts = []
        for part in chunks(len(scenes), _CHUNK):
            captions = scenes.captions[part].to(self.fabric.device)
            images = self._floats(scenes.images[part]).repeat_interleave(captions.shape[1], 0)
            log_prob = self.model(captions.flatten(0, 1), images).sum(1)
            parts.append(log_prob.view(len(captions), -1).cpu())
        return torch.cat(parts)

    def _correctness(self, scenes: CaptionedScenes, written: list[str]) -> dict[str, float]:
        places = [scenes.locate(index, text) for index, text in enumerate(written)]
        words = scenes.vocabulary.encode(written)
        named = torch.full_like(words, -1)
        for row, found in zip(named, places, strict=True):
            row[: len(found)] = torch.tensor(found, dtype=torch.int64)
        kinds = {
            "given": (scenes.captions, scenes.objects_of_words),
            "written": (words[:, None], named[:, None]),
        }
        measures: dict[str, float] = {}
        for kind, (captions, objects) in kinds.items():
            for suffix, given_word in (("", False), ("_of_word", True)):
                correct = [
                    self._inside(scenes, part, captions[part], objects[part], given_word=given_word)
                    for part in chunks(len(scenes), _CHUNK)
                ]
                measures[f"correctness{suffix}/{kind}"] = torch.cat(correct).mean().item()
        sides = scenes.boxes[..., 2:] - scenes.boxes[..., :2]
        return {**measures, "correctness/uniform": sides.prod(-1).mean().item()}

    def _inside(
        self, scenes: CaptionedScenes, part: slice, captions: Tensor, objects: Tensor, *,
        given_word: bool,
    ) -> Tensor:  # fmt: skip
        """The correctness at each word of captions [N, J, T] that names an object, [M]."""
        num_captions = captions.shape[1]
        images = self._floats(scenes.images[part]).repeat_interleave(num_captions, 0)
        objects = objects.flatten(0, 1).to(images.device)
        attention = self.model.attention(
            captions.flatten(0, 1).to(images.device), images, given_word=given_word
        )
        boxes = scenes.boxes[part].to(images.device).repeat_interleave(num_captions, 0)
        boxes = boxes.gather(1, objects.clamp(min=0)[..., None].expand(-1, -1, 4))
        regions = self.model.region_boxes(images)[:, None]
        return attention_correctness(attention, regions, boxes)[objects >= 0].cpu()
