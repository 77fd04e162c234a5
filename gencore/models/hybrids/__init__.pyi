from gencore.models.hybrids.exponential_tilting import ExponentialTilting
from gencore.models.hybrids.flow_backbone_ebm import FlowBackboneEBM
from gencore.models.hybrids.flow_contrastive import (
    FlowContrastiveEBM,
    FlowNoise,
    FlowNoiseTerms,
)
from gencore.models.hybrids.latent_ebm import LatentEBM
from gencore.models.hybrids.tilted_ebm import TiltedEBM
from gencore.models.hybrids.v_ade import VADE, NormalParameters

__all__ = [
    "VADE",
    "ExponentialTilting",
    "FlowBackboneEBM",
    "FlowContrastiveEBM",
    "FlowNoise",
    "FlowNoiseTerms",
    "LatentEBM",
    "NormalParameters",
    "TiltedEBM",
]
