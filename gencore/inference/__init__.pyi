from gencore.inference.data_latents import DataLatents
from gencore.inference.decoder_error import DecoderError
from gencore.inference.gaussian_posterior import NormalParameters
from gencore.inference.latent_adam import AdamState, LatentAdam
from gencore.inference.latent_descent import infer_latents
from gencore.inference.latent_distribution import LatentDistribution, LatentDistributionForm
from gencore.inference.latent_langevin import LatentChains, LatentLangevin
from gencore.inference.latent_optimisation import optimise_latents
from gencore.inference.latent_shapes import Latents, LatentShapes
from gencore.inference.names import ElboEstimator
from gencore.inference.posterior_optimisation import optimise_posterior

__all__ = [
    "AdamState",
    "DataLatents",
    "DecoderError",
    "ElboEstimator",
    "LatentAdam",
    "LatentChains",
    "LatentDistribution",
    "LatentDistributionForm",
    "LatentLangevin",
    "LatentShapes",
    "Latents",
    "NormalParameters",
    "infer_latents",
    "optimise_latents",
    "optimise_posterior",
]
