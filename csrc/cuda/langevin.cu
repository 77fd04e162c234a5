// The Langevin step and its derivatives on CUDA. Bytes per element of b bytes: step reads x, grad
// and writes x' (3b; noise is made in registers); backward reads grad_out and writes the wanted
// gradients (2b to 4b), and rereads x, grad only where a clamp is differentiated; tangent likewise.
#include "../math/langevin.h"
#include "elementwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class A>
__device__ __forceinline__ void coefficients(const LangevinArguments& args, const Span& span,
                                             LangevinCoefficients<A> (&out)[4]) {
  const LangevinCoefficients<A> shared{
      static_cast<A>(args.step_size),       static_cast<A>(args.noise_scale),
      static_cast<A>(args.prior_precision), static_cast<A>(args.grad_clamp),
      static_cast<A>(args.clamp_min),       static_cast<A>(args.clamp_max)};
#pragma unroll
  for (int k = 0; k < 4; ++k) out[k] = shared;
  if (args.step_sizes == nullptr && args.noise_scales == nullptr) return;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k < span.begin || k >= span.end) continue;
    const std::int64_t chain = (span.at + k) / args.chain_size;
    if (args.step_sizes != nullptr) out[k].step = static_cast<const A*>(args.step_sizes)[chain];
    if (args.noise_scales != nullptr)
      out[k].noise = static_cast<const A*>(args.noise_scales)[chain];
  }
}

template <class T>
struct StepBody {
  LangevinStep args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A x[4], grad[4], noise[4] = {};
    LangevinCoefficients<A> c[4];
    read<T>(args.x, span, x);
    read<T>(args.grad, span, grad);
    if (args.has_noise()) read_noise<T>(args.noise, span, noise);
    coefficients(args, span, c);
#pragma unroll
    for (int k = 0; k < 4; ++k) x[k] = langevin_element(x[k], grad[k], noise[k], c[k]);
    write<T>(args.out, span, x);
  }
};

// Which elements the clamps let derivatives through, as in the CPU kernel.
template <class T>
__device__ __forceinline__ void active_elements(const LangevinArguments& args, const Span& span,
                                                const LangevinCoefficients<accumulate_t<T>> (&c)[4],
                                                LangevinActive<accumulate_t<T>> (&out)[4]) {
  using A = accumulate_t<T>;
  A x[4] = {}, grad[4] = {}, noise[4] = {};
  const bool clamps = args.clamps_state();
  if (clamps) read<T>(args.x, span, x);
  if (clamps || args.clips_grad()) read<T>(args.grad, span, grad);
  if (clamps && args.has_noise()) read_noise<T>(args.noise, span, noise);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    out[k] = langevin_active(x[k], grad[k], noise[k], c[k]);
    out[k].state = out[k].state || !clamps;
  }
}

template <class T>
struct BackwardBody {
  LangevinBackward args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A grad_out[4], x_grad[4], grad_grad[4], noise_grad[4];
    LangevinCoefficients<A> c[4];
    LangevinActive<A> active[4];
    read<T>(args.grad_out, span, grad_out);
    coefficients(args, span, c);
    active_elements<T>(args, span, c, active);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const LangevinGradients<A> gradients = langevin_adjoint(grad_out[k], active[k], c[k]);
      x_grad[k] = gradients.x;
      grad_grad[k] = gradients.grad;
      noise_grad[k] = gradients.eps;
    }
    if (args.x_grad != nullptr) write<T>(args.x_grad, span, x_grad);
    if (args.grad_grad != nullptr) write<T>(args.grad_grad, span, grad_grad);
    if (args.noise_grad != nullptr) write<T>(args.noise_grad, span, noise_grad);
  }
};

template <class T>
struct TangentBody {
  LangevinTangent args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A dx[4] = {}, dgrad[4] = {}, dnoise[4] = {};
    LangevinCoefficients<A> c[4];
    LangevinActive<A> active[4];
    if (args.x_tangent != nullptr) read<T>(args.x_tangent, span, dx);
    if (args.grad_tangent != nullptr) read<T>(args.grad_tangent, span, dgrad);
    if (args.noise_tangent != nullptr) read<T>(args.noise_tangent, span, dnoise);
    coefficients(args, span, c);
    active_elements<T>(args, span, c, active);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      dx[k] = langevin_tangent(dx[k], dgrad[k], dnoise[k], active[k], c[k]);
    write<T>(args.out, span, dx);
  }
};

}  // namespace

void langevin_step(const LangevinStep& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(StepBody<T>{args}, args.numel, args.noise.first,
                          {args.x, args.grad, args.noise.tensor, args.out}, stream);
  });
}

void langevin_backward(const LangevinBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(BackwardBody<T>{args}, args.numel, args.noise.first,
                          {args.grad_out, args.x, args.grad, args.noise.tensor, args.x_grad,
                           args.grad_grad, args.noise_grad},
                          stream);
  });
}

void langevin_tangent(const LangevinTangent& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(TangentBody<T>{args}, args.numel, args.noise.first,
                          {args.x, args.grad, args.noise.tensor, args.x_tangent, args.grad_tangent,
                           args.noise_tangent, args.out},
                          stream);
  });
}

}  // namespace gencore::cuda
