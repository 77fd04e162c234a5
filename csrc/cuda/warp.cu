// Warping images and volumes on CUDA. A thread finds the sample of one pixel once and goes over the
// channels; neighbouring threads read and write neighbouring pixels. Bytes as on the CPU; the
// gradient with respect to the images also passes over integers of 8 bytes three times.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../arguments/warp.h"
#include "../math/storage.h"
#include "../math/warp.h"
#include "elementwise.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

// Where a thread's pixel is, and its sample.
template <int kRank, class A>
struct Sampled {
  std::int64_t field;
  std::int64_t image;
  std::int64_t at;  // in a plane
  WarpAxis<A> axes[kRank];
  std::int64_t stride[kRank];

  __device__ __forceinline__ Sampled(const WarpArguments& args, std::int64_t pixel)
      : field(pixel / args.plane()), image(field / args.flows), at(pixel - field * args.plane()) {
    const A* flow = static_cast<const A*>(args.flow) + kRank * field * args.plane() + at;
    A displacement[kRank];
#pragma unroll
    for (int a = 0; a < kRank; ++a) displacement[a] = flow[a * args.plane()];
    spread_nan<kRank>(displacement);
    std::int64_t rest = at;
#pragma unroll
    for (int a = 0; a < kRank; ++a) {
      const std::int64_t next = rest / args.sizes[a];
      stride[a] = a == 0 ? 1 : stride[a - 1] * args.sizes[a - 1];
      axes[a] = warp_axis(displacement[a], static_cast<std::int32_t>(rest - next * args.sizes[a]),
                          static_cast<std::int32_t>(args.sizes[a]), args.border);
      rest = next;
    }
  }

  // Neighbour j, in a plane.
  __device__ __forceinline__ std::int64_t place(int j) const {
    std::int64_t sum = 0;
#pragma unroll
    for (int a = 0; a < kRank; ++a) sum += (j >> a & 1 ? axes[a].far : axes[a].near) * stride[a];
    return sum;
  }
  __device__ __forceinline__ bool inside(int j) const {
    std::int32_t all = 1;
#pragma unroll
    for (int a = 0; a < kRank; ++a) all &= j >> a & 1 ? axes[a].far_inside : axes[a].near_inside;
    return all != 0;
  }
  __device__ __forceinline__ void fractions(A (&fraction)[kRank]) const {
#pragma unroll
    for (int a = 0; a < kRank; ++a) fraction[a] = axes[a].fraction;
  }
  // Where the pixel itself is in a channel of the warped images.
  __device__ __forceinline__ std::int64_t target(const WarpArguments& args,
                                                 std::int64_t channel) const {
    return (field * args.channels + channel) * args.plane() + at;
  }
  template <class T>
  __device__ __forceinline__ void read(const WarpArguments& args, std::int64_t channel,
                                       A (&pixels)[1 << kRank]) const {
    const T* plane =
        static_cast<const T*>(args.x) + (image * args.channels + channel) * args.plane();
#pragma unroll
    for (int j = 0; j < 1 << kRank; ++j) pixels[j] = inside(j) ? load(plane[place(j)]) : A(0);
  }
};

__device__ __forceinline__ std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

// The channels are dealt out to the grid's second dimension.
template <int kRank, class T>
__global__ void __launch_bounds__(kThreads) warp_kernel(Warp args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = thread_index();
  if (pixel >= args.images * args.flows * args.plane()) return;
  const Sampled<kRank, A> sample(args, pixel);
  A fraction[kRank];
  sample.fractions(fraction);
  for (std::int64_t channel = blockIdx.y; channel < args.channels; channel += gridDim.y) {
    A pixels[1 << kRank];
    sample.template read<T>(args, channel, pixels);
    static_cast<T*>(args.out)[sample.target(args, channel)] =
        store<T>(warp_value<kRank>(pixels, fraction));
  }
}

template <int kRank, class T>
__global__ void __launch_bounds__(kThreads) warp_flow_backward_kernel(WarpBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = thread_index();
  if (pixel >= args.images * args.flows * args.plane()) return;
  const Sampled<kRank, A> sample(args, pixel);
  A fraction[kRank], slope[kRank] = {};
  sample.fractions(fraction);
#pragma unroll(kRank == 2 ? 2 : 1)  // more spill
  for (std::int64_t channel = 0; channel < args.channels; ++channel) {
    A pixels[1 << kRank];
    sample.template read<T>(args, channel, pixels);
    const A g = load(static_cast<const T*>(args.grad_out)[sample.target(args, channel)]);
#pragma unroll
    for (int a = 0; a < kRank; ++a)
      slope[a] = multiply_add(g, warp_slope<kRank>(pixels, fraction, a), slope[a]);
  }
  A* flow_grad = static_cast<A*>(args.flow_grad) + kRank * sample.field * args.plane() + sample.at;
#pragma unroll
  for (int a = 0; a < kRank; ++a)
    flow_grad[a * args.plane()] = sample.axes[a].moves ? slope[a] : A(0);
}

