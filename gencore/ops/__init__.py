"""The public operators, one module a family.

A family's module holds, in this order, its public functions, the checks of their arguments, the
reference in PyTorch, the derivatives and the shapes of results. Where that is too long for a
file, the last three, and the settings that they share, are in ``<family>_reference.py``. What
families share is in ``_support``.
"""

from gencore.ops._support.backend import backend
from gencore.ops.actnorm import actnorm
from gencore.ops.affine_coupling import (
    CouplingMask,
    affine_coupling,
    affine_coupling_backward_from_output,
    iaf_step,
)
from gencore.ops.affine_warp import affine_warp
from gencore.ops.anchor_warp import anchor_warp
from gencore.ops.categorical import categorical_log_prob
from gencore.ops.conv_network import conv_network
from gencore.ops.dequantize import dequantize, quantize
from gencore.ops.gaussian_nll import gaussian_nll
from gencore.ops.langevin import langevin_step, langevin_step_
from gencore.ops.leapfrog import (
    LeapfrogEnd,
    LeapfrogStart,
    leapfrog_end,
    leapfrog_start,
    leapfrog_step,
    leapfrog_step_,
)
from gencore.ops.logistic_mixture import discretized_logistic_log_prob, logistic_mixture_log_prob
from gencore.ops.made_inverse import AutoregressiveStep, made_inverse
from gencore.ops.masked_conv2d import MaskType, masked_conv2d
from gencore.ops.metropolis import MetropolisStep, metropolis_accept, metropolis_accept_
from gencore.ops.mlp_chain import mlp_langevin_chain
from gencore.ops.mlp_hmc import MLPHMCChain, mlp_hmc_chain
from gencore.ops.mlp_network import mlp_network
from gencore.ops.nuts import NutsTree, nuts_leaf_, nuts_tree
from gencore.ops.phase_pool import UnpoolMode, phase_pool, phase_unpool
from gencore.ops.prediction_losses import PredictionLosses, prediction_losses
from gencore.ops.random import philox_normal, philox_words, random_key, split_key
from gencore.ops.replica_exchange import replica_swap_
from gencore.ops.riemannian_langevin import riemannian_langevin_step, riemannian_langevin_step_
from gencore.ops.sghmc import sghmc_step, sghmc_step_
from gencore.ops.soft_minimum import CostExponent, soft_minimum
from gencore.ops.splat import splat
from gencore.ops.spline import rational_quadratic_spline
from gencore.ops.squeeze import squeeze2d, unsqueeze2d
from gencore.ops.warp import warp
from gencore.ops.warp_chain import warp_chain

__all__ = [
    "AutoregressiveStep",
    "CostExponent",
    "CouplingMask",
    "LeapfrogEnd",
    "LeapfrogStart",
    "MLPHMCChain",
    "MaskType",
    "MetropolisStep",
    "NutsTree",
    "PredictionLosses",
    "UnpoolMode",
    "actnorm",
    "affine_coupling",
    "affine_coupling_backward_from_output",
    "affine_warp",
    "anchor_warp",
    "backend",
    "categorical_log_prob",
    "conv_network",
    "dequantize",
    "discretized_logistic_log_prob",
    "gaussian_nll",
    "iaf_step",
    "langevin_step",
    "langevin_step_",
    "leapfrog_end",
    "leapfrog_start",
    "leapfrog_step",
    "leapfrog_step_",
    "logistic_mixture_log_prob",
    "made_inverse",
    "masked_conv2d",
    "metropolis_accept",
    "metropolis_accept_",
    "mlp_hmc_chain",
    "mlp_langevin_chain",
    "mlp_network",
    "nuts_leaf_",
    "nuts_tree",
    "phase_pool",
    "phase_unpool",
    "philox_normal",
    "philox_words",
    "prediction_losses",
    "quantize",
    "random_key",
    "rational_quadratic_spline",
    "replica_swap_",
    "riemannian_langevin_step",
    "riemannian_langevin_step_",
    "sghmc_step",
    "sghmc_step_",
    "soft_minimum",
    "splat",
    "split_key",
    "squeeze2d",
    "unsqueeze2d",
    "warp",
    "warp_chain",
]
