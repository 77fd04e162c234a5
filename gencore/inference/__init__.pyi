from gencore.inference.decoder_error import DecoderError
from gencore.inference.latent_descent import infer_latents
from gencore.inference.latent_distribution import LatentDistribution, LatentDistributionForm

__all__ = ["DecoderError", "LatentDistribution", "LatentDistributionForm", "infer_latents"]
