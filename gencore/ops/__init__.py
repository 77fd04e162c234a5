"""The public operators: one file a family, each with its twin in pure PyTorch."""

from gencore.ops.backend import backend
from gencore.ops.langevin import langevin_step, langevin_step_
from gencore.ops.random import philox_normal, philox_words, random_key, split_key

__all__ = [
    "backend",
    "langevin_step",
    "langevin_step_",
    "philox_normal",
    "philox_words",
    "random_key",
    "split_key",
]
