// Sums over all pairs of two point clouds on CUDA. A thread has a row, and a block the same
// columns, a tile of them at a time. Points pass through shared memory, kDims dimensions at a time:
// a pair reads D / kThreads numbers, and D / kTile more where a point has more than kDims. The
// gradients then read that twice, and read and write D / kTile slopes.
#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "../arguments/soft_minimum.h"
#include "../math/activation.h"
#include "../math/logarithm.h"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

constexpr int kThreads = 128;  // rows of a block
constexpr int kTile = 16;      // columns

// Some dimensions of a block's rows and of a tile's columns, and where they are from.
template <class A, int kDims>
class SharedPairs {
 public:
  // A row of the block is one longer than it has to be: neighbours are in different banks.
  struct Points {
    A rows[kThreads][kDims + 1];
    A columns[kTile][kDims];
  };

  __device__ __forceinline__ SharedPairs(const PairSums& args, Points& points)
      : args_(args), points_(points) {
    const std::int64_t blocks = (args.rows + kThreads - 1) / kThreads;
    batch = blockIdx.x / blocks;
    const std::int64_t first = blockIdx.x % blocks * kThreads;
    first_ = batch * args.rows + first;
    rows_ = args.rows - first;
  }

  __device__ __forceinline__ bool exists() const { return threadIdx.x < rows_; }
  __device__ __forceinline__ std::int64_t row() const { return first_ + threadIdx.x; }
  __device__ __forceinline__ bool in_one_piece() const { return args_.dims <= kDims; }

  // Fetches dimensions from `d` on of the rows and of the columns from `j` on, with zeros beyond
  // the last of each. All threads call it.
  __device__ __forceinline__ void fetch(std::int64_t j, std::int64_t d) const {
    __syncthreads();  // nobody reads what was there any more
    if (j == 0 || !in_one_piece()) {
      const A* const x = static_cast<const A*>(args_.x) + first_ * args_.dims + d;
      for (int k = threadIdx.x; k < kThreads * kDims; k += kThreads) {
        const int r = k / kDims, e = k % kDims;
        const bool known = r < rows_ && d + e < args_.dims;
        points_.rows[r][e] = known ? x[r * args_.dims + e] : A(0);
      }
    }
    const A* const y =
        static_cast<const A*>(args_.y) + (batch * args_.columns + j) * args_.dims + d;
    for (int k = threadIdx.x; k < kTile * kDims; k += kThreads) {
      const int c = k / kDims, e = k % kDims;
      const bool known = j + c < args_.columns && d + e < args_.dims;
      points_.columns[c][e] = known ? y[c * args_.dims + e] : A(0);
    }
    __syncthreads();
  }

  // x_i - y_j along a dimension that was fetched.
  __device__ __forceinline__ A difference(int c, int e) const {
    return points_.rows[threadIdx.x][e] - points_.columns[c][e];
  }

  // C of the thread's row and the columns from `j` on. All threads call it.
  __device__ __forceinline__ void costs(std::int64_t j, A (&cost)[kTile]) const {
#pragma unroll
    for (int c = 0; c < kTile; ++c) cost[c] = A(0);
    for (std::int64_t d = 0; d < args_.dims; d += kDims) {
      fetch(j, d);
#pragma unroll
      for (int e = 0; e < kDims; ++e)
#pragma unroll
        for (int c = 0; c < kTile; ++c)
          cost[c] = multiply_add(difference(c, e), difference(c, e), cost[c]);
    }
    if (args_.power == 2) return;
#pragma unroll
    for (int c = 0; c < kTile; ++c) cost[c] = sqrt(cost[c]);
  }

  // v_j - C / epsilon, of which the columns beyond the last one are minus infinity.
  __device__ __forceinline__ A exponent(std::int64_t j, A cost) const {
    if (j >= args_.columns) return -static_cast<A>(__builtin_huge_valf());
    const A log = static_cast<const A*>(args_.column_logs)[batch * args_.columns + j];
    return log - cost * static_cast<A>(1.0 / args_.epsilon);
  }

  std::int64_t batch;

 private:
  const PairSums& args_;
  Points& points_;
  std::int64_t first_;  // of the block's rows, among those of all batches
  std::int64_t rows_;   // of the batch from there on
};

