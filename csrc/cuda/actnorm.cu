// Actnorm on CUDA. Bytes per element of b bytes: the map reads x and writes one (2b); backward
// reads grad_out and x and writes one (3b). A channel's sums are made in two stages, so that their
// order depends on the shape alone: a block sums a part of a channel, then a block adds up the
// parts.
#include "../math/actnorm.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

// Sums over a block's threads, for each of them. Called once by all threads of a block.
template <int kCount>
__device__ __forceinline__ void block_sums(double (&values)[kCount]) {
  __shared__ double warps[kCount][kThreads / kWarp];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
      values[i] += __shfl_xor_sync(0xFFFFFFFFu, values[i], distance);
    if (threadIdx.x % kWarp == 0) warps[i][threadIdx.x / kWarp] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = 0.0;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) values[i] += warps[i][warp];
  }
}

// One block: a handful of numbers.
template <class A>
__global__ void __launch_bounds__(kThreads) scales_kernel(ActnormScales args) {
  const A* log_scale = static_cast<const A*>(args.log_scale);
  A* scale = static_cast<A*>(args.scale);
  double sum[1] = {0.0};
// Unrolled, the exponentials of fp64 spill.
#pragma unroll 1
  for (std::int64_t c = threadIdx.x; c < args.channels; c += kThreads) {
    scale[c] = actnorm_scale(log_scale[c], args.inverse);
    sum[0] += log_scale[c];
  }
  block_sums(sum);
  if (args.log_det == nullptr) return;
  const double positions = static_cast<double>(args.positions);
  const A log_det = static_cast<A>((args.inverse ? -positions : positions) * sum[0]);
  for (std::int64_t n = threadIdx.x; n < args.images; n += kThreads)
    static_cast<A*>(args.log_det)[n] = log_det;
}

template <class T>
struct ActnormBody {
  Actnorm args;
  __device__ void operator()(const Span& span) const {
    using A = accumulate_t<T>;
    A x[4];
    read<T>(args.x, span, x);
    const A* scale = static_cast<const A*>(args.scale);
    const A* bias = static_cast<const A*>(args.bias);
    std::int64_t channel, position;
    if (args.numel <= 0xFFFFFFFF) {  // a division of half the width is four times as fast
      const auto at = static_cast<std::uint32_t>(span.at);
      const auto positions = static_cast<std::uint32_t>(args.positions);
      channel = at / positions % static_cast<std::uint32_t>(args.channels);
      position = at % positions;
    } else {
      channel = span.at / args.positions % args.channels;
      position = span.at % args.positions;
    }
    if (position + 4 <= args.positions) {
      const A a = scale[channel], b = bias[channel];
#pragma unroll
      for (int k = 0; k < 4; ++k) x[k] = actnorm_map(x[k], a, b, args.inverse);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        x[k] = actnorm_map(x[k], scale[channel], bias[channel], args.inverse);
        if (++position < args.positions) continue;
        position = 0;
        channel = channel + 1 < args.channels ? channel + 1 : 0;
      }
    }
    write<T>(args.out, span, x);
  }
};

