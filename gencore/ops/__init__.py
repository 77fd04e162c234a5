"""The public operators: one file a family, each with its twin in pure PyTorch."""

from gencore.ops.backend import backend
from gencore.ops.langevin import langevin_step, langevin_step_
from gencore.ops.mlp_chain import mlp_langevin_chain
from gencore.ops.mlp_hmc import MLPHMCChain, mlp_hmc_chain
from gencore.ops.random import philox_normal, philox_words, random_key, split_key

__all__ = [
    "MLPHMCChain",
    "backend",
    "langevin_step",
    "langevin_step_",
    "mlp_hmc_chain",
    "mlp_langevin_chain",
    "philox_normal",
    "philox_words",
    "random_key",
    "split_key",
]
