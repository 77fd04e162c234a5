"""Markov chain Monte Carlo: many chains at once, one a row of a tensor."""

from gencore.samplers.annealed_importance import (
    AnnealedImportance,
    AnnealedImportanceResult,
    GaussianBase,
    annealing_schedule,
)
from gencore.samplers.euler_flow import EulerFlow, InverseResult, NonConvergenceWarning
from gencore.samplers.flow_base import FlowError
from gencore.samplers.gradient_flow import GradientFlow
from gencore.samplers.langevin import Langevin, LangevinInfo, LangevinState, NonFiniteWarning
from gencore.samplers.mala import MALA
from gencore.samplers.replay_buffer import ReplayBuffer

__all__ = [
    "MALA",
    "AnnealedImportance",
    "AnnealedImportanceResult",
    "EulerFlow",
    "FlowError",
    "GaussianBase",
    "GradientFlow",
    "InverseResult",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "NonConvergenceWarning",
    "NonFiniteWarning",
    "ReplayBuffer",
    "annealing_schedule",
]
