"""Markov chain Monte Carlo: many chains at once, one a row of a tensor."""

from gencore.samplers.langevin import Langevin, LangevinInfo, LangevinState, NonFiniteWarning
from gencore.samplers.mala import MALA
from gencore.samplers.replay_buffer import ReplayBuffer

__all__ = [
    "MALA",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "NonFiniteWarning",
    "ReplayBuffer",
]
