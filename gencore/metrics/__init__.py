"""How far a set of samples is from the data, on features that are always stated."""

from gencore.metrics.baselines import independent_pixels
from gencore.metrics.classifier import ClassifierFeatures
from gencore.metrics.features import Features, pixel_features
from gencore.metrics.frechet import frechet_distance
from gencore.metrics.grid_density import SquareGrid
from gencore.metrics.moments import GaussianMoments, StreamingMoments, gaussian_moments

__all__ = [
    "ClassifierFeatures",
    "Features",
    "GaussianMoments",
    "SquareGrid",
    "StreamingMoments",
    "frechet_distance",
    "gaussian_moments",
    "independent_pixels",
    "pixel_features",
]
