"""How far the samples of a model of images are from the test images, beside what is easy."""

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

__all__ = ["check_frechet_measures", "frechet_measures"]

# Beyond this many dimensions covariances of pixels, of 2 GB each, are left out.
_MAX_PIXELS = 2**14


def check_frechet_measures(experiment: ImageExperiment, num: int) -> None:
    """Raise a ValueError unless there are two images of each kind: a covariance needs as many."""
    if not num:
        return
    numbers = {
        "num_evaluate": num,
        "the training part": len(experiment.dataset),
        "the test part": len(experiment.test),
    }
    for name, number in numbers.items():
        if number < 2:
            raise ValueError(
                f"{name} is {number} image, but the measures need at least 2: give more, or "
                "measure nothing (num_evaluate 0)"
            )


def frechet_measures(experiment: ImageExperiment, num: int) -> dict[str, float]:
    """Fréchet distances from the held-out test images: on pixels in [0, 1], up to 16,384 of them,
    and, where the data has labels of two classes or more, on the activations of a small classifier
    trained on it.

    `samples` is that of `num` samples; `independent_pixels` that of images without any correlation,
    which a model has to beat; `train` that of real images, which it cannot be expected to beat.
    """
    images, labels = experiment.dataset.images, experiment.dataset.labels
    test = experiment.test.images
    candidates: dict[str, Tensor] = {
        "samples": experiment.sample(num).cpu(),
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
