// The CUDA kernels' launch functions, free of CUDA headers. `stream` is a cudaStream_t.
#pragma once

#include <cstdint>

#include "../ops/affine_coupling_arguments.h"
#include "../ops/arguments.h"
#include "../ops/flow_pointwise_arguments.h"
#include "../ops/made_arguments.h"
#include "../ops/spline_arguments.h"

namespace gencore::cuda {

void langevin_step(const LangevinStep& args, void* stream);
void langevin_backward(const LangevinBackward& args, void* stream);
void langevin_tangent(const LangevinTangent& args, void* stream);
void mlp_langevin_chain(const MlpLangevinChain& args, void* stream);
void mlp_hmc_chain(const MlpHmcChain& args, void* stream);
void made_inverse(const MadeInverse& args, void* stream);
void leapfrog_step(const LeapfrogStep& args, void* stream);
void leapfrog_start(const LeapfrogStart& args, void* stream);
void leapfrog_end(const LeapfrogEnd& args, void* stream);
void metropolis_accept(const MetropolisAccept& args, void* stream);
void nuts_leaf(const NutsLeaf& args, void* stream);
void sghmc_step(const SghmcStep& args, void* stream);
void riemannian_langevin_step(const RiemannianLangevinStep& args, void* stream);
void replica_swap(const ReplicaSwap& args, void* stream);
void affine_coupling(const AffineCoupling& args, void* stream);
void affine_coupling_backward(const AffineCouplingBackward& args, void* stream);
void affine_coupling_double_backward(const AffineCouplingDoubleBackward& args, void* stream);
void piece_sums(const PieceSums& args, void* stream);
void spline(const SplineTransform& args, void* stream);
void spline_backward(const SplineBackward& args, void* stream);
void philox_fill(const PhiloxFill& args, void* stream);
void actnorm_scales(const ActnormScales& args, void* stream);
void actnorm(const Actnorm& args, void* stream);
void actnorm_backward(const ActnormBackward& args, void* stream);
void actnorm_parameters(const ActnormParameters& args, void* stream);
void squeeze2d(const Squeeze2d& args, void* stream);
void gaussian_nll(const GaussianNll& args, void* stream);
void dequantize(const Dequantize& args, void* stream);

// torch's current stream on a device.
void* current_stream(std::int32_t device_index);

}  // namespace gencore::cuda
