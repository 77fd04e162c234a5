"""The models, one file each, named as their papers name them."""

from gencore.models.energy_networks import ConvEnergy, ConvEnergyName
from gencore.models.flow import Base, Flow, FlowDistribution
from gencore.models.flow_ebm import FlowEBM, FlowObjective
from gencore.models.planar_flow import ExplicitDirection, PlanarFlow
from gencore.models.radial_flow import RadialFlow
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
    "Base",
    "ConvEnergy",
    "ConvEnergyName",
    "DivergenceError",
    "EulerSteps",
    "ExplicitDirection",
    "Flow",
    "FlowDistribution",
    "FlowEBM",
    "FlowObjective",
    "LipschitzEnergy",
    "PlanarFlow",
    "RadialFlow",
    "ResidualFlow",
    "ShortRunEBM",
    "ShortRunLoss",
    "SplineFlow",
    "check_divergence",
    "contrastive_loss",
]
