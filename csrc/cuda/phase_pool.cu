// Phase pooling and unpooling on CUDA. A thread makes one pool, or the gradient of one element, to
// which it adds up what every pool that holds the element gives: no sum is atomic. Neighbouring
// threads read neighbouring columns; what pools share comes from the cache.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/phase_pool.h"
#include "../math/activation.h"
#include "../math/phase_pool.h"
#include "../math/storage.h"
#include "elementwise.cuh"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

// Where bounds name two blocks, ptxas otherwise spills registers to keep more blocks on an SM.

// One pool of an image: which it is along each axis, and where its first element is.
struct Pool {
  std::int64_t image;
  std::int64_t group;  // of its image
  std::int64_t at;     // in a plane of pools
  std::int64_t top;
  std::int64_t left;

  __device__ Pool(const PhasePools& args, std::int64_t pool) {
    const std::int64_t plane = pool / args.pool_plane();
    at = pool % args.pool_plane();
    image = plane / args.pools[0];
    group = plane % args.pools[0];
    top = at / args.pools[2] * args.stride[1] - args.padding[1];
    left = at % args.pools[2] * args.stride[2] - args.padding[2];
  }

  __device__ std::int64_t phase_at(const PhasePools& args, int axis) const {
    return args.phase_at(image * args.pools[0] + group, axis, at);
  }

