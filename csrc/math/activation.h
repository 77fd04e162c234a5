// The activations of small networks: value and slope of one element, from one exponential.
//
// fp32 is branch-free and free of library calls, so that loops over it vectorise; relative error of
// the exponential is below 2e-7. NaN stays NaN.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {

// In the order of gencore/ops/mlp.py. The leaky ReLU's slope may be zero: the ReLU.
enum class Activation { kSilu, kSoftplus, kTanh, kLeakyRelu };

inline namespace GENCORE_LEVEL {

// e^x / 2^n for the integer n next to x / ln 2: Cephes' expf, x = n ln 2 + r. The callers find n by
// adding a number whose last place is one, so that no float is converted to an integer (NaN has
// none).
GENCORE_HD float exponential_fraction(float x, float n) {
  float r = multiply_add(n, -0.693359375f, x);
  r = multiply_add(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = multiply_add(p, r, 1.3981999507e-3f);
  p = multiply_add(p, r, 8.3334519073e-3f);
  p = multiply_add(p, r, 4.1665795894e-2f);
  p = multiply_add(p, r, 1.6666665459e-1f);
  p = multiply_add(p, r, 5.0000001201e-1f);
  return multiply_add(p, r * r, r + 1.0f);
}

// e^x for any x, subnormal and infinite results included: the power of two is applied in two
// halves, for the whole may be out of a float's range.
GENCORE_HD float exponential(float x) {
  x = x < -110.0f ? -110.0f : x;
  x = x > 90.0f ? 90.0f : x;
  const float shifted = multiply_add(x, 1.44269504088896341f, 12582912.0f);
  const float n = shifted - 12582912.0f;
  const auto exponent = static_cast<std::int32_t>(bit_cast<std::uint32_t>(shifted) - 0x4B400000u);
  const std::uint32_t half = static_cast<std::uint32_t>(exponent >> 1);
  const std::uint32_t rest = static_cast<std::uint32_t>(exponent) - half;
  return exponential_fraction(x, n) * bit_cast<float>((half + 127u) << 23) *
         bit_cast<float>((rest + 127u) << 23);
}
GENCORE_HD double exponential(double x) { return exp(x); }

// e^x for |x| <= 87, where no float is in danger: a third of the work less.
GENCORE_HD float exponential_of_bounded(float x) {
  const float shifted = multiply_add(x, 1.44269504088896341f, 12582912.0f);
  const float n = shifted - 12582912.0f;
  const std::uint32_t exponent = bit_cast<std::uint32_t>(shifted) - 0x4B400000u + 127u;
  return exponential_fraction(x, n) * bit_cast<float>(exponent << 23);
}
GENCORE_HD double exponential_of_bounded(double x) { return exp(x); }

// e^x for x <= 0; below -87 it is 0: silu(-1e38) shall be too.
GENCORE_HD float exp_negative(float x) {
  return x < -87.0f ? 0.0f : exponential_of_bounded(x < -87.0f ? -87.0f : x);
}
GENCORE_HD double exp_negative(double x) { return exp(x); }

// Eigen's rational approximation of tanh, to three last places, and one where the float is.
GENCORE_HD float hyperbolic_tangent(float x) {
  const bool is_one = x > 9.02f, is_minus_one = x < -9.02f;
  x = x < -7.90531110763549805f ? -7.90531110763549805f : x;
  x = x > 7.90531110763549805f ? 7.90531110763549805f : x;
  const float square = x * x;
  float p = -2.76076847742355e-16f;
  p = multiply_add(p, square, 2.00018790482477e-13f);
  p = multiply_add(p, square, -8.60467152213735e-11f);
  p = multiply_add(p, square, 5.12229709037114e-08f);
  p = multiply_add(p, square, 1.48572235717979e-05f);
  p = multiply_add(p, square, 6.37261928875436e-04f);
  p = multiply_add(p, square, 4.89352455891786e-03f);
  float q = 1.19825839466702e-06f;
  q = multiply_add(q, square, 1.18534705686654e-04f);
  q = multiply_add(q, square, 2.26843463243900e-03f);
  q = multiply_add(q, square, 4.89352518554385e-03f);
  const float t = x * p / q;
  return is_one ? 1.0f : (is_minus_one ? -1.0f : t);
}
GENCORE_HD double hyperbolic_tangent(double x) { return tanh(x); }

// log(1 + e) for 0 <= e <= 1.
GENCORE_HD float log_one_plus(float e) { return log_positive(1.0f + e); }
GENCORE_HD double log_one_plus(double e) { return log1p(e); }

template <class A>
struct Activated {
  A value;
  A slope;
};

template <Activation kind, class A>
GENCORE_HD Activated<A> activate(A z, A negative_slope) {
  if (kind == Activation::kLeakyRelu) {
    const A slope = z > A(0) ? A(1) : negative_slope;
    return {z * slope, slope};
  }
  // NaN fails the comparison and enters the exponential as it is.
  const A magnitude = z < A(0) ? -z : z;
  if (kind == Activation::kTanh) {
    const A e = exp_negative(A(-2) * magnitude);
    const A t = (A(1) - e) / (A(1) + e);
    return {z < A(0) ? -t : t, multiply_add(-t, t, A(1))};
  }
  const A e = exp_negative(-magnitude);
  const A larger = A(1) / (A(1) + e);  // the sigmoid of |z|
  const A sigmoid = z < A(0) ? e * larger : larger;
  if (kind == Activation::kSoftplus) return {(z < A(0) ? A(0) : z) + log_one_plus(e), sigmoid};
  const A complement = z < A(0) ? larger : e * larger;
  const A value = z * sigmoid;
  return {value, multiply_add(value, complement, sigmoid)};
}

// The largest bound of raw values for which activate's tanh is enough, which is exact to a rounding
// of one, and for which e^(2 bound) is far from the largest float.
inline constexpr double kSmallBound = 16.0;

// tanh(raw / bound), of which `is_small` says whether the bound is at most that, and its slope.
template <class A>
GENCORE_HD Activated<A> tanh_of_bounded(A ratio, bool is_small) {
  if (is_small) return activate<Activation::kTanh>(ratio, A(0));
  const A t = hyperbolic_tangent(ratio);
  return {t, multiply_add(-t, t, A(1))};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
