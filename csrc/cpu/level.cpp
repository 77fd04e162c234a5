// One instruction-set level's table of kernels. CMake compiles this file once per level, with
// GENCORE_LEVEL naming it and the matching -march.
#include "actnorm_kernel.h"
#include "affine_coupling_kernel.h"
#include "conv_network_kernel.h"
#include "dequantize_kernel.h"
#include "gaussian_nll_kernel.h"
#include "kernels.h"
#include "langevin_kernel.h"
#include "leapfrog_kernel.h"
#include "made_kernel.h"
#include "metropolis_kernel.h"
#include "mlp_chain_kernel.h"
#include "nuts_kernel.h"
#include "philox_kernel.h"
#include "replica_exchange_kernel.h"
#include "spline_kernel.h"
#include "squeeze_kernel.h"
#include "stochastic_gradient_kernel.h"

namespace gencore {
inline namespace GENCORE_LEVEL {
namespace {

template <template <class> class Range, class Arguments>
void by_dtype(const Arguments& args, std::int64_t begin, std::int64_t end) {
  switch (args.dtype) {
    case Dtype::kFloat64:
      return Range<double>::run(args, begin, end);
    case Dtype::kFloat32:
      return Range<float>::run(args, begin, end);
    case Dtype::kBFloat16:
      return Range<BFloat16>::run(args, begin, end);
    case Dtype::kFloat16:
      return Range<Float16>::run(args, begin, end);
  }
}

template <class T>
struct Step {
  static constexpr auto run = langevin_step_range<T>;
};
template <class T>
struct Backward {
  static constexpr auto run = langevin_backward_range<T>;
};
template <class T>
struct Tangent {
  static constexpr auto run = langevin_tangent_range<T>;
};
template <class T>
struct MlpLangevin {
  static constexpr auto run = mlp_langevin_range<T>;
};
template <class T>
struct MlpHmc {
  static constexpr auto run = mlp_hmc_range<T>;
};
template <class A>
struct Conv {
  static constexpr auto run = conv_network_range<A>;
};
template <class A>
struct ConvBackward {
  static constexpr auto run = conv_network_backward_range<A>;
};
template <class A>
struct ConvGradients {
  static constexpr auto run = conv_network_gradients_range<A>;
};
template <class T>
struct Made {
  static constexpr auto run = made_inverse_range<T>;
};
template <class T>
struct Leapfrog {
  static constexpr auto run = leapfrog_step_range<T>;
};
template <class T>
struct LeapfrogFirst {
  static constexpr auto run = leapfrog_start_range<T>;
};
template <class T>
struct LeapfrogLast {
  static constexpr auto run = leapfrog_end_range<T>;
};
template <class T>
struct Metropolis {
  static constexpr auto run = metropolis_accept_range<T>;
};
template <class T>
struct Nuts {
  static constexpr auto run = nuts_leaf_range<T>;
};
template <class T>
struct Sghmc {
  static constexpr auto run = sghmc_step_range<T>;
};
template <class T>
struct RiemannianLangevin {
  static constexpr auto run = riemannian_langevin_step_range<T>;
};
template <class T>
struct Coupling {
  static constexpr auto run = affine_coupling_range<T>;
};
template <class T>
struct CouplingBackward {
  static constexpr auto run = affine_coupling_backward_range<T>;
};
template <class T>
struct CouplingDoubleBackward {
  static constexpr auto run = affine_coupling_double_backward_range<T>;
};
template <class T>
struct Spline {
  static constexpr auto run = spline_range<T>;
};
template <class T>
struct SplineGrads {
  static constexpr auto run = spline_backward_range<T>;
};
template <class T>
struct Normal {
  static constexpr auto run = philox_normal_range<T>;
};
template <class T>
struct Scales {
  static constexpr auto run = actnorm_scales_range<T>;
};
template <class T>
struct ActnormMap {
  static constexpr auto run = actnorm_range<T>;
};
template <class T>
struct ActnormAdjoint {
  static constexpr auto run = actnorm_backward_range<T>;
};
template <class T>
struct ActnormLast {
  static constexpr auto run = actnorm_parameters_range<T>;
};
template <class T>
struct Nll {
  static constexpr auto run = gaussian_nll_range<T>;
};

// For kernels that are there in the accumulation types alone.
template <template <class> class Range, class Arguments>
void by_accumulation(const Arguments& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == Dtype::kFloat64) return Range<double>::run(args, begin, end);
  Range<float>::run(args, begin, end);
}

void philox_fill(const PhiloxFill& args, std::int64_t begin, std::int64_t end) {
  if (args.words) return philox_word_range(args, begin, end);
  by_dtype<Normal>(args, begin, end);
}

void replica_swap(const ReplicaSwap& args, std::int64_t begin, std::int64_t end) {
  if (args.energy_dtype == Dtype::kFloat64) return replica_swap_range<double>(args, begin, end);
  replica_swap_range<float>(args, begin, end);
}

#define GENCORE_STRING_(name) #name
#define GENCORE_STRING(name) GENCORE_STRING_(name)

}  // namespace

extern const cpu::KernelTable kernel_table;
const cpu::KernelTable kernel_table = {
    .level = GENCORE_STRING(GENCORE_LEVEL),
    .langevin_step = by_dtype<Step, LangevinStep>,
    .langevin_backward = by_dtype<Backward, LangevinBackward>,
    .langevin_tangent = by_dtype<Tangent, LangevinTangent>,
    .mlp_langevin_chain = by_dtype<MlpLangevin, MlpLangevinChain>,
    .mlp_hmc_chain = by_dtype<MlpHmc, MlpHmcChain>,
    .conv_network = by_accumulation<Conv, ConvNetwork>,
    .conv_network_backward = by_accumulation<ConvBackward, ConvNetworkBackward>,
    .conv_network_gradients = by_accumulation<ConvGradients, ConvNetworkBackward>,
    .made_inverse = by_dtype<Made, MadeInverse>,
    .leapfrog_step = by_dtype<Leapfrog, LeapfrogStep>,
    .leapfrog_start = by_dtype<LeapfrogFirst, LeapfrogStart>,
    .leapfrog_end = by_dtype<LeapfrogLast, LeapfrogEnd>,
    .metropolis_accept = by_dtype<Metropolis, MetropolisAccept>,
    .nuts_leaf = by_dtype<Nuts, NutsLeaf>,
    .sghmc_step = by_dtype<Sghmc, SghmcStep>,
    .riemannian_langevin_step = by_dtype<RiemannianLangevin, RiemannianLangevinStep>,
    .replica_swap = replica_swap,
    .affine_coupling = by_dtype<Coupling, AffineCoupling>,
    .affine_coupling_backward = by_dtype<CouplingBackward, AffineCouplingBackward>,
    .affine_coupling_double_backward =
        by_dtype<CouplingDoubleBackward, AffineCouplingDoubleBackward>,
    .spline = by_dtype<Spline, SplineTransform>,
    .spline_backward = by_dtype<SplineGrads, SplineBackward>,
    .philox_fill = philox_fill,
    .actnorm_scales = by_dtype<Scales, ActnormScales>,
    .actnorm = by_dtype<ActnormMap, Actnorm>,
    .actnorm_backward = by_dtype<ActnormAdjoint, ActnormBackward>,
    .actnorm_parameters = by_dtype<ActnormLast, ActnormParameters>,
    .squeeze2d = squeeze2d_range,
    .gaussian_nll = by_dtype<Nll, GaussianNll>,
    .dequantize = dequantize_range,
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
