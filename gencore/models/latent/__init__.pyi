from gencore.models.latent.autoencoder import Autoencoder, Coded, half_squared_error
from gencore.models.latent.decoder_likelihood import (
    BernoulliLikelihood,
    DecoderLikelihood,
    GaussianLikelihood,
)
from gencore.models.latent.decoder_model import DecoderModel
from gencore.models.latent.disentangling_vae import (
    DisentangledCodes,
    DisentanglingLoss,
    DisentanglingVAE,
)
from gencore.models.latent.gaussian_mixture import GaussianMixture
from gencore.models.latent.generative_latent_flow import GenerativeLatentFlow, GLFLoss
from gencore.models.latent.glo import GLO, to_unit_ball
from gencore.models.latent.gmmn import GMMN
from gencore.models.latent.latent_generator import FrozenGenerator, LatentGenerator
from gencore.models.latent.level_likelihood import LevelLikelihood
from gencore.models.latent.names import (
    BoundEstimator,
    LikelihoodName,
    MixtureCovariance,
    RegretOf,
)
from gencore.models.latent.probabilistic_pca import ProbabilisticPCA
from gencore.models.latent.rae_gmm import RAELoss, RegularisedAutoencoder
from gencore.models.latent.regret import LikelihoodRegret, likelihood_regret
from gencore.models.latent.top_down_level import ConvLevel, TopDownLevel, VectorLevel
from gencore.models.latent.top_down_vae import TopDownLoss, TopDownVAE
from gencore.models.latent.two_stage_vae import TwoStageVAE
from gencore.models.latent.vae import VAE, VAELoss
from gencore.models.latent.vlo import VLO, infer_posterior, pca_posterior
from gencore.models.latent.wae_gan import WAEGAN, WAELoss
from gencore.models.latent.wae_mmd import WAEMMD, WAEMMDLoss
from gencore.models.noise_generator import NoiseGenerator

__all__ = [
    "GLO",
    "GMMN",
    "VAE",
    "VLO",
    "WAEGAN",
    "WAEMMD",
    "Autoencoder",
    "BernoulliLikelihood",
    "BoundEstimator",
    "Coded",
    "ConvLevel",
    "DecoderLikelihood",
    "DecoderModel",
    "DisentangledCodes",
    "DisentanglingLoss",
    "DisentanglingVAE",
    "FrozenGenerator",
    "GLFLoss",
    "GaussianLikelihood",
    "GaussianMixture",
    "GenerativeLatentFlow",
    "LatentGenerator",
    "LevelLikelihood",
    "LikelihoodName",
    "LikelihoodRegret",
    "MixtureCovariance",
    "NoiseGenerator",
    "ProbabilisticPCA",
    "RAELoss",
    "RegretOf",
    "RegularisedAutoencoder",
    "TopDownLevel",
    "TopDownLoss",
    "TopDownVAE",
    "TwoStageVAE",
    "VAELoss",
    "VectorLevel",
    "WAELoss",
    "WAEMMDLoss",
    "half_squared_error",
    "infer_posterior",
    "likelihood_regret",
    "pca_posterior",
    "to_unit_ball",
]
