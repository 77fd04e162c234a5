"""The models, one file each, named as their papers name them."""

from gencore.models.coupling_flow import CouplingFlow
from gencore.models.energy_networks import ConvEnergy, ConvEnergyName
from gencore.models.flow import Base, Flow, FlowDistribution
from gencore.models.flow_ebm import FlowEBM, FlowObjective
from gencore.models.glow import CouplingKind, Glow
from gencore.models.nice import NICE
from gencore.models.real_nvp import RealNVP
from gencore.models.short_run_ebm import (
    DivergenceError,
    ShortRunEBM,
    ShortRunLoss,
    check_divergence,
    contrastive_loss,
)

__all__ = [
    "NICE",
    "Base",
    "ConvEnergy",
    "ConvEnergyName",
    "CouplingFlow",
    "CouplingKind",
    "DivergenceError",
    "Flow",
    "FlowDistribution",
    "FlowEBM",
    "FlowObjective",
    "Glow",
    "RealNVP",
    "ShortRunEBM",
    "ShortRunLoss",
    "check_divergence",
    "contrastive_loss",
]
