from gencore.inference.data_latents import DataLatents
from gencore.inference.decoder_error import DecoderError
from gencore.inference.generator_likelihood import fit_likelihood_around
from gencore.inference.latent_adam import AdamState, LatentAdam
from gencore.inference.latent_descent import infer_latents
from gencore.inference.latent_distribution import LatentDistribution, LatentDistributionForm
from gencore.inference.latent_langevin import LatentChains, LatentLangevin
from gencore.inference.latent_optimisation import optimise_latents
from gencore.inference.latent_shapes import Latents, LatentShapes
from gencore.inference.names import RegretOf
from gencore.inference.posterior_optimisation import optimise_posterior
from gencore.inference.regret import LikelihoodRegret, likelihood_regret

__all__ = [
    "AdamState",
    "DataLatents",
    "DecoderError",
    "LatentAdam",
    "LatentChains",
    "LatentDistribution",
    "LatentDistributionForm",
    "LatentLangevin",
    "LatentShapes",
    "Latents",
    "LikelihoodRegret",
    "RegretOf",
    "fit_likelihood_around",
    "infer_latents",
    "likelihood_regret",
    "optimise_latents",
    "optimise_posterior",
]
