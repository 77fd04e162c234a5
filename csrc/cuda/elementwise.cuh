// The launch that every elementwise CUDA kernel shares: a thread owns the four elements of one
// Philox block, reads and writes them with one vector access a tensor, and falls back to scalar
// accesses at the tensor's ends or where a pointer is not aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "../arguments/common.h"
#include "../math/storage.h"
#include "launch.cuh"

namespace gencore::cuda {

// Four elements in memory: 8 bytes for the half types, 16 for fp32, twice 16 for fp64.
template <class T>
struct alignas(sizeof(T) >= 4 ? 16 : 8) Quad {
  T value[4];
};

// Elements at + [begin, end) of a tensor, of at most four; `whole` when all four may be moved at
// once.
struct Span {
  std::int64_t at;
  int begin;
  int end;
  bool whole;
};

template <class T>
__device__ __forceinline__ void read(const void* tensor, const Span& span,
                                     accumulate_t<T> (&out)[4]) {
  const T* source = static_cast<const T*>(tensor) + span.at;
  if (span.whole) {
    const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(source);
#pragma unroll
    for (int k = 0; k < 4; ++k) out[k] = load(quad.value[k]);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      out[k] = k >= span.begin && k < span.end ? load(source[k]) : accumulate_t<T>(0);
  }
}

// An instruction of its own: before sm_100 the compiler takes a plain assignment apart, to merge
// its parts with the scalar stores of a span that is not whole.
template <class T>
__device__ __forceinline__ void write_whole(const Quad<T>& quad, T* target) {
  using Word = std::conditional_t<sizeof(quad) == 8, uint2, uint4>;
  constexpr int kWords = sizeof(quad) / sizeof(Word);
  Word words[kWords];
  __builtin_memcpy(words, &quad, sizeof(quad));
#pragma unroll
  for (int k = 0; k < kWords; ++k) __stwb(reinterpret_cast<Word*>(target) + k, words[k]);
}

template <class T>
__device__ __forceinline__ void write(void* tensor, const Span& span,
                                      const accumulate_t<T> (&values)[4]) {
  T* target = static_cast<T*>(tensor) + span.at;
  if (span.whole) {
    Quad<T> quad;
#pragma unroll
    for (int k = 0; k < 4; ++k) quad.value[k] = store<T>(values[k]);
    write_whole(quad, target);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k >= span.begin && k < span.end) target[k] = store<T>(values[k]);
  }
}

// The noise of a span, from its tensor or from Philox.
template <class T>
__device__ __forceinline__ void read_noise(const NoiseSource& source, const Span& span,
                                           accumulate_t<T> (&out)[4]) {
  if (source.tensor != nullptr) return read<T>(source.tensor, span, out);
  const PhiloxStream stream{static_cast<std::uint64_t>(source.key[0]),
                            static_cast<std::uint64_t>(source.key[1])};
  // span.at + source.first is a multiple of four by construction, and not negative.
  normal4(stream, static_cast<std::uint64_t>((span.at + source.first) / 4), out);
}

inline constexpr int kThreads = 256;

// Body: a struct with `__device__ void operator()(const Span&) const`.
template <class Body>
__global__ void __launch_bounds__(kThreads)
    elementwise_kernel(Body body, std::int64_t numel, int skipped, bool aligned) {
  const std::int64_t group = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t at = 4 * group - skipped;
  if (at >= numel) return;
  const int begin = at < 0 ? static_cast<int>(-at) : 0;
  const int end = numel - at < 4 ? static_cast<int>(numel - at) : 4;
  body(Span{at, begin, end, aligned && begin == 0 && end == 4});
}

// `first` is the index of element 0 in its Philox stream; groups of four end where Philox blocks
// do. `pointers` are the tensors that Body touches (null ones are ignored).
template <class T, class Body>
void launch_elementwise(const Body& body, std::int64_t numel, std::int64_t first,
                        std::initializer_list<const void*> pointers, void* stream) {
  if (numel == 0) return;  // a grid without blocks is an error
  const int skipped = static_cast<int>(first % 4);
  bool aligned = skipped == 0;
  for (const void* pointer : pointers)
    aligned = aligned && reinterpret_cast<std::uintptr_t>(pointer) % alignof(Quad<T>) == 0;
  const std::int64_t groups = (numel + skipped + 3) / 4;
  const std::int64_t blocks = (groups + kThreads - 1) / kThreads;
  launch_kernel(elementwise_kernel<Body>, {static_cast<unsigned>(blocks), kThreads}, stream, body,
                numel, skipped, aligned);
}

// Runs launcher(T{}) for the dtype's storage type.
template <class Launcher>
void by_dtype(Dtype dtype, Launcher launcher) {
  switch (dtype) {
    case Dtype::kFloat64:
      return launcher(double{});
    case Dtype::kFloat32:
      return launcher(float{});
    case Dtype::kBFloat16:
      return launcher(BFloat16{});
    case Dtype::kFloat16:
      return launcher(Float16{});
  }
}

}  // namespace gencore::cuda
