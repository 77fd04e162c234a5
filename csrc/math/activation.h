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

// e^x for x <= 0; below -87 it is e^-87. Cephes' expf: x = n ln 2 + r, with n found by adding a
// number whose last place is one, so that no float is converted to an integer (NaN has none).
GENCORE_HD float exp_negative(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float shifted = multiply_add(x, 1.44269504088896341f, 12582912.0f);
  const float n = shifted - 12582912.0f;
  const std::uint32_t exponent = bit_cast<std::uint32_t>(shifted) - 0x4B400000u + 127u;
  float r = multiply_add(n, -0.693359375f, x);
  r = multiply_add(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = multiply_add(p, r, 1.3981999507e-3f);
  p = multiply_add(p, r, 8.3334519073e-3f);
  p = multiply_add(p, r, 4.1665795894e-2f);
  p = multiply_add(p, r, 1.6666665459e-1f);
  p = multiply_add(p, r, 5.0000001201e-1f);
  p = multiply_add(p, r * r, r + 1.0f);
  return p * bit_cast<float>(exponent << 23);
}
GENCORE_HD double exp_negative(double x) { return exp(x); }

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

}  // namespace GENCORE_LEVEL
}  // namespace gencore