  // Calls body(coordinate along each axis, value) for the elements in the map.
  template <class T, class Body>
  __device__ __forceinline__ void for_each(const PhasePoolArguments& args, const Body& body) const {
    using A = accumulate_t<T>;
    const auto from = [](std::int64_t first) { return static_cast<int>(first < 0 ? -first : 0); };
    const auto to = [&](int axis, std::int64_t first) {
      const std::int64_t room = args.size[axis] - first;
      return static_cast<int>(room < args.kernel[axis] ? room : args.kernel[axis]);
    };
    const int rows = to(1, top), columns = to(2, left);
    for (int i = 0; i < args.kernel[0]; ++i) {
      const A feature = phase_coordinate<A>(i, args.kernel[0]);
      const T* plane = static_cast<const T*>(args.z) +
                       (image * args.size[0] + args.feature(group, i)) * args.plane();
      for (int j = from(top); j < rows; ++j) {
        const A line = phase_coordinate<A>(j, args.kernel[1]);
        const T* row = plane + (top + j) * args.size[2] + left;
        for (int k = from(left); k < columns; ++k)
          body(feature, line, phase_coordinate<A>(k, args.kernel[2]), load(row[k]));
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2) phase_pool_kernel(PhasePool args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.pools[0] * args.pool_plane()) return;
  const Pool pool(args, index);
  const A beta = args.template beta_of<A>(pool.group);
  A largest = 0, weight = 0, below = 0, sum[3] = {};
  bool first = true;
  pool.for_each<T>(args, [&](A feature, A line, A column, A value) {
    if (first || value > largest) {  // what there is becomes relative to the new largest
      const A difference = first ? A(0) : largest - value;
      const A e = exp_negative(beta * difference);
      below = e * multiply_add(difference, weight, below);
      weight *= e;
      for (A& s : sum) s *= e;
      largest = value;
      first = false;
    }
    const A difference = value - largest;
    const A e = exp_negative(beta * difference);
    weight += e;
    below = multiply_add(e, difference, below);
    sum[0] = multiply_add(e, feature, sum[0]);
    sum[1] = multiply_add(e, line, sum[1]);
    sum[2] = multiply_add(e, column, sum[2]);
  });
  const A magnitude = largest + below / weight;
  static_cast<A*>(args.magnitude)[index] = magnitude;
  static_cast<A*>(args.entropy)[index] =
      multiply_add(beta, largest - magnitude, natural_logarithm(weight));
#pragma unroll
  for (int axis = 0; axis < 3; ++axis)
    if (args.kernel[axis] > 1)
      static_cast<A*>(args.phase)[pool.phase_at(args, axis)] = sum[axis] / weight;
}

// Along one axis, the pools that hold a place: calls body(pool, element of the pool).
template <class Body>
__device__ __forceinline__ void for_each_holder(const PhasePools& args, int axis, int place,
                                                const Body& body) {
  const int at = place + static_cast<int>(args.padding[axis]);
  const int stride = static_cast<int>(args.stride[axis]);
  for (int element = at % stride; element < args.kernel[axis]; element += stride) {
    int first = at - element;
    if (first < 0) {
      if (axis > 0) break;
      first += static_cast<int>(args.size[0]);  // the circle of features; else no group is there
      if (first < 0 || first % stride != 0) continue;
    }
    if (first / stride < args.pools[axis]) body(first / stride, element);
  }
}

// Calls body(pool's plane, place in that plane, element along each axis) for the pools that hold
// an element of the map.
template <class Body>
__device__ __forceinline__ void for_each_holder(const PhasePools& args, std::int64_t element,
                                                const Body& body) {
  const std::int64_t map = element / args.plane();
  const int at = static_cast<int>(element % args.plane()), columns = static_cast<int>(args.size[2]);
  for_each_holder(args, 0, static_cast<int>(map % args.size[0]), [&](int group, int i) {
    const std::int64_t plane = map / args.size[0] * args.pools[0] + group;
    for_each_holder(args, 1, at / columns, [&](int h, int j) {
      for_each_holder(args, 2, at % columns, [&](int w, int k) {
        body(plane, h * static_cast<int>(args.pools[2]) + w, i, j, k);
      });
    });
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads) phase_pool_backward_kernel(PhasePoolBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.size[0] * args.plane()) return;
  const A value = load(static_cast<const T*>(args.z)[index]);
  A grad = 0;
  for_each_holder(args, index, [&](std::int64_t plane, int at, int i, int j, int k) {
    const A beta = args.template beta_of<A>(plane % args.pools[0]);
    const std::int64_t pool = plane * args.pool_plane() + at;
    const A slope = static_cast<const A*>(args.grad_magnitude)[pool];
    const A difference = value - static_cast<const A*>(args.magnitude)[pool];
    A b = slope * difference;
    const int element[3] = {i, j, k};
    std::int64_t phase = plane * args.dims() * args.pool_plane() + at;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      if (args.kernel[axis] == 1) continue;
      const A coordinate = phase_coordinate<A>(element[axis], args.kernel[axis]);
      b = multiply_add(static_cast<const A*>(args.grad_phase)[phase],
                       coordinate - static_cast<const A*>(args.phase)[phase], b);
      phase += args.pool_plane();
    }
    const A e =
        exp_negative(multiply_add(beta, difference, -static_cast<const A*>(args.entropy)[pool]));
    grad = multiply_add(e, multiply_add(beta, b, slope), grad);
  });
  static_cast<A*>(args.z_grad)[index] = grad;
}

// A block makes the sum over a row of pools.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    phase_pool_beta_backward_kernel(PhasePoolBackward args) {
  using A = accumulate_t<T>;
  __shared__ double sums[kThreads];
  double total = 0;
  for (std::int64_t w = threadIdx.x; w < args.pools[2]; w += kThreads) {
    const std::int64_t index = blockIdx.x * args.pools[2] + w;
    const Pool pool(args, index);
    const std::int64_t plane = pool.image * args.pools[0] + pool.group;
    const A beta = args.template beta_of<A>(pool.group);
    const A entropy = static_cast<const A*>(args.entropy)[index];
    const A magnitude = static_cast<const A*>(args.magnitude)[index];
    const A grad = static_cast<const A*>(args.grad_magnitude)[index];
    A constant = 0, phase_grad[3] = {};
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      if (args.kernel[axis] == 1) continue;
      const std::int64_t at = args.phase_at(plane, axis, pool.at);
      phase_grad[axis] = static_cast<const A*>(args.grad_phase)[at];
      constant = multiply_add(-phase_grad[axis], static_cast<const A*>(args.phase)[at], constant);
    }
    A sum = 0;
    pool.for_each<T>(args, [&](A feature, A line, A column, A value) {
      const A e = exp_negative(multiply_add(beta, value - magnitude, -entropy));
      A b = multiply_add(grad, value - magnitude, constant);
      b = multiply_add(phase_grad[0], feature, b);
      b = multiply_add(phase_grad[1], line, b);
      b = multiply_add(phase_grad[2], column, b);
      sum = multiply_add(e * (value - magnitude), b, sum);
    });
    total += static_cast<double>(sum);
  }
  sums[threadIdx.x] = total;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) static_cast<A*>(args.beta_grad)[blockIdx.x] = static_cast<A>(sums[0]);
}

