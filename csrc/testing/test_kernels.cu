// Kernels that use what the project's do not yet: shared memory, barriers, exchanges within a warp,
// atomics, a grid that waits for itself. Correct CUDA; the test suite also compiles them with one
// line broken.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include "../cuda/launch.cuh"
#include "exports.h"

namespace {

using gencore::cuda::dynamic_shared;
using gencore::cuda::launch_kernel;

constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ float warp_sum(float value) {
  for (int delta = 16; delta > 0; delta /= 2) value += __shfl_down_sync(kAllLanes, value, delta);
  return value;
}

// One sum a block, of blockDim.x consecutive elements; blockDim.x is a multiple of 32.
__global__ void block_sum(const float* x, float* sums, int count) {
  __shared__ float of_warp[32];
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const float sum = warp_sum(at < count ? x[at] : 0.0f);
  if (lane == 0) of_warp[warp] = sum;
  __syncthreads();
  if (warp > 0) return;
  const float total = warp_sum(lane < static_cast<int>(blockDim.x) / 32 ? of_warp[lane] : 0.0f);
  if (lane == 0) sums[blockIdx.x] = total;
}

// The same by halving in dynamic shared memory.
__global__ void tree_sum(const float* x, float* sums, int count) {
  float* partial = dynamic_shared<float>();
  const int me = static_cast<int>(threadIdx.x), size = static_cast<int>(blockDim.x);
  const int at = static_cast<int>(blockIdx.x) * size + me;
  partial[me] = at < count ? x[at] : 0.0f;
  __syncthreads();
  for (int half = size / 2; half > 0; half /= 2) {
    if (me < half) partial[me] += partial[me + half];
    __syncthreads();
  }
  if (me == 0) sums[blockIdx.x] = partial[0];
}

constexpr int kTile = 8;

template <class T>
__global__ void transpose(const T* in, T* out, int rows, int columns) {
  __shared__ T tile[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int left = static_cast<int>(blockIdx.x) * kTile, top = static_cast<int>(blockIdx.y) * kTile;
  if (top + y < rows && left + x < columns) tile[y][x] = in[(top + y) * columns + left + x];
  __syncthreads();
  if (left + y < columns && top + x < rows) out[(left + y) * rows + top + x] = tile[x][y];
}

// Two arrays side by side, reached through pointers: each thread hands its element to the next.
__global__ void rotate_pairs(const float* in, float* out) {
  __shared__ float first[32];
  __shared__ float second[32];
  float* a = first;
  float* b = second;
  const int me = static_cast<int>(threadIdx.x);
  a[me] = in[me];
  b[me] = in[me + 32];
  __syncthreads();
  out[me] = b[(me + 1) % 32];
  out[me + 32] = a[(me + 1) % 32];
}

// Counts per bin, by atomics in shared and in global memory; also how many entries are odd.
__global__ void histogram(const int* values, int* bins, int* odd, int count, int num_bins) {
  int* mine = dynamic_shared<int>();
  const int me = static_cast<int>(threadIdx.x);
  for (int k = me; k < num_bins; k += static_cast<int>(blockDim.x)) mine[k] = 0;
  __syncthreads();
  const int at = static_cast<int>(blockIdx.x * blockDim.x) + me;
  const bool inside = at < count;
  if (inside) atomicAdd(&mine[values[at] % num_bins], 1);
  const int odd_here = __syncthreads_count(inside && values[at] % 2 == 1);
  for (int k = me; k < num_bins; k += static_cast<int>(blockDim.x)) atomicAdd(&bins[k], mine[k]);
  if (me == 0) atomicAdd(odd, odd_here);
}

// Lanes with a positive value take consecutive slots; out is padded with zeros.
__global__ void compact_warp(const int* in, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = in[lane];
  const unsigned votes = __ballot_sync(kAllLanes, value > 0);
  if (__any_sync(kAllLanes, value == 0) && __all_sync(kAllLanes, value <= 0)) return;
  out[lane] = 0;
  __syncwarp();
  if (value > 0) out[__popc(votes & ((1u << lane) - 1))] = value;
}

// The mean of x is taken off x: sums of blocks, a wait of the grid, then every block subtracts.
__global__ void subtract_mean(float* x, float* sums, int count) {
  __shared__ float of_warp[32];
  const int size = static_cast<int>(blockDim.x), me = static_cast<int>(threadIdx.x);
  const int at = static_cast<int>(blockIdx.x) * size + me;
  const float sum = warp_sum(at < count ? x[at] : 0.0f);
  if (me % 32 == 0) of_warp[me / 32] = sum;
  __syncthreads();
  if (me == 0) {
    float total = 0.0f;
    for (int k = 0; k < size / 32; ++k) total += of_warp[k];
    sums[blockIdx.x] = total;
  }
  cooperative_groups::this_grid().sync();
  float mean = 0.0f;
  for (unsigned k = 0; k < gridDim.x; ++k) mean += sums[k];
  mean /= static_cast<float>(count);
  if (at < count) x[at] -= mean;
}

// The block that finishes last adds up what the others left.
__global__ void last_block_sum(const float* x, float* sums, int* finished, float* total) {
  if (threadIdx.x != 0) return;
  sums[blockIdx.x] = x[blockIdx.x];
  __threadfence();
  if (atomicAdd(finished, 1) + 1 < static_cast<int>(gridDim.x)) return;
  float sum = 0.0f;
  for (unsigned k = 0; k < gridDim.x; ++k) sum += sums[k];
  *total = sum;
}

unsigned blocks_for(int count, unsigned threads) {
  return (static_cast<unsigned>(count) + threads - 1) / threads;
}

}  // namespace

extern "C" {

HOST_EXECUTOR_EXPORT const char* run_block_sum(const float* x, float* sums, int count) {
  return host_executor::error_of(
      [&] { launch_kernel(block_sum, {blocks_for(count, 128), 128}, nullptr, x, sums, count); });
}

HOST_EXECUTOR_EXPORT const char* run_tree_sum(const float* x, float* sums, int count) {
  return host_executor::error_of([&] {
    launch_kernel(tree_sum, {blocks_for(count, 128), 128, 128 * sizeof(float)}, nullptr, x, sums,
                  count);
  });
}

HOST_EXECUTOR_EXPORT const char* run_transpose(const void* in, void* out, int rows, int columns,
                                               bool is_double) {
  return host_executor::error_of([&] {
    const gencore::cuda::LaunchShape shape{{blocks_for(columns, kTile), blocks_for(rows, kTile)},
                                           {kTile, kTile}};
    if (is_double)
      launch_kernel(transpose<double>, shape, nullptr, static_cast<const double*>(in),
                    static_cast<double*>(out), rows, columns);
    else
      launch_kernel(transpose<float>, shape, nullptr, static_cast<const float*>(in),
                    static_cast<float*>(out), rows, columns);
  });
}

HOST_EXECUTOR_EXPORT const char* run_rotate_pairs(const float* in, float* out) {
  return host_executor::error_of([&] { launch_kernel(rotate_pairs, {1, 32}, nullptr, in, out); });
}

HOST_EXECUTOR_EXPORT const char* run_histogram(const int* values, int* bins, int* odd, int count,
                                               int num_bins) {
  return host_executor::error_of([&] {
    launch_kernel(histogram, {blocks_for(count, 64), 64, num_bins * sizeof(int)}, nullptr, values,
                  bins, odd, count, num_bins);
  });
}

HOST_EXECUTOR_EXPORT const char* run_compact_warp(const int* in, int* out) {
  return host_executor::error_of([&] { launch_kernel(compact_warp, {1, 32}, nullptr, in, out); });
}

HOST_EXECUTOR_EXPORT const char* run_subtract_mean(float* x, float* sums, int count) {
  return host_executor::error_of([&] {
    launch_kernel(subtract_mean, {blocks_for(count, 64), 64, 0, true}, nullptr, x, sums, count);
  });
}

HOST_EXECUTOR_EXPORT const char* run_last_block_sum(const float* x, float* sums, int* finished,
                                                    float* total, int count) {
  return host_executor::error_of([&] {
    launch_kernel(last_block_sum, {static_cast<unsigned>(count), 32}, nullptr, x, sums, finished,
                  total);
  });
}
}
