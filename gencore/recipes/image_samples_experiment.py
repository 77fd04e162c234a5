"""What experiments share that are measured by samples of images: their Fréchet distances."""

from functools import cached_property

import torch
from torch import Tensor

from gencore.metrics import (
    ClassifierFeatures,
    Features,
    frechet_distance,
    independent_pixels,
    pixel_features,
)
from gencore.train import ImageExperiment

__all__ = ["ImageSamplesExperiment"]

# Beyond this many dimensions covariances of pixels, of 2 GB each, are left out.
_MAX_PIXELS = 2**14


class ImageSamplesExperiment(ImageExperiment):
    """A model of images that samples them, and measures them by their Fréchet distances."""

    def prepare(self, num_samples: int, num_evaluate: int) -> None:
        """The measures need two images of each kind: a covariance needs as many."""
        if not num_evaluate:
            return
        numbers = {
            "num_evaluate": num_evaluate,
            "the training part": len(self.dataset),
            "the test part": len(self.test),
        }
        for name, number in numbers.items():
            if number < 2:
                raise ValueError(
                    f"{name} is {number} image, but the measures need at least 2: give more, or "
                    "measure nothing (num_evaluate 0)"
                )

    @cached_property
    def classifier(self) -> ClassifierFeatures | None:
        """A small classifier of the training images, where they have labels of two classes or
        more."""
        images, labels = self.dataset.images, self.dataset.labels
        if labels is None or len(labels.unique()) < 2:
            return None
        return ClassifierFeatures.fit(images, labels)

    def more_candidates(self, num: int) -> dict[str, Tensor]:
        """Further images, `num` of each kind, that are measured as samples are."""
        return {}

    def evaluate(self, num: int) -> dict[str, float]:
        """Fréchet distances from the held-out test images: on pixels in [0, 1], up to 16,384 of
        them, and, where the data has labels of two classes or more, on the activations of a small
        classifier trained on it.

        `samples` is the model's; `independent_pixels` that of images without any correlation, which
        it has to beat; `train` that of real images, which it cannot be expected to beat.
        """
        images, test = self.dataset.images, self.test.images
        candidates = {
            "samples": self.sample(num).cpu(),
            "independent_pixels": independent_pixels(images, num),
            "train": images[torch.randperm(len(images))[:num]],
            **self.more_candidates(num),
        }
        features: dict[str, Features] = {}
        if images[0].numel() <= _MAX_PIXELS:
            features["pixels"] = pixel_features
        if self.classifier is not None:
            features["classifier"] = self.classifier
        return {
            f"frechet_{kind}/{name}": frechet_distance(candidate, test, feature)
            for kind, feature in features.items()
            for name, candidate in candidates.items()
        }
