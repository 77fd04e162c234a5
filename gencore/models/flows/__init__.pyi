from gencore.models.flows.autoregressive_spline_flow import AutoregressiveSplineFlow
from gencore.models.flows.coupling_flow import CouplingFlow
from gencore.models.flows.flow import Base, Flow, FlowDistribution
from gencore.models.flows.flow_posterior import FlowPosterior, PosteriorSample
from gencore.models.flows.glow import Glow
from gencore.models.flows.iaf import IAF
from gencore.models.flows.maf import MAF
from gencore.models.flows.names import CoordinateOrder, CouplingKind
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
    "AutoregressiveSplineFlow",
    "Base",
    "CoordinateOrder",
    "CouplingFlow",
    "CouplingKind",
    "EulerSteps",
    "ExplicitDirection",
    "Flow",
    "FlowDistribution",
    "FlowPosterior",
    "Glow",
    "LipschitzEnergy",
    "PlanarFlow",
    "PosteriorSample",
    "RadialFlow",
    "RealNVP",
    "ResidualFlow",
    "SplineFlow",
]
