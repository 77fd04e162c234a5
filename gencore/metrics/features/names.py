"""What a number on some features is called."""

from typing import Literal

from torch import nn

from gencore.metrics.features.classifier import ClassifierFeatures
from gencore.metrics.features.inception import InceptionFeatures
from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["distance_name", "feature_name"]

_ON_INCEPTION = {"Fréchet distance": "FID", "kernel distance": "KID"}


def feature_name(features: Features) -> str:
    """The name that a report gives to features.

    That of pixels is "pixels"; a classifier is named with its test accuracy, any other module by
    its class and any other function by its name.

    Example:
        >>> feature_name(pixel_features), feature_name(nn.Flatten())
        ('pixels', 'Flatten')
    """
    if features is pixel_features:
        return "pixels"
    if isinstance(features, InceptionFeatures):
        return "Inception"
    if isinstance(features, ClassifierFeatures):
        if features.test_accuracy is None:
            return "a classifier"
        return f"a classifier with {100 * features.test_accuracy:.1f} % test accuracy"
    if isinstance(features, nn.Module):
        return type(features).__name__
    return getattr(features, "__name__", type(features).__name__)


def distance_name(
    distance: Literal["Fréchet distance", "kernel distance"], features: Features
) -> str:
    """The name that a report gives to a distance measured on features.

    FID and KID are the names on one particular Inception network,
    :class:`gencore.metrics.InceptionFeatures`, and on nothing else.

    Example:
        >>> distance_name("Fréchet distance", pixel_features)
        'Fréchet distance on pixels'
    """
    if isinstance(features, InceptionFeatures):
        return _ON_INCEPTION[distance]
    return f"{distance} on {feature_name(features)}"
