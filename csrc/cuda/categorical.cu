// Categorical pixels on CUDA: a thread has a pixel of one channel, or of all where it adds them up.
// Neighbouring threads read neighbouring logits. Bytes as on the CPU.
#include <cuda_runtime.h>

#include <cstdint>

#include "../arguments/categorical.h"
#include "../math/activation.h"
#include "../math/logarithm.h"
#include "../math/storage.h"
#include "elementwise.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) categorical_kernel(Categorical args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pixel >= args.images * args.plane) return;
  const std::int64_t image = pixel / args.plane, at = pixel % args.plane;
  const A none = -static_cast<A>(__builtin_huge_valf());
  A total = 0;
  for (std::int64_t c = 0; c < args.channels; ++c) {
    const std::int64_t channel = image * args.channels + c;
    const T* logits = static_cast<const T*>(args.logits) + channel * args.levels * args.plane + at;
    // The sum of exponentials changes its unit where a larger logit comes.
    A most = none, base = 0, sum = 0;
    for (std::int64_t level = 0; level < args.levels; ++level) {
      const A value = load(logits[level * args.plane]);
      if (value > most) {
        sum *= exp_negative(most - value);
        most = base = value;
      }
      sum += exp_negative(value - base);
    }
    const A normalizer = base + logarithm(sum);
    const std::int64_t element = channel * args.plane + at;
    static_cast<A*>(args.log_normalizer)[element] = normalizer;
    const std::int64_t level = args.level(element, args.levels);
    total += level < 0 ? none - none : A(load(logits[level * args.plane])) - normalizer;
  }
  static_cast<A*>(args.log_prob)[pixel] = total;
}

// The grid's second dimension deals out the channels and levels.
template <class T>
__global__ void __launch_bounds__(kThreads) categorical_backward_kernel(CategoricalBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pixel >= args.images * args.plane) return;
  const std::int64_t image = pixel / args.plane, at = pixel % args.plane;
  const A grad = static_cast<const A*>(args.grad)[pixel];
  for (std::int64_t c = blockIdx.y; c < args.channels; c += gridDim.y) {
    const std::int64_t channel = image * args.channels + c, element = channel * args.plane + at;
    const std::int64_t first = channel * args.levels * args.plane + at;
    const T* logits = static_cast<const T*>(args.logits) + first;
    T* logits_grad = static_cast<T*>(args.logits_grad) + first;
    const A normalizer = static_cast<const A*>(args.log_normalizer)[element];
    const A weight = static_cast<const A*>(args.normalizer_grad)[element] - grad;
    const std::int64_t chosen = args.level(element, args.levels);
    for (std::int64_t level = blockIdx.z; level < args.levels; level += gridDim.z) {
      const A share = exp_negative(load(logits[level * args.plane]) - normalizer);
      logits_grad[level * args.plane] =
          store<T>(multiply_add(weight, share, level == chosen ? grad : A(0)));
    }
  }
}

}  // namespace

void categorical(const Categorical& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    const dim3 blocks(static_cast<unsigned>((args.images * args.plane + kThreads - 1) / kThreads));
    launch_kernel(categorical_kernel<decltype(type)>, {blocks, kThreads}, stream, args);
  });
}

void categorical_backward(const CategoricalBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    const auto at_most = [](std::int64_t count, std::int64_t limit) {
      return static_cast<unsigned>(count < limit ? count : limit);
    };
    const dim3 blocks(static_cast<unsigned>((args.images * args.plane + kThreads - 1) / kThreads),
                      at_most(args.channels, 1024), at_most((args.levels + 15) / 16, 64));
    launch_kernel(categorical_backward_kernel<decltype(type)>, {blocks, kThreads}, stream, args);
  });
}

}  // namespace gencore::cuda
