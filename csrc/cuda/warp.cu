// Warping images on CUDA. A thread finds the sample of one pixel once and goes over the channels;
// neighbouring threads read and write neighbouring pixels. Bytes as on the CPU; the gradient with
// respect to the images also passes over integers of 8 bytes three times.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "../arguments/warp.h"
#include "../math/storage.h"
#include "../math/warp.h"
#include "elementwise.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

// Where a thread's pixel is, and its sample.
template <class A>
struct Sampled {
  std::int64_t image;
  std::int64_t at;  // in a plane
  WarpAxis<A> x;
  WarpAxis<A> y;
};

template <class A>
__device__ __forceinline__ Sampled<A> sample_of(const WarpArguments& args, std::int64_t pixel) {
  const std::int64_t image = pixel / args.plane(), at = pixel % args.plane();
  const A* flow = static_cast<const A*>(args.flow) + 2 * image * args.plane() + at;
  const std::int64_t row = at / args.width;
  return {image, at,
          warp_axis(flow[0], static_cast<std::int32_t>(at - row * args.width),
                    static_cast<std::int32_t>(args.width), args.border),
          warp_axis(flow[args.plane()], static_cast<std::int32_t>(row),
                    static_cast<std::int32_t>(args.height), args.border)};
}

template <class T>
__device__ __forceinline__ void read_neighbours(const WarpArguments& args,
                                                const Sampled<accumulate_t<T>>& sample,
                                                std::int64_t channel, accumulate_t<T> (&pixel)[4]) {
  using A = accumulate_t<T>;
  const T* plane =
      static_cast<const T*>(args.x) + (sample.image * args.channels + channel) * args.plane();
  const T* upper = plane + sample.y.near * args.width;
  const T* lower = plane + sample.y.far * args.width;
  const bool up = sample.y.near_inside, down = sample.y.far_inside;
  const bool left = sample.x.near_inside, right = sample.x.far_inside;
  pixel[0] = up && left ? load(upper[sample.x.near]) : A(0);
  pixel[1] = up && right ? load(upper[sample.x.far]) : A(0);
  pixel[2] = down && left ? load(lower[sample.x.near]) : A(0);
  pixel[3] = down && right ? load(lower[sample.x.far]) : A(0);
}

// The channels are dealt out to the grid's second dimension.
template <class T>
__global__ void __launch_bounds__(kThreads) warp_kernel(Warp args) {
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pixel >= args.images * args.plane()) return;
  const auto sample = sample_of<accumulate_t<T>>(args, pixel);
  for (std::int64_t channel = blockIdx.y; channel < args.channels; channel += gridDim.y) {
    accumulate_t<T> neighbours[4];
    read_neighbours<T>(args, sample, channel, neighbours);
    static_cast<T*>(args.out)[(sample.image * args.channels + channel) * args.plane() + sample.at] =
        store<T>(warp_value(neighbours, sample.x.fraction, sample.y.fraction));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) warp_flow_backward_kernel(WarpFlowBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pixel >= args.images * args.plane()) return;
  const auto sample = sample_of<A>(args, pixel);
  A right = 0, down = 0;
#pragma unroll 2  // four spill for bfloat16 on sm_120
  for (std::int64_t channel = 0; channel < args.channels; ++channel) {
    A neighbours[4];
    read_neighbours<T>(args, sample, channel, neighbours);
    const A g = load(static_cast<const T*>(
        args.grad_out)[(sample.image * args.channels + channel) * args.plane() + sample.at]);
    right = multiply_add(g, warp_slope_right(neighbours, sample.y.fraction), right);
    down = multiply_add(g, warp_slope_down(neighbours, sample.x.fraction), down);
  }
  A* flow_grad = static_cast<A*>(args.flow_grad) + 2 * sample.image * args.plane() + sample.at;
  flow_grad[0] = sample.x.moves ? right : A(0);
  flow_grad[args.plane()] = sample.y.moves ? down : A(0);
}

// NaN counts as the largest.
__device__ __forceinline__ double larger(double a, double b) { return a > b || a != a ? a : b; }

