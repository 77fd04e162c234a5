// The launch of kernels that need something of a whole chain: a sum, or whether anything is so.
// A chain gets as many threads as it has groups of four elements, rounded up to a power of two: a
// part of a warp, a warp, or for more than kWarp groups a block of kThreads. Results are the same
// at every launch, and for every split of a batch into chains.
#pragma once

#include "elementwise.cuh"

namespace gencore::cuda {

inline constexpr int kWarp = 32;

// A thread's place in its chain. A block's last threads may have no chain (`present` is false), but
// take part in what the block's threads do together.
struct Place {
  std::int64_t chain;
  int rank;
  int width;  // threads a chain: a power of two up to kWarp, or kThreads
  bool present;
};

struct ChainShape {
  std::int64_t chains;
  std::int64_t chain_size;
  int skipped;   // elements of the first Philox block that lie before the first chain
  bool aligned;  // whether groups of four may be moved at once
};

// Calls body(span) for this thread's groups of four elements, which end where Philox blocks do.
template <class Body>
__device__ __forceinline__ void for_each_span(const Place& place, const ChainShape& shape,
                                              Body body) {
  if (!place.present) return;
  const std::int64_t start = place.chain * shape.chain_size, stop = start + shape.chain_size;
  for (std::int64_t group = (start + shape.skipped) / 4 + place.rank;
       4 * group - shape.skipped < stop; group += place.width) {
    const std::int64_t at = 4 * group - shape.skipped;
    const int begin = at < start ? static_cast<int>(start - at) : 0;
    const int end = stop - at < 4 ? static_cast<int>(stop - at) : 4;
    body(Span{at, begin, end, shape.aligned && begin == 0 && end == 4});
  }
}

// The sum over a chain's threads, for each of them. Called by all threads of a block.
__device__ __forceinline__ double chain_sum(const Place& place, double value) {
  for (int distance = (place.width < kWarp ? place.width : kWarp) / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xFFFFFFFFu, value, distance);
  if (place.width <= kWarp) return value;
  __shared__ double warps[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  double sum = 0.0;
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += warps[warp];
  return sum;
}

// Whether `value` is true for any of a chain's threads. Called by all threads of a block.
__device__ __forceinline__ bool chain_any(const Place& place, bool value) {
  if (place.width > kWarp) return __syncthreads_or(value) != 0;
  const unsigned votes = __ballot_sync(0xFFFFFFFFu, value);
  if (place.width == kWarp) return votes != 0;
  const unsigned first = threadIdx.x % kWarp / place.width * place.width;
  return (votes >> first & ((1u << place.width) - 1u)) != 0;
}

// Body: a struct with `__device__ void operator()(const Place&, const ChainShape&) const`. Two
// blocks on an SM are asked for because ptxas otherwise spills a few registers for the sake of one
// more.
template <class Body>
__global__ void __launch_bounds__(kThreads, 2)
    chainwise_kernel(Body body, ChainShape shape, int width) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t chain = thread / width;
  body(Place{chain, static_cast<int>(thread % width), width, chain < shape.chains}, shape);
}

// `first` is the index of element 0 in its Philox stream. `pointers` are the tensors of T that Body
// moves (null ones are ignored).
template <class T, class Body>
void launch_chainwise(const Body& body, std::int64_t chains, std::int64_t chain_size,
                      std::int64_t first, std::initializer_list<const void*> pointers,
                      void* stream) {
  if (chains == 0) return;  // a grid without blocks is an error
  ChainShape shape{chains, chain_size, static_cast<int>(first % 4), first % 4 == 0};
  for (const void* pointer : pointers)
    shape.aligned =
        shape.aligned && reinterpret_cast<std::uintptr_t>(pointer) % alignof(Quad<T>) == 0;
  int width = 1;
  while (width <= kWarp && 4 * width < chain_size) width *= 2;
  if (width > kWarp) width = kThreads;
  const std::int64_t per_block = kThreads / width;
  const std::int64_t blocks = (chains + per_block - 1) / per_block;
  launch_kernel(chainwise_kernel<Body>, {static_cast<unsigned>(blocks), kThreads}, stream, body,
                shape, width);
}

}  // namespace gencore::cuda
