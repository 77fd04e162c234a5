"""GAN-test and GAN-train: what a classifier makes of generated images, and learns from them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from gencore.metrics.features.classifier import ClassifierFeatures

__all__ = ["Classifier", "GanTestTrain", "gan_test_train"]


class Classifier(Protocol):
    """A trained classifier."""

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of the images that get their label."""


class GanTestTrain(NamedTuple):
    """Three accuracies, in [0, 1]."""

    gan_test: float
    """Trained on real images, tested on generated ones: low if those are not like their class."""

    gan_train: float
    """Trained on generated images, tested on real ones: low also if classes or modes are missing
    among the generated."""

    real: float
    """Trained and tested on real images: what both are to be compared with."""


def gan_test_train(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    generated: tuple[Tensor, Tensor],
    fit: Callable[[Tensor, Tensor], Classifier] = ClassifierFeatures.fit,
) -> GanTestTrain:
    """Judge a class-conditional generator by two classifiers.

    GAN-test is a precision, GAN-train also a recall. A generator that makes perfect images of half
    the classes has a high GAN-test and a GAN-train of one half. A GAN-test above the accuracy on
    real test images says that the generator repeats its training data.

    Args:
        train: Real training images [N, ...] and their labels, int64 [N].
        test: Real test images and their labels.
        generated: Generated images and the labels they were generated for, best in the number of
            the training images.
        fit: Trains a classifier on images and labels; the small classifier by default. The numbers
            are those of this classifier: report it.

    Returns:
        The two accuracies, and that of real images as a measuring rod.

    Source:
        Shmelkov, Schmid and Alahari, "How good is my GAN?", 2018, section 3.

    Example:
        >>> from functools import partial
        >>> from gencore.data import load_images
        >>> train, test = (load_images("digits", split=part) for part in ("train", "test"))
        >>> half = train.labels < 5
        >>> result = gan_test_train(
        ...     (train.images, train.labels),
        ...     (test.images, test.labels),
        ...     (train.images[half], train.labels[half]),
        ...     fit=partial(ClassifierFeatures.fit, num_steps=80, batch_size=64),
        ... )
        >>> result.gan_test > 0.9, 0.4 < result.gan_train < 0.6
        (True, True)
    """
    on_real, on_generated = fit(*train), fit(*generated)
    return GanTestTrain(
        on_real.accuracy(*generated), on_generated.accuracy(*test), on_real.accuracy(*test)
    )