// The largest |gradient| of all samples of the block's plane, among those that are finite.
template <class T>
__global__ void __launch_bounds__(kThreads) warp_largest_kernel(WarpBackward args) {
  __shared__ double values[kThreads];
  const std::int64_t plane = args.plane();
  const std::int64_t image = blockIdx.x / args.channels, channel = blockIdx.x % args.channels;
  double most = 0.0;
  for (std::int64_t field = image * args.flows; field < (image + 1) * args.flows; ++field) {
    const T* grad =
        static_cast<const T*>(args.grad_out) + (field * args.channels + channel) * plane;
    for (std::int64_t at = threadIdx.x; at < plane; at += kThreads) {
      const T g = grad[at];
      if (is_finite(g)) most = fmax(most, fabs(static_cast<double>(load(g))));
    }
  }
  values[threadIdx.x] = most;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      values[threadIdx.x] = fmax(values[threadIdx.x], values[threadIdx.x + half]);
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
__device__ __forceinline__ int fixed_point(double largest, std::int64_t all_samples) {
  const int exponent = static_cast<int>(bit_cast<std::uint64_t>(largest) >> 52) - 1022;
  int samples = 0;
  while ((std::int64_t{1} << samples) < all_samples) ++samples;
  return 61 - samples - exponent;
}

template <int kRank, class T>
__global__ void __launch_bounds__(kThreads) warp_scatter_kernel(WarpBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t pixel = thread_index();
  if (pixel >= args.images * args.flows * args.plane()) return;
  const Sampled<kRank, A> sample(args, pixel);
  A fraction[kRank];
  sample.fractions(fraction);
  for (std::int64_t channel = blockIdx.y; channel < args.channels; channel += gridDim.y) {
    const std::int64_t plane = sample.image * args.channels + channel;
    const int bits = fixed_point(args.largest[plane], args.flows * args.plane());
    const A g = load(static_cast<const T*>(args.grad_out)[sample.target(args, channel)]);
    auto* sums = reinterpret_cast<unsigned long long*>(args.sums) + plane * args.plane();
#pragma unroll
    for (int j = 0; j < 1 << kRank; ++j) {
      const A weight = warp_weight<kRank>(j, fraction), part = weight * g;
      if (!sample.inside(j) || weight == 0) continue;
      const std::int64_t place = sample.place(j);
      if (!is_finite(part)) {
        atomicOr(args.marks + plane * args.words() + place / 32, std::uint32_t{1} << place % 32);
      } else if (part != 0) {
        const long long units = llrint(scaled(static_cast<double>(part), bits));
        atomicAdd(sums + place, static_cast<unsigned long long>(units));
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) warp_round_kernel(WarpBackward args) {
  const std::int64_t element = thread_index();
  if (element >= args.images * args.channels * args.plane()) return;
  const std::int64_t plane = element / args.plane(), at = element - plane * args.plane();
  const bool marked = args.marks[plane * args.words() + at / 32] >> at % 32 & 1;
  const double largest = args.largest[plane];
  double value = 0.0;
  if (marked)
    value = bit_cast<double>(std::uint64_t{0x7FF8000000000000u});  // NaN
  else if (largest != 0.0)
    value = scaled(static_cast<double>(static_cast<std::int64_t>(args.sums[element])),
                   -fixed_point(largest, args.flows * args.plane()));
  static_cast<T*>(args.x_grad)[element] = store<T>(static_cast<accumulate_t<T>>(value));
}

dim3 blocks_of(std::int64_t threads, std::int64_t groups = 1) {
  return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads),
              static_cast<unsigned>(groups));
}

// In how many groups the channels are dealt out: a thread's share is about eight.
std::int64_t channel_groups(const WarpArguments& args) {
  return std::min<std::int64_t>((args.channels + 7) / 8, 1024);
}

// Runs launcher(rank, T{}) for the rank and the dtype's storage type.
template <class Launcher>
void by_rank_and_dtype(const WarpArguments& args, const Launcher& launcher) {
  by_dtype(args.dtype, [&](auto type) {
    if (args.rank == 2) return launcher(std::integral_constant<int, 2>{}, type);
    launcher(std::integral_constant<int, 3>{}, type);
  });
}

}  // namespace

void warp(const Warp& args, void* stream) {
  by_rank_and_dtype(args, [&](auto rank, auto type) {
    const dim3 blocks = blocks_of(args.images * args.flows * args.plane(), channel_groups(args));
    launch_kernel(warp_kernel<decltype(rank)::value, decltype(type)>, {blocks, kThreads}, stream,
                  args);
  });
}

void warp_backward(const WarpBackward& args, void* stream) {
  by_rank_and_dtype(args, [&](auto rank, auto type) {
    using T = decltype(type);
    constexpr int kRank = decltype(rank)::value;
    const std::int64_t samples = args.images * args.flows * args.plane();
    if (args.flow_grad != nullptr)
      launch_kernel(warp_flow_backward_kernel<kRank, T>, {blocks_of(samples), kThreads}, stream,
                    args);
    if (args.x_grad == nullptr) return;
    const std::int64_t planes = args.images * args.channels;
    launch_kernel(warp_largest_kernel<T>, {dim3(static_cast<unsigned>(planes)), kThreads}, stream,
                  args);
    launch_kernel(warp_scatter_kernel<kRank, T>,
                  {blocks_of(samples, channel_groups(args)), kThreads}, stream, args);
    launch_kernel(warp_round_kernel<T>, {blocks_of(planes * args.plane()), kThreads}, stream, args);
  });
}

}  // namespace gencore::cuda
