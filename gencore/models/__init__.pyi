from gencore.models.coupling_flow import CouplingFlow
from gencore.models.energy_networks import ConvEnergy, ConvEnergyName
from gencore.models.flow import Base, Flow, FlowDistribution
from gencore.models.flow_ebm import FlowEBM
from gencore.models.flow_posterior import FlowPosterior, PosteriorSample
from gencore.models.glow import Glow
from gencore.models.iaf import IAF
from gencore.models.maf import MAF
from gencore.models.names import CouplingKind, FlowObjective
from gencore.models.nice import NICE
from gencore.models.planar_flow import ExplicitDirection, PlanarFlow
from gencore.models.radial_flow import RadialFlow
from gencore.models.real_nvp import RealNVP
from gencore.models.residual_flow import EulerSteps, LipschitzEnergy, ResidualFlow
from gencore.models.short_run_ebm import (
    DivergenceError,
    ShortRunEBM,
    ShortRunLoss,
    check_divergence,
    contrastive_loss,
)
from gencore.models.spline_flow import SplineFlow

__all__ = [
    "IAF",
    "MAF",
    "NICE",
    "Base",
    "ConvEnergy",
    "ConvEnergyName",
    "CouplingFlow",
    "CouplingKind",
    "DivergenceError",
    "EulerSteps",
    "ExplicitDirection",
    "Flow",
    "FlowDistribution",
    "FlowEBM",
    "FlowObjective",
    "FlowPosterior",
    "Glow",
    "LipschitzEnergy",
    "PlanarFlow",
    "PosteriorSample",
    "RadialFlow",
    "RealNVP",
    "ResidualFlow",
    "ShortRunEBM",
    "ShortRunLoss",
    "SplineFlow",
    "check_divergence",
    "contrastive_loss",
]
