// Every kernel, in one list: its name and what it is called with. The CPU's table (cpu/kernels.h
// and cpu/level.cpp), the declarations of the CUDA launch functions (cuda/kernels.h) and what the
// tests call (testing/project_kernels.cpp) are made from it.
#pragma once

#include "arguments/actnorm.h"
#include "arguments/affine_coupling.h"
#include "arguments/categorical.h"
#include "arguments/conv_network.h"
#include "arguments/dequantize.h"
#include "arguments/gaussian_nll.h"
#include "arguments/langevin.h"
#include "arguments/leapfrog.h"
#include "arguments/logistic_mixture.h"
#include "arguments/made.h"
#include "arguments/masked_conv2d.h"
#include "arguments/metropolis.h"
#include "arguments/mlp_chain.h"
#include "arguments/nuts.h"
#include "arguments/phase_pool.h"
#include "arguments/philox.h"
#include "arguments/pixel_plan.h"
#include "arguments/prediction_losses.h"
#include "arguments/replica_exchange.h"
#include "arguments/soft_minimum.h"
#include "arguments/spline.h"
#include "arguments/squeeze.h"
#include "arguments/stochastic_gradient.h"
#include "arguments/warp.h"

// BOTH(name, Arguments, types) for the kernels of both back ends, CPU(name, Arguments, types) and
// CUDA(name, Arguments) for those of one. `types` says which types of elements the CPU's loop
// name_range is a template over: storage, the four dtypes; accumulation, fp64 and fp32; untyped, it
// is no template.
#define GENCORE_FOR_EACH_KERNEL(BOTH, CPU, CUDA)                               \
  BOTH(actnorm, Actnorm, storage)                                              \
  BOTH(actnorm_backward, ActnormBackward, storage)                             \
  BOTH(actnorm_parameters, ActnormParameters, storage)                         \
  BOTH(actnorm_scales, ActnormScales, storage)                                 \
  BOTH(affine_coupling, AffineCoupling, storage)                               \
  BOTH(affine_coupling_backward, AffineCouplingBackward, storage)              \
  BOTH(affine_coupling_double_backward, AffineCouplingDoubleBackward, storage) \
  BOTH(categorical, Categorical, storage)                                      \
  BOTH(categorical_backward, CategoricalBackward, storage)                     \
  CPU(conv_network, ConvNetwork, accumulation)                                 \
  CPU(conv_network_backward, ConvNetworkBackward, accumulation)                \
  CPU(conv_network_gradients, ConvNetworkBackward, accumulation)               \
  BOTH(dequantize, Dequantize, accumulation)                                   \
  BOTH(gaussian_nll, GaussianNll, storage)                                     \
  BOTH(langevin_backward, LangevinBackward, storage)                           \
  BOTH(langevin_step, LangevinStep, storage)                                   \
  BOTH(langevin_tangent, LangevinTangent, storage)                             \
  BOTH(leapfrog_end, LeapfrogEnd, storage)                                     \
  BOTH(leapfrog_start, LeapfrogStart, storage)                                 \
  BOTH(leapfrog_step, LeapfrogStep, storage)                                   \
  BOTH(logistic_mixture, LogisticMixture, storage)                             \
  BOTH(logistic_mixture_backward, LogisticMixtureBackward, storage)            \
  BOTH(made_inverse, MadeInverse, storage)                                     \
  CPU(masked_conv2d, MaskedConv2d, accumulation)                               \
  CPU(masked_conv2d_backward, MaskedConv2dBackward, accumulation)              \
  CPU(masked_conv2d_gradients, MaskedConv2dBackward, accumulation)             \
  BOTH(metropolis_accept, MetropolisAccept, storage)                           \
  BOTH(mlp_hmc_chain, MlpHmcChain, storage)                                    \
  BOTH(mlp_langevin_chain, MlpLangevinChain, storage)                          \
  BOTH(nuts_leaf, NutsLeaf, storage)                                           \
  BOTH(phase_pool, PhasePool, storage)                                         \
  BOTH(phase_pool_backward, PhasePoolBackward, storage)                        \
  BOTH(phase_pool_beta_backward, PhasePoolBackward, storage)                   \
  BOTH(phase_unpool, PhaseUnpool, storage)                                     \
  BOTH(phase_unpool_backward, PhaseUnpoolBackward, storage)                    \
  BOTH(philox_fill, PhiloxFill, storage)                                       \
  CUDA(piece_sums, PieceSums)                                                  \
  BOTH(pixel_plan, PixelPlan, accumulation)                                    \
  BOTH(plan_sums, PlanSums, accumulation)                                      \
  BOTH(prediction_losses, PredictionLosses, storage)                           \
  BOTH(prediction_losses_backward, PredictionLossesBackward, storage)          \
  BOTH(replica_swap, ReplicaSwap, accumulation)                                \
  BOTH(riemannian_langevin_step, RiemannianLangevinStep, storage)              \
  BOTH(sghmc_step, SghmcStep, storage)                                         \
  BOTH(soft_minimum, SoftMinimum, accumulation)                                \
  BOTH(spline, SplineTransform, storage)                                       \
  BOTH(spline_backward, SplineBackward, storage)                               \
  BOTH(squeeze2d, Squeeze2d, untyped)                                          \
  BOTH(warp, Warp, storage)                                                    \
  BOTH(warp_backward, WarpBackward, storage)

// For the kernels that a user of the list leaves out.
#define GENCORE_NO_KERNEL(...)
