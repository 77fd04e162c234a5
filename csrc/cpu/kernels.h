// The CPU kernels, one table of them per instruction-set level.
#pragma once

#include <cstdint>

#include "../ops/affine_coupling_arguments.h"
#include "../ops/arguments.h"
#include "../ops/conv_network_arguments.h"
#include "../ops/flow_pointwise_arguments.h"
#include "../ops/made_arguments.h"
#include "../ops/spline_arguments.h"

namespace gencore::cpu {

// Every kernel handles the elements [begin, end), or the chains where it adds up over them, or the
// pairs that it swaps, or pieces of rows, and may be called for disjoint ranges at once.
struct KernelTable {
  const char* level;
  void (*langevin_step)(const LangevinStep&, std::int64_t begin, std::int64_t end);
  void (*langevin_backward)(const LangevinBackward&, std::int64_t begin, std::int64_t end);
  void (*langevin_tangent)(const LangevinTangent&, std::int64_t begin, std::int64_t end);
  void (*mlp_langevin_chain)(const MlpLangevinChain&, std::int64_t begin, std::int64_t end);
  void (*mlp_hmc_chain)(const MlpHmcChain&, std::int64_t begin, std::int64_t end);
  void (*conv_network)(const ConvNetwork&, std::int64_t begin, std::int64_t end);
  void (*conv_network_backward)(const ConvNetworkBackward&, std::int64_t begin, std::int64_t end);
  void (*conv_network_gradients)(const ConvNetworkBackward&, std::int64_t begin, std::int64_t end);
  void (*made_inverse)(const MadeInverse&, std::int64_t begin, std::int64_t end);
  void (*leapfrog_step)(const LeapfrogStep&, std::int64_t begin, std::int64_t end);
  void (*leapfrog_start)(const LeapfrogStart&, std::int64_t begin, std::int64_t end);
  void (*leapfrog_end)(const LeapfrogEnd&, std::int64_t begin, std::int64_t end);
  void (*metropolis_accept)(const MetropolisAccept&, std::int64_t begin, std::int64_t end);
  void (*nuts_leaf)(const NutsLeaf&, std::int64_t begin, std::int64_t end);
  void (*sghmc_step)(const SghmcStep&, std::int64_t begin, std::int64_t end);
  void (*riemannian_langevin_step)(const RiemannianLangevinStep&, std::int64_t begin,
                                   std::int64_t end);
  void (*replica_swap)(const ReplicaSwap&, std::int64_t begin, std::int64_t end);
  void (*affine_coupling)(const AffineCoupling&, std::int64_t begin, std::int64_t end);
  void (*affine_coupling_backward)(const AffineCouplingBackward&, std::int64_t begin,
                                   std::int64_t end);
  void (*affine_coupling_double_backward)(const AffineCouplingDoubleBackward&, std::int64_t begin,
                                          std::int64_t end);
  void (*spline)(const SplineTransform&, std::int64_t begin, std::int64_t end);
  void (*spline_backward)(const SplineBackward&, std::int64_t begin, std::int64_t end);
  void (*philox_fill)(const PhiloxFill&, std::int64_t begin, std::int64_t end);
  void (*actnorm_scales)(const ActnormScales&, std::int64_t begin, std::int64_t end);
  void (*actnorm)(const Actnorm&, std::int64_t begin, std::int64_t end);
  void (*actnorm_backward)(const ActnormBackward&, std::int64_t begin, std::int64_t end);
  void (*actnorm_parameters)(const ActnormParameters&, std::int64_t begin, std::int64_t end);
  void (*squeeze2d)(const Squeeze2d&, std::int64_t begin, std::int64_t end);
  void (*gaussian_nll)(const GaussianNll&, std::int64_t begin, std::int64_t end);
  void (*dequantize)(const Dequantize&, std::int64_t begin, std::int64_t end);
};

// The table of the best level that this processor runs, chosen once. The environment variable
// GENCORE_CPU_LEVEL names a lower one.
const KernelTable& kernels();

}  // namespace gencore::cpu
