// The project's launch functions for the test suite: each takes its argument struct, which the
// suite mirrors with ctypes, and says how large it takes that struct to be.
#include <cstddef>

#include "../cuda/kernels.h"
#include "exports.h"

#define HOST_EXECUTOR_KERNEL(name, Arguments)                                              \
  extern "C" HOST_EXECUTOR_EXPORT const char* run_##name(const gencore::Arguments* args) { \
    return host_executor::error_of([&] { gencore::cuda::name(*args, nullptr); });          \
  }                                                                                        \
  extern "C" HOST_EXECUTOR_EXPORT std::size_t size_of_##name() {                           \
    return sizeof(gencore::Arguments);                                                     \
  }

HOST_EXECUTOR_KERNEL(langevin_step, LangevinStep)
HOST_EXECUTOR_KERNEL(langevin_backward, LangevinBackward)
HOST_EXECUTOR_KERNEL(langevin_tangent, LangevinTangent)
HOST_EXECUTOR_KERNEL(mlp_langevin_chain, MlpLangevinChain)
HOST_EXECUTOR_KERNEL(mlp_hmc_chain, MlpHmcChain)
HOST_EXECUTOR_KERNEL(made_inverse, MadeInverse)
HOST_EXECUTOR_KERNEL(leapfrog_step, LeapfrogStep)
HOST_EXECUTOR_KERNEL(leapfrog_start, LeapfrogStart)
HOST_EXECUTOR_KERNEL(leapfrog_end, LeapfrogEnd)
HOST_EXECUTOR_KERNEL(metropolis_accept, MetropolisAccept)
HOST_EXECUTOR_KERNEL(nuts_leaf, NutsLeaf)
HOST_EXECUTOR_KERNEL(sghmc_step, SghmcStep)
HOST_EXECUTOR_KERNEL(riemannian_langevin_step, RiemannianLangevinStep)
HOST_EXECUTOR_KERNEL(replica_swap, ReplicaSwap)
HOST_EXECUTOR_KERNEL(affine_coupling, AffineCoupling)
HOST_EXECUTOR_KERNEL(affine_coupling_backward, AffineCouplingBackward)
HOST_EXECUTOR_KERNEL(affine_coupling_double_backward, AffineCouplingDoubleBackward)
HOST_EXECUTOR_KERNEL(piece_sums, PieceSums)
HOST_EXECUTOR_KERNEL(spline, SplineTransform)
HOST_EXECUTOR_KERNEL(spline_backward, SplineBackward)
HOST_EXECUTOR_KERNEL(philox_fill, PhiloxFill)
HOST_EXECUTOR_KERNEL(actnorm_scales, ActnormScales)
HOST_EXECUTOR_KERNEL(actnorm, Actnorm)
HOST_EXECUTOR_KERNEL(actnorm_backward, ActnormBackward)
HOST_EXECUTOR_KERNEL(actnorm_parameters, ActnormParameters)
HOST_EXECUTOR_KERNEL(squeeze2d, Squeeze2d)
HOST_EXECUTOR_KERNEL(gaussian_nll, GaussianNll)
HOST_EXECUTOR_KERNEL(dequantize, Dequantize)
