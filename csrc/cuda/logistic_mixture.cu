// Pixels in bins of a mixture of logistic distributions, on CUDA: a thread has a pixel, and
// neighbouring threads read neighbouring parameters. The backward pass computes every bin twice,
// because nothing is kept until the components' shares in the pixel are known.
#include <cuda_runtime.h>

#include <cstdint>

#include "../arguments/logistic_mixture.h"
#include "../math/activation.h"
#include "../math/logarithm.h"
#include "../math/logistic.h"
#include "../math/storage.h"
#include "elementwise.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

// log sum exp of numbers that come one after the other.
template <class A>
struct RunningSum {
  A most = -static_cast<A>(__builtin_huge_valf());
  A base = 0;
  A sum = 0;

  __device__ __forceinline__ void add(A value) {
    if (value > most) {
      sum *= exp_negative(most - value);
      most = base = value;
    }
    sum += exp_negative(value - base);
  }
  __device__ __forceinline__ A log() const { return base + logarithm(sum); }
};

template <class T>
struct Pixel {
  using A = accumulate_t<T>;
  const LogisticMixtureArguments& args;
  const LogisticBins<A> bins;
  std::int64_t image;
  std::int64_t at;

  __device__ __forceinline__ Pixel(const LogisticMixtureArguments& arguments, std::int64_t pixel)
      : args(arguments),
        bins(arguments.levels, arguments.bin_size, arguments.first_edge, arguments.min_log_scale),
        image(pixel / arguments.plane),
        at(pixel % arguments.plane) {}

  __device__ __forceinline__ std::int64_t place(std::int64_t block, std::int64_t component) const {
    return (image * args.per_pixel() + block + component) * args.plane + at;
  }
  __device__ __forceinline__ A parameter(std::int64_t block, std::int64_t component) const {
    return load(static_cast<const T*>(args.parameters)[place(block, component)]);
  }
  __device__ __forceinline__ std::int64_t element(std::int64_t channel) const {
    return (image * args.channels + channel) * args.plane + at;
  }
  __device__ __forceinline__ A level(std::int64_t channel) const {
    const std::int32_t value = args.level(element(channel), args.levels);
    const A infinity = static_cast<A>(__builtin_huge_valf());
    return value < 0 ? infinity - infinity : static_cast<A>(value);
  }
  __device__ __forceinline__ A mean(std::int64_t channel, std::int64_t component) const {
    A value = parameter(args.mean_at(channel), component);
    for (std::int64_t j = 0; args.coupled && j < channel; ++j)
      value += hyperbolic_tangent(parameter(args.coefficient_at(channel, j), component)) *
               bins.scaled(level(j));
    return value;
  }
  __device__ __forceinline__ LogisticPrecision<A> precision(std::int64_t channel,
                                                            std::int64_t component) const {
    const A raw = args.log_scale != nullptr ? static_cast<const A*>(args.log_scale)[channel]
                                            : parameter(args.log_scale_at(channel), component);
    return {raw, bins};
  }
  __device__ __forceinline__ LogisticBin<A> bin(std::int64_t channel, std::int64_t component,
                                                A precision) const {
    return {bins.lower_edge(level(channel)), mean(channel, component), precision, bins};
  }
  __device__ __forceinline__ A log_prob(std::int64_t component) const {
    A sum = 0;
    for (std::int64_t c = 0; c < args.channels; ++c)
      sum += bin(c, component, precision(c, component).value).log_prob();
    return sum;
  }
};

// log sum exp of the components' logits, and of these and the terms.
template <class T>
__device__ __forceinline__ void weigh(const Pixel<T>& pixel, accumulate_t<T>& logits,
                                      accumulate_t<T>& terms) {
  RunningSum<accumulate_t<T>> of_logits, of_terms;
  for (std::int64_t m = 0; m < pixel.args.components; ++m) {
    const accumulate_t<T> logit = pixel.parameter(0, m);
    of_logits.add(logit);
    of_terms.add(pixel.log_prob(m) + logit);
  }
  logits = of_logits.log();
  terms = of_terms.log();
}

// The 1 lets them have the registers that they need: on its own the compiler spills some.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) logistic_mixture_kernel(LogisticMixture args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.plane) return;
  const Pixel<T> pixel(args, index);
  A* out = static_cast<A*>(args.log_prob) + index;
  if (!args.weighted) {
    *out = pixel.log_prob(0);
    return;
  }
  A logits, terms;
  weigh(pixel, logits, terms);
  *out = terms - logits;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    logistic_mixture_backward_kernel(LogisticMixtureBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.plane) return;
  const Pixel<T> pixel(args, index);
  T* out = static_cast<T*>(args.parameters_grad);
  const A grad = static_cast<const A*>(args.grad)[index];
  A logits = 0, terms = 0;
  if (args.weighted) weigh(pixel, logits, terms);
  for (std::int64_t m = 0; m < args.components; ++m) {
    A weight = grad;
    if (args.weighted) {
      const A logit = pixel.parameter(0, m);
      const A share = exp_negative(pixel.log_prob(m) + logit - terms);
      out[pixel.place(0, m)] = store<T>(grad * (share - exp_negative(logit - logits)));
      weight = grad * share;
    }
    for (std::int64_t c = 0; c < args.channels; ++c) {
      const LogisticPrecision<A> precision = pixel.precision(c, m);
      const auto slopes = pixel.bin(c, m, precision.value).slopes(precision.value);
      const A by_mean = weight * slopes.mean;
      const A by_log_scale = weight * (slopes.log_scale * precision.moves);
      out[pixel.place(args.mean_at(c), m)] = store<T>(by_mean);
      if (args.log_scale != nullptr)
        static_cast<A*>(args.log_scale_grad)[pixel.element(c)] = by_log_scale;
      else
        out[pixel.place(args.log_scale_at(c), m)] = store<T>(by_log_scale);
      for (std::int64_t j = 0; args.coupled && j < c; ++j) {
        const std::int64_t block = args.coefficient_at(c, j);
        const A t = hyperbolic_tangent(pixel.parameter(block, m));
        out[pixel.place(block, m)] =
            store<T>(by_mean * multiply_add(-t, t, A(1)) * pixel.bins.scaled(pixel.level(j)));
      }
    }
  }
}

dim3 blocks_of(const Pixels& args) {
  return dim3(static_cast<unsigned>((args.images * args.plane + kThreads - 1) / kThreads));
}

}  // namespace

void logistic_mixture(const LogisticMixture& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(logistic_mixture_kernel<decltype(type)>, {blocks_of(args), kThreads}, stream,
                  args);
  });
}

void logistic_mixture_backward(const LogisticMixtureBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(logistic_mixture_backward_kernel<decltype(type)>, {blocks_of(args), kThreads},
                  stream, args);
  });
}

}  // namespace gencore::cuda
