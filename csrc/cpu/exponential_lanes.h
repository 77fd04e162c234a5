// Powers of two, maxima and roots of vector registers, free of library calls.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "lanes.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
inline constexpr A kLeastExponent = std::is_same_v<A, float> ? A(-126) : A(-1022);

// NaN in b stays, NaN in a does not.
template <class A>
inline typename Lanes<A>::Vector larger(typename Lanes<A>::Vector a, typename Lanes<A>::Vector b) {
#if defined(__AVX512F__)  // GCC makes a comparison and a choice of what is below
  if constexpr (std::is_same_v<A, float>)
    return _mm512_max_ps(a, b);
  else
    return _mm512_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}

template <class A>
inline typename Lanes<A>::Vector square_root(typename Lanes<A>::Vector a) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<A, float>)
    return _mm512_sqrt_ps(a);
  else
    return _mm512_sqrt_pd(a);
#else
  for (int k = 0; k < Lanes<A>::count; ++k) a[k] = std::sqrt(a[k]);
  return a;
#endif
}

// 2^x for what is not above the largest exponent; below the least one it is that one's. NaN stays
// NaN. Relative error: 2e-7, 3e-16.
template <class A>
inline typename Lanes<A>::Vector power_of_two(typename Lanes<A>::Vector x) {
  using Vector = typename Lanes<A>::Vector;
  using Integer = std::conditional_t<std::is_same_v<A, float>, std::int32_t, std::int64_t>;
  typedef Integer Integers __attribute__((vector_size(sizeof(Vector))));
  constexpr int kMantissa = std::is_same_v<A, float> ? 23 : 52;
  // Its last place is one, and of the sum with it the last places are the exponent's bits.
  constexpr A kShift = std::is_same_v<A, float> ? A(12582912 + 127) : A(6755399441055744 + 1023);
  x = larger<A>(Vector{} + kLeastExponent<A>, x);
  const Vector shifted = x + kShift, r = x - (shifted - kShift);
  Vector p;
  const auto then = [&](double coefficient) { p = fused(p, r, Vector{} + A(coefficient)); };
  if constexpr (std::is_same_v<A, float>) {  // of least relative error, and 1 at 0
    p = Vector{} + A(1.3264727150617e-03);
    then(9.6715126429335e-03);
    then(5.5507337434072e-02);
    then(2.4022242085304e-01);
    then(6.9314697759906e-01);
    then(1.0);
  } else {  // Taylor's
    p = Vector{} + A(2.5678435993488205e-11);
    then(4.4455382718708116e-10);
    then(7.0549116208011225e-09);
    then(1.0178086009239699e-07);
    then(1.3215486790144307e-06);
    then(1.5252733804059841e-05);
    then(1.540353039338161e-04);
    then(1.3333558146428443e-03);
    then(9.618129107628477e-03);
    then(5.550410866482158e-02);
    then(2.402265069591007e-01);
    then(6.931471805599453e-01);
    then(1.0);
  }
  return p * reinterpret_cast<Vector>(reinterpret_cast<Integers>(shifted) << kMantissa);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
