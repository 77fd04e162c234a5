from gencore.models.flows.autoregressive_spline_flow import AutoregressiveSplineFlow
from gencore.models.flows.base_modules import ConditionalNormal, DistributionModule
from gencore.models.flows.circular_spline_flow import CircularSplineFlow
from gencore.models.flows.continuous_flow import ContinuousFlow, RegularisedLogProb
from gencore.models.flows.coupling_flow import CouplingFlow
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.flow_distribution import FlowDistribution
from gencore.models.flows.flow_posterior import FlowPosterior, PosteriorSample
from gencore.models.flows.glow import Glow
from gencore.models.flows.iaf import IAF
from gencore.models.flows.maf import MAF
from gencore.models.flows.monotonic_flow import MonotonicFlow
from gencore.models.flows.names import AutoregressiveMixing, CouplingKind, CouplingMixing
from gencore.models.flows.nice import NICE
from gencore.models.flows.planar_flow import ExplicitDirection, PlanarFlow
from gencore.models.flows.radial_flow import RadialFlow
from gencore.models.flows.real_nvp import RealNVP
from gencore.models.flows.residual_flow import EulerSteps, LipschitzEnergy, ResidualFlow
from gencore.models.flows.spline_flow import SplineFlow

__all__ = [
    "IAF",
    "MAF",
    "NICE",
    "AutoregressiveMixing",
    "AutoregressiveSplineFlow",
    "Base",
    "CircularSplineFlow",
    "ConditionalNormal",
    "ContinuousFlow",
    "CouplingFlow",
    "CouplingKind",
    "CouplingMixing",
    "DistributionModule",
    "EulerSteps",
    "ExplicitDirection",
    "Flow",
    "FlowDistribution",
    "FlowPosterior",
    "Glow",
    "LipschitzEnergy",
    "MonotonicFlow",
    "PlanarFlow",
    "PosteriorSample",
    "RadialFlow",
    "RealNVP",
    "RegularisedLogProb",
    "ResidualFlow",
    "SplineFlow",
]
