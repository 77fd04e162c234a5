"""Markov chain Monte Carlo: many chains at once, one a row of a tensor."""

from gencore.samplers.adaptation import DualAveraging, Moments, WarmUpInfo, warm_up
from gencore.samplers.diagnostics import plot_trace, summary, to_inference_data
from gencore.samplers.hamiltonian import MetropolisInfo, MetropolisState
from gencore.samplers.hmc import HMC
from gencore.samplers.langevin import Langevin, LangevinInfo, LangevinState, NonFiniteWarning
from gencore.samplers.mala import MALA
from gencore.samplers.replay_buffer import ReplayBuffer

__all__ = [
    "HMC",
    "MALA",
    "DualAveraging",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "MetropolisInfo",
    "MetropolisState",
    "Moments",
    "NonFiniteWarning",
    "ReplayBuffer",
    "WarmUpInfo",
    "plot_trace",
    "summary",
    "to_inference_data",
    "warm_up",
]