template <class A, class T>
__device__ __forceinline__ PhaseCell<A> cell_of(const PhasePools& args, const void* phase,
                                                bool clamp, std::int64_t plane, int axis,
                                                std::int64_t at) {
  if (args.kernel[axis] == 1) return {0, A(0), A(0)};
  return phase_cell<A>(load(static_cast<const T*>(phase)[args.phase_at(plane, axis, at)]),
                       args.kernel[axis], clamp);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2) phase_unpool_kernel(PhaseUnpool args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.size[0] * args.plane()) return;
  A sum = 0;
  for_each_holder(args, index, [&](std::int64_t plane, int at, int i, int j, int k) {
    A share = load(static_cast<const T*>(args.magnitude)[plane * args.pool_plane() + at]);
    const int element[3] = {i, j, k};
    const T* phase =
        static_cast<const T*>(args.phase) + plane * args.dims() * args.pool_plane() + at;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      if (args.kernel[axis] == 1) continue;
      share *= phase_share(load(*phase), element[axis], args.kernel[axis], args.clamp);
      phase += args.pool_plane();
    }
    sum += share;
  });
  static_cast<A*>(args.out)[index] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) phase_unpool_backward_kernel(PhaseUnpoolBackward args) {
  using A = accumulate_t<T>;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= args.images * args.pools[0] * args.pool_plane()) return;
  const Pool pool(args, index);
  const T* grad = static_cast<const T*>(args.grad_out) + pool.image * args.size[0] * args.plane();
  PhaseCell<A> cell[3];
#pragma unroll
  for (int axis = 0; axis < 3; ++axis)
    cell[axis] = cell_of<A, T>(args, args.phase, args.clamp,
                               pool.image * args.pools[0] + pool.group, axis, pool.at);
  A corner[2][2][2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const std::int64_t place = args.place(pool.group, pool.top, pool.left, cell[0].near + i,
                                              cell[1].near + j, cell[2].near + k);
        corner[i][j][k] = place < 0 ? A(0) : load(grad[place]);
      }
  A slope[3];
  const A share = phase_cell_gradient(corner, cell, slope);
  static_cast<T*>(args.magnitude_grad)[index] = store<T>(share);
  const A value = load(static_cast<const T*>(args.magnitude)[index]);
#pragma unroll
  for (int axis = 0; axis < 3; ++axis)
    if (args.kernel[axis] > 1)
      static_cast<T*>(args.phase_grad)[pool.phase_at(args, axis)] = store<T>(value * slope[axis]);
}

unsigned blocks_of(std::int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

std::int64_t pools_of(const PhasePools& args) {
  return args.images * args.pools[0] * args.pool_plane();
}

std::int64_t elements_of(const PhasePools& args) {
  return args.images * args.size[0] * args.plane();
}

}  // namespace

void phase_pool(const PhasePool& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(phase_pool_kernel<decltype(type)>, {dim3(blocks_of(pools_of(args))), kThreads},
                  stream, args);
  });
}

void phase_pool_backward(const PhasePoolBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(phase_pool_backward_kernel<decltype(type)>,
                  {dim3(blocks_of(elements_of(args))), kThreads}, stream, args);
  });
}

void phase_pool_beta_backward(const PhasePoolBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    const std::int64_t rows = args.images * args.pools[0] * args.pools[1];
    launch_kernel(phase_pool_beta_backward_kernel<decltype(type)>,
                  {dim3(static_cast<unsigned>(rows)), kThreads}, stream, args);
  });
}

void phase_unpool(const PhaseUnpool& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(phase_unpool_kernel<decltype(type)>,
                  {dim3(blocks_of(elements_of(args))), kThreads}, stream, args);
  });
}

void phase_unpool_backward(const PhaseUnpoolBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    launch_kernel(phase_unpool_backward_kernel<decltype(type)>,
                  {dim3(blocks_of(pools_of(args))), kThreads}, stream, args);
  });
}

}  // namespace gencore::cuda
