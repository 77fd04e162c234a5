// Leapfrog steps on CUDA. Bytes per element of b bytes: start reads x, grad and writes position,
// momentum (4b; noise is made in registers); step reads x, momentum, grad and writes two (5b); end
// reads momentum, grad and writes one (3b). The kinetic energies are made on the way.
#include "../math/leapfrog.h"
#include "chainwise.cuh"
#include "coefficient.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct LeapfrogStepBody {
  LeapfrogStep args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A x[4], momentum[4], grad[4], step[4], inverse_mass[4];
    read<T>(args.x, span, x);
    read<T>(args.momentum, span, momentum);
    read<T>(args.grad, span, grad);
    read_coefficient(args.step_size, span, args.chain_size, step);
    read_coefficient(args.inverse_mass, span, args.chain_size, inverse_mass);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      momentum[k] = leapfrog_kick(momentum[k], grad[k], step[k]);
      x[k] = leapfrog_drift(x[k], momentum[k], inverse_mass[k], step[k]);
    }
    write<T>(args.new_position, span, x);
    write<T>(args.new_momentum, span, momentum);
  }
};

// The sum of a span's terms; those outside it are not numbers to rely on.
template <class A>
__device__ __forceinline__ A sum_inside(const A (&terms)[4], const Span& span) {
  A sum = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (k >= span.begin && k < span.end) sum += terms[k];
  return sum;
}

template <class T>
struct StartBody {
  LeapfrogStart args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    double sum = 0.0;
    for_each_span(place, shape, [&](const Span& span) {
      A x[4], grad[4], noise[4], step[4], inverse_mass[4], terms[4];
      const std::int64_t start = place.chain * shape.chain_size;
      read<T>(args.x, span, x);
      read<T>(args.grad, span, grad);
      read_noise<T>(args.noise, span, noise);
      read_coefficient(args.step_size, span, place.chain, start, step);
      read_coefficient(args.inverse_mass, span, place.chain, start, inverse_mass);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        terms[k] = noise[k] * noise[k];  // p^2 / m
        const A fresh = momentum_scale(inverse_mass[k]) * noise[k];
        noise[k] = leapfrog_kick(fresh, grad[k], A(0.5) * step[k]);
        x[k] = leapfrog_drift(x[k], noise[k], inverse_mass[k], step[k]);
      }
      write<T>(args.position, span, x);
      write<T>(args.momentum, span, noise);
      sum += sum_inside(terms, span);
    });
    sum = chain_sum(place, sum);
    if (place.present && place.rank == 0)
      static_cast<A*>(args.kinetic)[place.chain] = static_cast<A>(0.5 * sum);
  }
};

template <class T>
struct EndBody {
  LeapfrogEnd args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    double sum = 0.0;
    for_each_span(place, shape, [&](const Span& span) {
      A momentum[4], grad[4], step[4], inverse_mass[4], terms[4];
      const std::int64_t start = place.chain * shape.chain_size;
      read<T>(args.momentum, span, momentum);
      read<T>(args.grad, span, grad);
      read_coefficient(args.step_size, span, place.chain, start, step);
      read_coefficient(args.inverse_mass, span, place.chain, start, inverse_mass);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        momentum[k] = leapfrog_kick(momentum[k], grad[k], A(0.5) * step[k]);
        terms[k] = inverse_mass[k] * momentum[k] * momentum[k];
      }
      write<T>(args.new_momentum, span, momentum);
      sum += sum_inside(terms, span);
    });
    sum = chain_sum(place, sum);
    if (place.present && place.rank == 0)
      static_cast<A*>(args.kinetic)[place.chain] = static_cast<A>(0.5 * sum);
  }
};

}  // namespace

void leapfrog_step(const LeapfrogStep& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(LeapfrogStepBody<T>{args}, args.numel, 0,
                          {args.x, args.momentum, args.grad, args.new_position, args.new_momentum},
                          stream);
  });
}

void leapfrog_start(const LeapfrogStart& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(StartBody<T>{args}, args.chains, args.chain_size, args.noise.first,
                        {args.x, args.grad, args.noise.tensor, args.position, args.momentum},
                        stream);
  });
}

void leapfrog_end(const LeapfrogEnd& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(EndBody<T>{args}, args.chains, args.chain_size, 0,
                        {args.momentum, args.grad, args.new_momentum}, stream);
  });
}

}  // namespace gencore::cuda
