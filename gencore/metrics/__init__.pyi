from gencore.metrics.captions.attention_correctness import attention_correctness
from gencore.metrics.captions.bleu import bleu
from gencore.metrics.captions.cider import cider_d
from gencore.metrics.captions.rouge import rouge_l
from gencore.metrics.coverage.density_coverage import DensityCoverage, density_coverage
from gencore.metrics.coverage.modes import ModeCoverage, mode_coverage, mode_coverage_of_counts
from gencore.metrics.coverage.prd import PRDCurve, prd, prd_curve
from gencore.metrics.coverage.precision_recall import PrecisionRecall, precision_recall
from gencore.metrics.detection.compressed_size import compressed_bits
from gencore.metrics.detection.corrected_likelihood import (
    complexity_score,
    likelihood_ratio_score,
)
from gencore.metrics.detection.names import CodecName
from gencore.metrics.detection.novelty import LatentNovelty, MahalanobisDistance
from gencore.metrics.detection.scores import (
    DetectionScores,
    detection_scores,
    false_positive_rate,
)
from gencore.metrics.distances.baselines import independent_pixels
from gencore.metrics.distances.energy import energy_distance
from gencore.metrics.distances.frechet import frechet_distance
from gencore.metrics.distances.intervals import Interval, block_interval, bootstrap_interval
from gencore.metrics.distances.kernel import kernel_distance
from gencore.metrics.distances.kernels import (
    DistanceKernel,
    GaussianKernel,
    InverseMultiquadraticKernel,
    Kernel,
    PolynomialKernel,
)
from gencore.metrics.distances.moments import GaussianMoments, StreamingMoments, gaussian_moments
from gencore.metrics.distances.nearest import NearestNeighbors, nearest_neighbors
from gencore.metrics.distances.sample_size import (
    SampleSizeFit,
    fit_sample_size,
    frechet_at_infinity,
)
from gencore.metrics.features.classifier import ClassifierFeatures
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.inception import InceptionFeatures
from gencore.metrics.features.names import distance_name, feature_name
from gencore.metrics.features.pixels import Features, pixel_features
from gencore.metrics.images.inpainting import InpaintingScores, inpainting_scores
from gencore.metrics.images.psnr import psnr
from gencore.metrics.images.sharpness import sharpness_difference
from gencore.metrics.images.ssim import ssim
from gencore.metrics.likelihood.bits_per_dim import bits_per_dim
from gencore.metrics.likelihood.grid_density import SquareGrid
from gencore.metrics.likelihood.likelihood_baselines import (
    full_gaussian_bits,
    independent_gaussian_bits,
)
from gencore.metrics.neuroscience.autocorrelogram import autocorrelogram
from gencore.metrics.neuroscience.gabor import GaborFit, fit_gabor, gabor_images
from gencore.metrics.neuroscience.gridness import (
    GRID_CELL_THRESHOLD,
    GridScores,
    grid_scores,
    null_grid_rate,
)
from gencore.metrics.neuroscience.quadrature import pair_coherence, pair_phase
from gencore.metrics.predictions.calibration import calibration_statistic
from gencore.metrics.predictions.gan_test_train import GanTestTrain, gan_test_train
from gencore.metrics.predictions.inception_score import (
    inception_score,
    inception_score_splits,
    tweaked_inception_score,
)
from gencore.metrics.predictions.label_probe import label_probe_error
from gencore.metrics.predictions.linear_svm import linear_svm_error
from gencore.metrics.streaming.detection import StreamingDetection
from gencore.metrics.streaming.feature_sets import (
    StreamingDensityCoverage,
    StreamingKernelDistance,
    StreamingPRD,
    StreamingPrecisionRecall,
)
from gencore.metrics.streaming.frechet import StreamingFrechetDistance
from gencore.metrics.streaming.images import (
    StreamingPSNR,
    StreamingSharpnessDifference,
    StreamingSSIM,
)
from gencore.metrics.streaming.modes import StreamingModeCoverage
from gencore.metrics.streaming.predictions import (
    StreamingInceptionScore,
    StreamingTweakedInceptionScore,
)
from gencore.metrics.video.endpoint_error import endpoint_error
from gencore.metrics.video.frame_prediction import (
    AreaScores,
    FramePredictionScores,
    clip_moving_areas,
    evaluate_frame_prediction,
)
from gencore.metrics.video.intrackability import IntrackabilityAverage, intrackability
from gencore.metrics.video.moving_area import moving_area

__all__ = [
    "GRID_CELL_THRESHOLD",
    "AreaScores",
    "ClassifierFeatures",
    "CodecName",
    "DensityCoverage",
    "DetectionScores",
    "DistanceKernel",
    "Features",
    "FramePredictionScores",
    "GaborFit",
    "GanTestTrain",
    "GaussianKernel",
    "GaussianMoments",
    "GridScores",
    "InceptionFeatures",
    "InpaintingScores",
    "Interval",
    "IntrackabilityAverage",
    "InverseMultiquadraticKernel",
    "Kernel",
    "LatentNovelty",
    "MahalanobisDistance",
    "ModeCoverage",
    "NearestNeighbors",
    "PRDCurve",
    "PolynomialKernel",
    "PrecisionRecall",
    "SampleSizeFit",
    "SquareGrid",
    "StreamingDensityCoverage",
    "StreamingDetection",
    "StreamingFrechetDistance",
    "StreamingInceptionScore",
    "StreamingKernelDistance",
    "StreamingModeCoverage",
    "StreamingMoments",
    "StreamingPRD",
    "StreamingPSNR",
    "StreamingPrecisionRecall",
    "StreamingSSIM",
    "StreamingSharpnessDifference",
    "StreamingTweakedInceptionScore",
    "attention_correctness",
    "autocorrelogram",
    "bits_per_dim",
    "bleu",
    "block_interval",
    "bootstrap_interval",
    "calibration_statistic",
    "cider_d",
    "clip_moving_areas",
    "complexity_score",
    "compressed_bits",
    "density_coverage",
    "detection_scores",
    "distance_name",
    "endpoint_error",
    "energy_distance",
    "evaluate_frame_prediction",
    "extract_features",
    "false_positive_rate",
    "feature_name",
    "fit_gabor",
    "fit_sample_size",
    "frechet_at_infinity",
    "frechet_distance",
    "full_gaussian_bits",
    "gabor_images",
    "gan_test_train",
    "gaussian_moments",
    "grid_scores",
    "inception_score",
    "inception_score_splits",
    "independent_gaussian_bits",
    "independent_pixels",
    "inpainting_scores",
    "intrackability",
    "kernel_distance",
    "label_probe_error",
    "likelihood_ratio_score",
    "linear_svm_error",
    "mode_coverage",
    "mode_coverage_of_counts",
    "moving_area",
    "nearest_neighbors",
    "null_grid_rate",
    "pair_coherence",
    "pair_phase",
    "pixel_features",
    "prd",
    "prd_curve",
    "precision_recall",
    "psnr",
    "rouge_l",
    "sharpness_difference",
    "ssim",
    "tweaked_inception_score",
]
