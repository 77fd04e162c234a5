// The losses of predicted images on CUDA. A block sums a piece of an image, whose sums are added up
// in their order by a second launch. Backward, a thread looks at the four differences that its
// pixel is in. Bytes as on the CPU: neighbours come from the cache.
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "../arguments/prediction_losses.h"
#include "../math/prediction_losses.h"
#include "../math/storage.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

// Calls body(p, alpha) with constants: 1 or 2, and 0 for another alpha.
template <class Body>
void with_exponents(const PredictionLossesArguments& args, const Body& body) {
  const auto with_p = [&](auto alpha) {
    if (args.p == 1)
      body(std::integral_constant<int, 1>{}, alpha);
    else
      body(std::integral_constant<int, 2>{}, alpha);
  };
  if (args.alpha == 1) return with_p(std::integral_constant<int, 1>{});
  if (args.alpha == 2) return with_p(std::integral_constant<int, 2>{});
  with_p(std::integral_constant<int, 0>{});
}

// What a pixel's differences from the one before it and the one above it add.
template <class T, int kAlpha>
__device__ __forceinline__ accumulate_t<T> differences(const PredictionLosses& args,
                                                       std::int64_t element) {
  using A = accumulate_t<T>;
  const T* x = static_cast<const T*>(args.x) + element;
  const T* other = static_cast<const T*>(args.other) + element;
  const auto at = static_cast<std::uint32_t>(element % args.plane());
  const auto width = static_cast<std::uint32_t>(args.width);
  const auto difference = [&](std::int64_t step) {
    return magnitude_power<kAlpha>(
        excess(load(x[0]) - load(x[-step]), load(other[0]) - load(other[-step])), args.alpha);
  };
  A sum = 0;
  if (at % width != 0) sum = difference(1);
  if (at >= width) sum += difference(args.width);
  return sum;
}

// A block for each piece of each image.
template <class T, int kP, int kAlpha>
__global__ void __launch_bounds__(kThreads) prediction_losses_kernel(PredictionLosses args) {
  const std::int64_t size = args.channels * args.plane();
  const std::int64_t image = blockIdx.x / args.pieces, piece = blockIdx.x % args.pieces;
  const std::int64_t offset = image * size;
  const T* x = static_cast<const T*>(args.x) + offset;
  const T* other = static_cast<const T*>(args.other) + offset;
  double lp = 0.0, difference = 0.0;
  for (std::int64_t k = piece * kThreads + threadIdx.x; k < size; k += args.pieces * kThreads) {
    lp += magnitude_power<kP>(load(x[k]) - load(other[k]), args.p);
    if (args.alpha != 0) difference += differences<T, kAlpha>(args, offset + k);
  }
  const Place place{blockIdx.x, static_cast<int>(threadIdx.x), kThreads, true};
  lp = chain_sum(place, lp);
  __syncthreads();  // the next sum takes the same shared memory
  difference = chain_sum(place, difference);
  if (threadIdx.x != 0) return;
  args.sums[blockIdx.x] = lp;
  args.sums[args.images * args.pieces + blockIdx.x] = difference;
}

template <class A>
__global__ void __launch_bounds__(kThreads) prediction_losses_sums_kernel(PredictionLosses args) {
  const std::int64_t image = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (image >= args.images) return;
  const double* sums = args.sums + image * args.pieces;
  double lp = 0.0, difference = 0.0;
  for (std::int64_t k = 0; k < args.pieces; ++k) {
    lp += sums[k];
    difference += sums[args.images * args.pieces + k];
  }
  static_cast<A*>(args.lp)[image] = static_cast<A>(lp);
  static_cast<A*>(args.gradient_difference)[image] = static_cast<A>(difference);
}

template <class T, int kP, int kAlpha>
__global__ void __launch_bounds__(kThreads)
    prediction_losses_backward_kernel(PredictionLossesBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t element = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t size = args.channels * args.plane();
  if (element >= args.images * size) return;
  const std::int64_t image = element / size;
  const auto at = static_cast<std::uint32_t>(element % args.plane());
  const auto width = static_cast<std::uint32_t>(args.width);
  const std::uint32_t column = at % width;
  const T* x = static_cast<const T*>(args.x) + element;
  const T* other = static_cast<const T*>(args.other) + element;
  // Of the difference between the pixels at `to` and a step before, by the former.
  const auto slope = [&](std::int64_t to, std::int64_t step) {
    return excess_slope<kAlpha>(load(x[to]) - load(x[to - step]),
                                load(other[to]) - load(other[to - step]), args.alpha);
  };
  A across = 0, down = 0;
  if (args.alpha != 0) {
    if (column != 0) across = slope(0, 1);
    if (column + 1 != width) across -= slope(1, 1);
    if (at >= width) down = slope(0, args.width);
    if (at + args.width < args.plane()) down -= slope(args.width, args.width);
  }
  const A pixel = magnitude_power_slope<kP>(load(x[0]) - load(other[0]), args.p) *
                  (A(args.p) * static_cast<const A*>(args.lp_grad)[image]);
  const A weight = A(args.alpha) * static_cast<const A*>(args.gradient_difference_grad)[image];
  static_cast<T*>(args.x_grad)[element] = store<T>(multiply_add(weight, across + down, pixel));
}

dim3 blocks_of(std::int64_t threads) {
  return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads));
}

}  // namespace

void prediction_losses(const PredictionLosses& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    with_exponents(args, [&](auto p, auto alpha) {
      launch_kernel(prediction_losses_kernel<T, p.value, alpha.value>,
                    {dim3(static_cast<unsigned>(args.images * args.pieces)), kThreads}, stream,
                    args);
    });
    launch_kernel(prediction_losses_sums_kernel<accumulate_t<T>>,
                  {blocks_of(args.images), kThreads}, stream, args);
  });
}

void prediction_losses_backward(const PredictionLossesBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    with_exponents(args, [&](auto p, auto alpha) {
      launch_kernel(prediction_losses_backward_kernel<T, p.value, alpha.value>,
                    {blocks_of(args.images * args.channels * args.plane()), kThreads}, stream,
                    args);
    });
  });
}

}  // namespace gencore::cuda
