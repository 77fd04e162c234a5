"""How far samples are from the data, on stated features; likelihoods to beat; grids."""

from gencore.metrics.baselines import independent_pixels
from gencore.metrics.bits_per_dim import bits_per_dim
from gencore.metrics.classifier import ClassifierFeatures
from gencore.metrics.features import Features, pixel_features
from gencore.metrics.frechet import frechet_distance
from gencore.metrics.grid_density import SquareGrid
from gencore.metrics.likelihood_baselines import full_gaussian_bits, independent_gaussian_bits
from gencore.metrics.moments import GaussianMoments, StreamingMoments, gaussian_moments

__all__ = [
    "ClassifierFeatures",
    "Features",
    "GaussianMoments",
    "SquareGrid",
    "StreamingMoments",
    "bits_per_dim",
    "frechet_distance",
    "full_gaussian_bits",
    "gaussian_moments",
    "independent_gaussian_bits",
    "independent_pixels",
    "pixel_features",
]
