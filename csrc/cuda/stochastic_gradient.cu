// The stochastic-gradient samplers' steps on CUDA. Bytes per element of b bytes, noise made in
// registers: SGHMC reads x, p, grad and writes x', p' (5b); SGRLD reads x, grad, metric, correction
// and writes x' (5b). Coefficients of one entry an element add theirs.
#include "../math/stochastic_gradient.h"
#include "coefficient.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct SghmcBody {
  SghmcStep args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A x[4], momentum[4], grad[4], noise[4] = {};
    A step[4], friction[4], inverse_mass[4], scale[4];
    read<T>(args.x, span, x);
    read<T>(args.momentum, span, momentum);
    read<T>(args.grad, span, grad);
    if (args.has_noise()) read_noise<T>(args.noise, span, noise);
    read_coefficient(args.step_size, span, args.chain_size, step);
    read_coefficient(args.friction, span, args.chain_size, friction);
    read_coefficient(args.inverse_mass, span, args.chain_size, inverse_mass);
    read_coefficient(args.noise_scale, span, args.chain_size, scale);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const PhasePoint<A> next =
          sghmc_element<A>({x[k], momentum[k]}, grad[k], noise[k],
                           {step[k], friction[k], inverse_mass[k], scale[k]});
      x[k] = next.position;
      momentum[k] = next.momentum;
    }
    write<T>(args.new_position, span, x);
    write<T>(args.new_momentum, span, momentum);
  }
};

template <class T>
struct RiemannianLangevinBody {
  RiemannianLangevinStep args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A x[4], grad[4], metric[4], correction[4] = {}, noise[4] = {}, step[4];
    read<T>(args.x, span, x);
    read<T>(args.grad, span, grad);
    read<T>(args.metric, span, metric);
    if (args.correction != nullptr) read<T>(args.correction, span, correction);
    if (args.has_noise()) read_noise<T>(args.noise, span, noise);
    read_coefficient(args.step_size, span, args.chain_size, step);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      x[k] = riemannian_langevin_element(x[k], grad[k], metric[k], correction[k], noise[k], step[k],
                                         square_root(A(2) * step[k]));
    write<T>(args.out, span, x);
  }
};

}  // namespace

void sghmc_step(const SghmcStep& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(
        SghmcBody<T>{args}, args.numel, args.noise.first,
        {args.x, args.momentum, args.grad, args.noise.tensor, args.new_position, args.new_momentum},
        stream);
  });
}

void riemannian_langevin_step(const RiemannianLangevinStep& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(
        RiemannianLangevinBody<T>{args}, args.numel, args.noise.first,
        {args.x, args.grad, args.metric, args.correction, args.noise.tensor, args.out}, stream);
  });
}

}  // namespace gencore::cuda
