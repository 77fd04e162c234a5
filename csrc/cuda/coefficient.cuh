// A coefficient that may differ from chain to chain and from element to element.
#pragma once

#include "elementwise.cuh"

namespace gencore::cuda {

// The coefficients of a span's elements, whose chains are found by division.
template <class A>
__device__ __forceinline__ void read_coefficient(const Coefficient& source, const Span& span,
                                                 std::int64_t chain_size, A (&out)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) out[k] = static_cast<A>(source.number);
  if (source.values == nullptr) return;
  const A* values = static_cast<const A*>(source.values);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k < span.begin || k >= span.end) continue;
    const std::int64_t element = span.at + k;
    out[k] = values[element / chain_size * source.chain_stride +
                    element % chain_size * source.element_stride];
  }
}

// The same where the span lies in one chain, whose first element is `start`.
template <class A>
__device__ __forceinline__ void read_coefficient(const Coefficient& source, const Span& span,
                                                 std::int64_t chain, std::int64_t start,
                                                 A (&out)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) out[k] = static_cast<A>(source.number);
  if (source.values == nullptr) return;
  const A* values = static_cast<const A*>(source.values) + chain * source.chain_stride;
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (k >= span.begin && k < span.end)
      out[k] = values[(span.at + k - start) * source.element_stride];
}

}  // namespace gencore::cuda