template <class A, int kDims>
__global__ void __launch_bounds__(kThreads) soft_minimum_kernel(SoftMinimum args) {
  using Pairs = SharedPairs<A, kDims>;
  __shared__ typename Pairs::Points points;
  const Pairs pairs(args, points);
  constexpr A kLowest = std::is_same<A, float>::value ? A(-FLT_MAX) : A(-DBL_MAX);
  A most = kLowest, sum = 0;
  for (std::int64_t j = 0; j < args.columns; j += kTile) {
    A terms[kTile];
    pairs.costs(j, terms);
    A larger = most;
#pragma unroll
    for (int c = 0; c < kTile; ++c) {
      terms[c] = pairs.exponent(j + c, terms[c]);
      larger = terms[c] > larger ? terms[c] : larger;
    }
    sum *= exp_negative(most - larger);
    most = larger;
#pragma unroll
    for (int c = 0; c < kTile; ++c) sum += exp_negative(terms[c] - most);
  }
  if (!pairs.exists()) return;
  const bool is_empty = most == kLowest && sum == sum;
  const A log = is_empty ? -static_cast<A>(__builtin_huge_valf()) : most + logarithm(sum);
  static_cast<A*>(args.minimum)[pairs.row()] = static_cast<A>(-args.epsilon) * log;
}

template <class A, int kDims>
__global__ void __launch_bounds__(kThreads) plan_sums_kernel(PlanSums args) {
  using Pairs = SharedPairs<A, kDims>;
  __shared__ typename Pairs::Points points;
  const Pairs pairs(args, points);
  const A row_log = pairs.exists() ? static_cast<const A*>(args.row_logs)[pairs.row()] : A(0);
  const A* const factors = static_cast<const A*>(args.factors);
  A* const slopes = static_cast<A*>(args.slopes) + pairs.row() * args.dims;
  const A unit = args.power == 2 ? A(2) : A(1);
  A mass = 0, slope[kDims] = {};
  for (std::int64_t j = 0; j < args.columns; j += kTile) {
    A plan[kTile];
    pairs.costs(j, plan);
#pragma unroll
    for (int c = 0; c < kTile; ++c) {
      const A cost = plan[c];
      plan[c] = exponential(row_log + pairs.exponent(j + c, cost));
      if (factors != nullptr && j + c < args.columns)
        plan[c] *= factors[pairs.batch * args.columns + j + c];
      mass += plan[c];
      if (args.power == 1) plan[c] = cost > A(0) ? plan[c] / cost : A(0);  // no slope at 0
    }
    for (std::int64_t d = 0; d < args.dims; d += kDims) {
      if (!pairs.in_one_piece()) pairs.fetch(j, d);
#pragma unroll
      for (int e = 0; e < kDims; ++e) {
        A term = 0;
#pragma unroll
        for (int c = 0; c < kTile; ++c) term = multiply_add(plan[c], pairs.difference(c, e), term);
        if (pairs.in_one_piece())
          slope[e] = multiply_add(unit, term, slope[e]);
        else if (pairs.exists() && d + e < args.dims)
          slopes[d + e] = multiply_add(unit, term, j == 0 ? A(0) : slopes[d + e]);
      }
    }
  }
  if (!pairs.exists()) return;
  static_cast<A*>(args.masses)[pairs.row()] = mass;
  if (!pairs.in_one_piece()) return;
#pragma unroll
  for (int e = 0; e < kDims; ++e)
    if (e < args.dims) slopes[e] = slope[e];
}

template <class Arguments>
void launch(void (*kernel)(Arguments), const Arguments& args, void* stream) {
  const std::int64_t blocks = args.batches * ((args.rows + kThreads - 1) / kThreads);
  launch_kernel(kernel, {dim3(static_cast<unsigned>(blocks)), kThreads}, stream, args);
}

}  // namespace

void soft_minimum(const SoftMinimum& args, void* stream) {
  const bool few = args.dims <= 4;
  if (args.dtype == Dtype::kFloat64)
    launch(few ? soft_minimum_kernel<double, 4> : soft_minimum_kernel<double, 16>, args, stream);
  else
    launch(few ? soft_minimum_kernel<float, 4> : soft_minimum_kernel<float, 16>, args, stream);
}

void plan_sums(const PlanSums& args, void* stream) {
  const bool few = args.dims <= 4;
  if (args.dtype == Dtype::kFloat64)
    launch(few ? plan_sums_kernel<double, 4> : plan_sums_kernel<double, 16>, args, stream);
  else
    launch(few ? plan_sums_kernel<float, 4> : plan_sums_kernel<float, 16>, args, stream);
}

}  // namespace gencore::cuda
