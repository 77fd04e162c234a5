from gencore.models.hybrids.av_ade import AVADE, AVADELoss
from gencore.models.hybrids.exponential_tilting import ExponentialTilting
from gencore.models.hybrids.flow_backbone_ebm import FlowBackboneEBM
from gencore.models.hybrids.flow_contrastive import FlowContrastiveEBM, FlowNoise, FlowNoiseTerms
from gencore.models.hybrids.generator_likelihood import fit_likelihood_around
from gencore.models.hybrids.image_features import ImageFeatures
from gencore.models.hybrids.latent_ebm import LatentEBM
from gencore.models.hybrids.names import ADE_MODELS, ADEModel, ADEModelName
from gencore.models.hybrids.tilted_ebm import TiltedEBM
from gencore.models.hybrids.v_ade import VADE, EncoderInput

__all__ = [
    "ADE_MODELS",
    "AVADE",
    "VADE",
    "ADEModel",
    "ADEModelName",
    "AVADELoss",
    "EncoderInput",
    "ExponentialTilting",
    "FlowBackboneEBM",
    "FlowContrastiveEBM",
    "FlowNoise",
    "FlowNoiseTerms",
    "ImageFeatures",
    "LatentEBM",
    "TiltedEBM",
    "fit_likelihood_around",
]