// Planes of more than one element: a block owns a part of a channel's elements, taken image after
// image. `whole`: four at a time.
template <class T>
__global__ void __launch_bounds__(kThreads)
    plane_kernel(ActnormBackward args, std::int64_t part_size, bool whole) {
  using A = accumulate_t<T>;
  const std::int64_t channel = blockIdx.x % args.channels, part = blockIdx.x / args.channels;
  const std::int64_t total = args.images * args.positions, begin = part * part_size;
  const std::int64_t end = begin + part_size < total ? begin + part_size : total;
  const A scale = static_cast<const A*>(args.scale)[channel];
  const int step = whole ? 4 : 1;
  double sums[2] = {0.0, 0.0};
  for (std::int64_t k = begin + step * static_cast<int>(threadIdx.x); k < end;
       k += step * kThreads) {
    const std::int64_t image = k / args.positions;
    const std::int64_t plane = image * args.channels + channel;
    const Span span{plane * args.positions + (k - image * args.positions), 0, step, whole};
    A grad[4], x[4], sum = 0, product = 0;  // zero outside the span
    read<T>(args.grad_out, span, grad);
    read<T>(args.x, span, x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum += grad[i];
      product += grad[i] * x[i];
      grad[i] *= scale;
    }
    write<T>(args.grad_x, span, grad);
    sums[0] += sum;
    sums[1] += product;
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  args.sums[2 * static_cast<std::int64_t>(blockIdx.x)] = sums[0];
  args.sums[2 * static_cast<std::int64_t>(blockIdx.x) + 1] = sums[1];
}

// Planes of one element: a warp owns kWarp neighbouring channels of an image, a block a part of the
// images.
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_kernel(ActnormBackward args, std::int64_t part_size) {
  using A = accumulate_t<T>;
  constexpr int kRows = kThreads / kWarp;
  __shared__ double rows[2][kRows][kWarp];
  const std::int64_t tiles = (args.channels + kWarp - 1) / kWarp;
  const std::int64_t part = blockIdx.x / tiles, begin = part * part_size;
  const std::int64_t end = begin + part_size < args.images ? begin + part_size : args.images;
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp;
  const std::int64_t channel = blockIdx.x % tiles * kWarp + lane;
  double sum = 0.0, product = 0.0;
  if (channel < args.channels) {
    const A scale = static_cast<const A*>(args.scale)[channel];
    for (std::int64_t image = begin + row; image < end; image += kRows) {
      const std::int64_t at = image * args.channels + channel;
      const A grad = load(static_cast<const T*>(args.grad_out)[at]);
      const A x = load(static_cast<const T*>(args.x)[at]);
      static_cast<T*>(args.grad_x)[at] = store<T>(grad * scale);
      sum += grad;
      product += grad * x;
    }
  }
  rows[0][row][lane] = sum;
  rows[1][row][lane] = product;
  __syncthreads();
  if (row >= 2 || channel >= args.channels) return;
  double total = 0.0;
  for (int i = 0; i < kRows; ++i) total += rows[row][i][lane];
  args.sums[2 * (part * args.channels + channel) + row] = total;
}

// A block adds up the parts of one channel.
template <class A>
__global__ void __launch_bounds__(kThreads) parameters_kernel(ActnormParameters args) {
  const std::int64_t channel = blockIdx.x;
  double sums[3] = {0.0, 0.0, 0.0};
  for (std::int64_t part = threadIdx.x; part < args.parts; part += kThreads) {
    const double* from = args.sums + 2 * (part * args.channels + channel);
    sums[0] += from[0];
    sums[1] += from[1];
  }
  for (std::int64_t image = threadIdx.x; image < args.images; image += kThreads)
    sums[2] += static_cast<const A*>(args.grad_log_det)[image];
  block_sums(sums);
  if (threadIdx.x != 0) return;
  const ActnormGrads<A> grads =
      actnorm_grads(sums[0], sums[1], sums[2], static_cast<double>(args.positions),
                    static_cast<const A*>(args.scale)[channel],
                    static_cast<const A*>(args.bias)[channel], args.inverse);
  static_cast<A*>(args.grad_log_scale)[channel] = grads.log_scale;
  static_cast<A*>(args.grad_bias)[channel] = grads.bias;
}

}  // namespace

void actnorm_scales(const ActnormScales& args, void* stream) {
  const auto kernel = args.dtype == Dtype::kFloat64 ? scales_kernel<double> : scales_kernel<float>;
  launch_kernel(kernel, {1, kThreads}, stream, args);
}

void actnorm(const Actnorm& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(ActnormBody<T>{args}, args.numel, 0, {args.x, args.out}, stream);
  });
}

void actnorm_backward(const ActnormBackward& args, void* stream) {
  if (args.parts == 0 || args.channels == 0) return;  // a grid without blocks is an error
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.positions == 1) {
      const std::int64_t tiles = (args.channels + kWarp - 1) / kWarp;
      const std::int64_t part_size = (args.images + args.parts - 1) / args.parts;
      launch_kernel(column_kernel<T>, {static_cast<unsigned>(tiles * args.parts), kThreads}, stream,
                    args, part_size);
      return;
    }
    bool whole = args.positions % 4 == 0;
    for (const void* pointer : {args.grad_out, args.x, static_cast<const void*>(args.grad_x)})
      whole = whole && reinterpret_cast<std::uintptr_t>(pointer) % alignof(Quad<T>) == 0;
    const std::int64_t total = args.images * args.positions;
    const std::int64_t part_size = ((total + args.parts - 1) / args.parts + 3) / 4 * 4;
    launch_kernel(plane_kernel<T>, {static_cast<unsigned>(args.channels * args.parts), kThreads},
                  stream, args, part_size, whole);
  });
}

void actnorm_parameters(const ActnormParameters& args, void* stream) {
  if (args.channels == 0) return;
  const auto kernel =
      args.dtype == Dtype::kFloat64 ? parameters_kernel<double> : parameters_kernel<float>;
  launch_kernel(kernel, {static_cast<unsigned>(args.channels), kThreads}, stream, args);
}

}  // namespace gencore::cuda
