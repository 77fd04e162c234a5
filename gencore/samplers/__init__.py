"""Markov chain Monte Carlo: many chains at once, one a row of a tensor."""

from gencore.samplers.adaptation import Moments, WarmUpInfo, warm_up
from gencore.samplers.annealed_importance import (
    AnnealedImportance,
    AnnealedImportanceResult,
    GaussianBase,
    annealing_schedule,
)
from gencore.samplers.chains import NonFiniteWarning
from gencore.samplers.compiled_energy import CompilationWarning, CompiledEnergy
from gencore.samplers.complete_recipe import CompleteRecipe
from gencore.samplers.conditional_energy import ConditionalEnergy
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.diagnostics import plot_trace, summary, to_inference_data
from gencore.samplers.energy import GradientEnergy
from gencore.samplers.energy_sampler import MetropolisState
from gencore.samplers.euler_flow import (
    EulerFlow,
    InverseResult,
    LogDetMethod,
    NonConvergenceWarning,
)
from gencore.samplers.flow_base import FlowError
from gencore.samplers.gradient_flow import GradientFlow
from gencore.samplers.hamiltonian import MetropolisInfo
from gencore.samplers.hmc import HMC
from gencore.samplers.langevin import Langevin, LangevinInfo, LangevinState
from gencore.samplers.mala import MALA
from gencore.samplers.metropolis_hastings_gan import (
    IndependenceInfo,
    MetropolisHastingsGAN,
    MetropolisHastingsGANState,
)
from gencore.samplers.nuts import NUTS, NutsInfo
from gencore.samplers.parallel_tempering import ParallelTempering, TemperingInfo, TemperingState
from gencore.samplers.replay_buffer import ReplayBuffer
from gencore.samplers.sghmc import SGHMC
from gencore.samplers.sgld import SGLD, polynomial_decay
from gencore.samplers.sgrld import SGRLD
from gencore.samplers.step_size_adaptation import DualAveraging
from gencore.samplers.stochastic_gradient import StochasticGradientState
from gencore.samplers.transport import TransportedEnergy

__all__ = [
    "HMC",
    "MALA",
    "NUTS",
    "SGHMC",
    "SGLD",
    "SGRLD",
    "AnnealedImportance",
    "AnnealedImportanceResult",
    "CompilationWarning",
    "CompiledEnergy",
    "CompleteRecipe",
    "ConditionalEnergy",
    "DenseMass",
    "DualAveraging",
    "EulerFlow",
    "FlowError",
    "GaussianBase",
    "GradientEnergy",
    "GradientFlow",
    "IndependenceInfo",
    "InverseResult",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "LogDetMethod",
    "MetropolisHastingsGAN",
    "MetropolisHastingsGANState",
    "MetropolisInfo",
    "MetropolisState",
    "Moments",
    "NonConvergenceWarning",
    "NonFiniteWarning",
    "NutsInfo",
    "ParallelTempering",
    "ReplayBuffer",
    "StochasticGradientState",
    "TemperingInfo",
    "TemperingState",
    "TransportedEnergy",
    "WarmUpInfo",
    "annealing_schedule",
    "plot_trace",
    "polynomial_decay",
    "summary",
    "to_inference_data",
    "warm_up",
]
