from gencore.objectives.adaptive_alternation import AdaptiveAlternation, Player
from gencore.objectives.adversarial import (
    GeneratorLossKind,
    adversarial_discriminator_loss,
    adversarial_generator_loss,
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
from gencore.objectives.gradient_estimators import EstimatorVariances, estimator_variances
from gencore.objectives.laplacian import (
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
from gencore.objectives.mmd import MMDKernel, maximum_mean_discrepancy
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
from gencore.objectives.recovery import (
    RecoveryEnergy,
    normal_approximation,
    recovery_loss,
    recovery_mean,
)
from gencore.objectives.score_matching import denoising_score_matching
from gencore.objectives.virtual_adversarial import (
    virtual_adversarial_loss,
    virtual_adversarial_perturbation,
)
from gencore.objectives.weight_schedule import WeightSchedule

__all__ = [
    "AdaptiveAlternation",
    "ChainKernel",
    "DivergenceError",
    "EstimatorVariances",
    "GeneratorLossKind",
    "LatentPrediction",
    "MMDKernel",
    "MultiScalePredictionLoss",
    "NoiseContrast",
    "NoiseDensity",
    "Player",
    "RecoveryEnergy",
    "ShortRunLoss",
    "WeightSchedule",
    "adversarial_discriminator_loss",
    "adversarial_generator_loss",
    "check_divergence",
    "contraction_penalty",
    "contrastive_divergence",
    "contrastive_loss",
    "curvature_cosine",
    "cycle_consistency_loss",
    "denoising_score_matching",
    "estimator_variances",
    "feature_matching_loss",
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
    "multi_scale_discriminator_loss",
    "multi_scale_generator_loss",
    "multi_scale_prediction_loss",
    "noise_contrastive_loss",
    "noise_contrastive_value",
    "normal_approximation",
    "orthogonality_penalty",
    "reconstruction_loss",
    "recovery_loss",
    "recovery_mean",
    "virtual_adversarial_loss",
    "virtual_adversarial_perturbation",
]
