// What a pixel, and a difference of two neighbouring ones, add to the losses of a predicted image.
#pragma once

#include <cmath>

#include "macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

GENCORE_HD float absolute(float value) { return fabsf(value); }
GENCORE_HD double absolute(double value) { return fabs(value); }
GENCORE_HD float signed_one(float value) { return copysignf(1.0f, value); }
GENCORE_HD double signed_one(double value) { return copysign(1.0, value); }

// -1, 0 or 1; NaN stays NaN.
template <class A>
GENCORE_HD A sign_of(A value) {
  const A one = signed_one(value);
  return absolute(value) > 0 ? one : value;
}

// |value|^exponent and its derivative less the factor exponent. kExponent says which of the common
// exponents it is, 1 or 2; where it is 0, `exponent` is looked at.
template <int kExponent, class A>
GENCORE_HD A magnitude_power(A value, int exponent) {
  const A magnitude = absolute(value);
  if constexpr (kExponent == 1) return magnitude;
  if constexpr (kExponent == 2) return value * value;
  A power = magnitude;
  for (int k = 1; k < exponent; ++k) power *= magnitude;
  return power;
}
template <int kExponent, class A>
GENCORE_HD A magnitude_power_slope(A value, int exponent) {
  if constexpr (kExponent == 1) return sign_of(value);
  if constexpr (kExponent == 2) return value;
  return exponent == 1 ? sign_of(value) : sign_of(value) * magnitude_power<0>(value, exponent - 1);
}

// By how much the difference d of two pixels is stronger than another's.
template <class A>
GENCORE_HD A excess(A d, A other) {
  return absolute(d) - absolute(other);
}

// The derivative by d of |excess(d, other)|^alpha, less the factor alpha.
template <int kAlpha, class A>
GENCORE_HD A excess_slope(A d, A other, int alpha) {
  return magnitude_power_slope<kAlpha>(excess(d, other), alpha) * sign_of(d);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
