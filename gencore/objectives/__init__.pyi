from gencore.objectives.adaptive_alternation import AdaptiveAlternation, Player
from gencore.objectives.adversarial import (
    adversarial_discriminator_loss,
    adversarial_generator_loss,
)
from gencore.objectives.batch_gan.losses import (
    BGANLoss,
    MBGANLoss,
    MixedBatchLoss,
    ScoreAverage,
)
from gencore.objectives.batch_gan.mixed_batches import MixedBatches, mix_batches, mixing_masks
from gencore.objectives.batch_gan.optimal_discriminator import (
    MixedBatchDensities,
    mixed_batch_log_probs,
    optimal_batch_discriminator,
)
from gencore.objectives.batch_gan.real_counts import (
    beta_count_probabilities,
    smoothing_count_probabilities,
)
from gencore.objectives.contraction import contraction_penalty
from gencore.objectives.contrastive import (
    ChainKernel,
    DivergenceError,
    ShortRunLoss,
    check_divergence,
    contrastive_divergence,
    contrastive_loss,
)
from gencore.objectives.cycle_consistency import cycle_consistency_loss, identity_loss
from gencore.objectives.feature_matching import feature_matching_loss
from gencore.objectives.games import *  # noqa: F403
from gencore.objectives.gradient_estimators import EstimatorVariances, estimator_variances
from gencore.objectives.laplacian import (
    gaussian_pyramid,
    laplacian_distance,
    laplacian_pyramid,
    laplacian_reconstruction,
)
from gencore.objectives.latent_prediction import LatentPrediction
from gencore.objectives.linearity import (
    curvature_cosine,
    linear_prediction_loss,
    linearity_loss,
    reconstruction_loss,
)
from gencore.objectives.lipschitz import gradient_penalty
from gencore.objectives.mmd import maximum_mean_discrepancy
from gencore.objectives.multi_scale_prediction import (
    MultiScalePredictionLoss,
    multi_scale_discriminator_loss,
    multi_scale_generator_loss,
    multi_scale_prediction_loss,
)
from gencore.objectives.noise_contrastive import (
    NoiseContrast,
    NoiseDensity,
    noise_contrastive_loss,
    noise_contrastive_value,
)
from gencore.objectives.orthogonality import orthogonality_penalty
from gencore.objectives.prediction import gradient_difference_loss, lp_loss
from gencore.objectives.pulling_away import pulling_away_term
from gencore.objectives.recovery import (
    RecoveryEnergy,
    normal_approximation,
    recovery_loss,
    recovery_mean,
)
from gencore.objectives.score_function import Baseline, score_function_surrogate
from gencore.objectives.score_matching import denoising_score_matching
from gencore.objectives.tracking import (
    ResidualPenalty,
    displacement_roughness,
    residual_penalty,
)
from gencore.objectives.transport import (
    ConvergenceWarning,
    SinkhornPotentials,
    exact_transport_cost,
    sinkhorn_divergence,
    sinkhorn_potentials,
    sliced_wasserstein,
    wasserstein_1d,
)
from gencore.objectives.virtual_adversarial import (
    virtual_adversarial_loss,
    virtual_adversarial_perturbation,
)
from gencore.objectives.weight_schedule import WeightSchedule

__all__ = [
    "AdaptiveAlternation",
    "BGANLoss",
    "Baseline",
    "ChainKernel",
    "ConvergenceWarning",
    "DivergenceError",
    "EstimatorVariances",
    "LatentPrediction",
    "MBGANLoss",
    "MixedBatchDensities",
    "MixedBatchLoss",
    "MixedBatches",
    "MultiScalePredictionLoss",
    "NoiseContrast",
    "NoiseDensity",
    "Player",
    "RecoveryEnergy",
    "ResidualPenalty",
    "ScoreAverage",
    "ShortRunLoss",
    "SinkhornPotentials",
    "WeightSchedule",
    "adversarial_discriminator_loss",
    "adversarial_generator_loss",
    "beta_count_probabilities",
    "check_divergence",
    "contraction_penalty",
    "contrastive_divergence",
    "contrastive_loss",
    "curvature_cosine",
    "cycle_consistency_loss",
    "denoising_score_matching",
    "displacement_roughness",
    "estimator_variances",
    "exact_transport_cost",
    "feature_matching_loss",
    "gaussian_pyramid",
    "gradient_difference_loss",
    "gradient_penalty",
    "identity_loss",
    "laplacian_distance",
    "laplacian_pyramid",
    "laplacian_reconstruction",
    "linear_prediction_loss",
    "linearity_loss",
    "lp_loss",
    "maximum_mean_discrepancy",
    "mix_batches",
    "mixed_batch_log_probs",
    "mixing_masks",
    "multi_scale_discriminator_loss",
    "multi_scale_generator_loss",
    "multi_scale_prediction_loss",
    "noise_contrastive_loss",
    "noise_contrastive_value",
    "normal_approximation",
    "optimal_batch_discriminator",
    "orthogonality_penalty",
    "pulling_away_term",
    "reconstruction_loss",
    "recovery_loss",
    "recovery_mean",
    "residual_penalty",
    "score_function_surrogate",
    "sinkhorn_divergence",
    "sinkhorn_potentials",
    "sliced_wasserstein",
    "smoothing_count_probabilities",
    "virtual_adversarial_loss",
    "virtual_adversarial_perturbation",
    "wasserstein_1d",
]