// The largest |gradient| of the block's plane, NaN where a displacement is: integers have no NaN,
// so that it becomes the gradient of the whole plane.
template <class T>
__global__ void __launch_bounds__(kThreads) warp_largest_kernel(WarpXBackward args) {
  __shared__ double values[kThreads];
  const std::int64_t plane = args.plane();
  const T* grad = static_cast<const T*>(args.grad_out) + blockIdx.x * plane;
  const auto* flow =
      static_cast<const accumulate_t<T>*>(args.flow) + 2 * (blockIdx.x / args.channels) * plane;
  double most = 0.0;
  for (std::int64_t at = threadIdx.x; at < plane; at += kThreads) {
    most = larger(most, fabs(static_cast<double>(load(grad[at]))));
    if (flow[at] != flow[at]) most = static_cast<double>(flow[at]);
    if (flow[plane + at] != flow[plane + at]) most = static_cast<double>(flow[plane + at]);
  }
  values[threadIdx.x] = most;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      values[threadIdx.x] = larger(values[threadIdx.x], values[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) args.largest[blockIdx.x] = values[0];
}

// value 2^exponent, by two factors: the power alone may be out of range.
__device__ __forceinline__ double scaled(double value, int exponent) {
  const int half = exponent / 2;
  const auto power = [](int of) {
    return bit_cast<double>(static_cast<std::uint64_t>(of + 1023) << 52);
  };
  return value * power(half) * power(exponent - half);
}

// The exponent of the integers' unit is minus this. Below 2^exponent is every gradient of the
// plane, and a pixel's sum has at most the weights of all samples.
__device__ __forceinline__ int fixed_point(double largest, std::int64_t plane) {
  const int exponent = static_cast<int>(bit_cast<std::uint64_t>(largest) >> 52) - 1022;
  int samples = 0;
  while ((std::int64_t{1} << samples) < plane) ++samples;
  return 61 - samples - exponent;
}

template <class T>
__global__ void __launch_bounds__(kThreads) warp_scatter_kernel(WarpXBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pixel >= args.images * args.plane()) return;
  const auto sample = sample_of<A>(args, pixel);
  const A right = sample.x.fraction, down = sample.y.fraction;
  for (std::int64_t channel = blockIdx.y; channel < args.channels; channel += gridDim.y) {
    const std::int64_t plane = sample.image * args.channels + channel;
    const double largest = args.largest[plane];
    if (!is_finite(largest) || largest == 0.0) continue;
    const int bits = fixed_point(largest, args.plane());
    const A g = load(static_cast<const T*>(args.grad_out)[plane * args.plane() + sample.at]);
    auto* sums = reinterpret_cast<unsigned long long*>(args.sums) + plane * args.plane();
    const auto add = [&](bool inside, std::int32_t row, std::int32_t column, A weight) {
      if (!inside || weight == 0) return;
      const long long units = llrint(scaled(static_cast<double>(weight * g), bits));
      atomicAdd(sums + row * args.width + column, static_cast<unsigned long long>(units));
    };
    const WarpAxis<A>&x = sample.x, &y = sample.y;
    add(y.near_inside && x.near_inside, y.near, x.near, (1 - down) * (1 - right));
    add(y.near_inside && x.far_inside, y.near, x.far, (1 - down) * right);
    add(y.far_inside && x.near_inside, y.far, x.near, down * (1 - right));
    add(y.far_inside && x.far_inside, y.far, x.far, down * right);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) warp_round_kernel(WarpXBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= args.images * args.channels * args.plane()) return;
  const double largest = args.largest[at / args.plane()];
  double value = largest - largest;  // NaN where a gradient is not finite, else zero
  if (value == 0.0 && largest != 0.0)
    value = scaled(static_cast<double>(static_cast<std::int64_t>(args.sums[at])),
                   -fixed_point(largest, args.plane()));
  static_cast<A*>(args.x_grad)[at] = static_cast<A>(value);
}

dim3 blocks_of(std::int64_t threads, std::int64_t groups = 1) {
  return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads),
              static_cast<unsigned>(groups));
}

// In how many groups the channels are dealt out: a thread's share is about eight.
std::int64_t channel_groups(const WarpArguments& args) {
  return std::min<std::int64_t>((args.channels + 7) / 8, 1024);
}

}  // namespace

void warp(const Warp& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    const dim3 blocks = blocks_of(args.images * args.plane(), channel_groups(args));
    launch_kernel(warp_kernel<decltype(type)>, {blocks, kThreads}, stream, args);
  });
}

void warp_flow_backward(const WarpFlowBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    const dim3 blocks = blocks_of(args.images * args.plane());
    launch_kernel(warp_flow_backward_kernel<decltype(type)>, {blocks, kThreads}, stream, args);
  });
}

void warp_x_backward(const WarpXBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    const std::int64_t planes = args.images * args.channels;
    launch_kernel(warp_largest_kernel<T>, {dim3(static_cast<unsigned>(planes)), kThreads}, stream,
                  args);
    launch_kernel(warp_scatter_kernel<T>,
                  {blocks_of(args.images * args.plane(), channel_groups(args)), kThreads}, stream,
                  args);
    launch_kernel(warp_round_kernel<T>, {blocks_of(planes * args.plane()), kThreads}, stream, args);
  });
}

}  // namespace gencore::cuda
