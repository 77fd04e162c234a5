"""Markov chain Monte Carlo: many chains at once, one a row of a tensor."""

from gencore.samplers.langevin import Langevin, LangevinInfo, LangevinState, NonFiniteWarning
from gencore.samplers.parallel_tempering import ParallelTempering, TemperingInfo, TemperingState
from gencore.samplers.replay_buffer import ReplayBuffer
from gencore.samplers.sghmc import SGHMC
from gencore.samplers.sgld import SGLD, polynomial_decay
from gencore.samplers.sgrld import SGRLD
from gencore.samplers.stochastic_gradient import StochasticGradientState

__all__ = [
    "SGHMC",
    "SGLD",
    "SGRLD",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "NonFiniteWarning",
    "ParallelTempering",
    "ReplayBuffer",
    "StochasticGradientState",
    "TemperingInfo",
    "TemperingState",
    "polynomial_decay",
]
