// A vector register of floats or doubles, as wide as the instruction-set level has them, or a part.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../math/macros.h"

#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace gencore {
inline namespace GENCORE_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

// a b + c, fused wherever the level has the instruction, as multiply_add in math/normal.h.
#if defined(__AVX512F__)
inline __m512 fused(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
inline __m512d fused(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
#endif
#if defined(__FMA__)
inline __m256 fused(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256d fused(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }
inline __m128 fused(__m128 a, __m128 b, __m128 c) { return _mm_fmadd_ps(a, b, c); }
inline __m128d fused(__m128d a, __m128d b, __m128d c) { return _mm_fmadd_pd(a, b, c); }
#else
template <class Vector>
inline Vector fused(Vector a, Vector b, Vector c) {
  return a * b + c;
}
#endif

template <class A, int kCount = kVectorBytes / sizeof(A)>
struct Lanes {
  typedef A Vector __attribute__((vector_size(kCount * sizeof(A))));
  static constexpr int count = kCount;
  Vector value;

  static Lanes fill(A a) { return {a - Vector{}}; }
  static Lanes load(const A* from) {
    Lanes lanes;
    __builtin_memcpy(&lanes.value, from, sizeof(Vector));
    return lanes;
  }
  void store(A* to) const { __builtin_memcpy(to, &value, sizeof(Vector)); }
  static Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
    return {fused(a.value, b.value, c.value)};
  }
};

// The count, filled up to whole vectors.
template <class A>
constexpr std::int64_t whole_vectors(std::int64_t count) {
  return (count + Lanes<A>::count - 1) / Lanes<A>::count * Lanes<A>::count;
}

// Calls body(width, first) for panels of at most kWidth, a power of two, that cover [0, count).
template <int kWidth, class Body>
void for_each_panel(std::int64_t count, Body body, std::int64_t first = 0) {
  for (; count - first >= kWidth; first += kWidth)
    body(std::integral_constant<int, kWidth>{}, first);
  if constexpr (kWidth > 1) for_each_panel<kWidth / 2>(count, body, first);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
