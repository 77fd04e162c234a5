// The affine coupling of normalizing flows, one element at a time. With u = e^(+-s) all forms of it
// are out = u (x - p t) + o t, where p and o are 0 or 1: s is a function of a raw scale, and
//   affine: y = e^s x + t, x = e^-s (y - t);
//   gated:  y = e^s x + (1 - e^s) t with e^s = sigmoid(raw), x = (y - (1 - e^s) t) / e^s.
// So is every derivative: d out/dt = o - p u =: k and d out/ds = +- u (x - p t).
//
// fp32 is branch-free and free of library calls, so that loops over it vectorise. NaN stays NaN.
#pragma once

#include <cmath>
#include <cstdint>

#include "activation.h"
#include "macros.h"
#include "normal.h"

namespace gencore {

// How a raw scale becomes the log-scale s. In the order of gencore/ops/affine_coupling.py.
enum class ScaleKind {
  kExponential,  // s = raw
  kBounded,      // s = bound tanh(raw / bound)
  kGated,        // s = log sigmoid(raw)
};

inline namespace GENCORE_LEVEL {

// e^x for any x, subnormal and infinite results included: Cephes' expf as in exp_negative, with the
// power of two applied in two halves, for either may be out of a float's range.
GENCORE_HD float exponential(float x) {
  x = x < -110.0f ? -110.0f : x;
  x = x > 90.0f ? 90.0f : x;
  const float shifted = multiply_add(x, 1.44269504088896341f, 12582912.0f);
  const float n = shifted - 12582912.0f;
  const std::int32_t exponent = static_cast<std::int32_t>(bit_cast<std::uint32_t>(shifted) -
                                                          0x4B400000u);
  float r = multiply_add(n, -0.693359375f, x);
  r = multiply_add(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = multiply_add(p, r, 1.3981999507e-3f);
  p = multiply_add(p, r, 8.3334519073e-3f);
  p = multiply_add(p, r, 4.1665795894e-2f);
  p = multiply_add(p, r, 1.6666665459e-1f);
  p = multiply_add(p, r, 5.0000001201e-1f);
  p = multiply_add(p, r * r, r + 1.0f);
  const std::uint32_t half = static_cast<std::uint32_t>(exponent >> 1);
  const std::uint32_t rest = static_cast<std::uint32_t>(exponent) - half;
  return p * bit_cast<float>((half + 127u) << 23) * bit_cast<float>((rest + 127u) << 23);
}
GENCORE_HD double exponential(double x) { return exp(x); }

template <class A>
struct Tanh {
  A value;
  A slope;  // 1 - tanh^2, to its own last digits
};

GENCORE_HD Tanh<float> hyperbolic_tangent(float z) {
  const float magnitude = z < 0.0f ? -z : z;
  const float e = exp_negative(-2.0f * magnitude);
  const float inverse = 1.0f / (1.0f + e);
  const float far = (1.0f - e) * inverse;
  const float square = z * z;  // Cephes' tanhf below 0.625, where 1 - e would cancel
  float p = -5.70498872745e-3f;
  p = multiply_add(p, square, 2.06390887954e-2f);
  p = multiply_add(p, square, -5.37397155531e-2f);
  p = multiply_add(p, square, 1.33314422036e-1f);
  p = multiply_add(p, square, -3.33332819422e-1f);
  const float near = multiply_add(p * square, z, z);
  const float signed_far = z < 0.0f ? -far : far;
  return {magnitude < 0.625f ? near : signed_far, 4.0f * e * (inverse * inverse)};
}
GENCORE_HD Tanh<double> hyperbolic_tangent(double z) {
  const double e = exp(-2.0 * (z < 0.0 ? -z : z));
  const double inverse = 1.0 / (1.0 + e);
  return {tanh(z), 4.0 * e * (inverse * inverse)};
}

// What a raw scale makes of an element, in the direction asked for.
template <class A>
struct CouplingScale {
  A log_multiplier;  // +-s
  A multiplier;      // u
  A shift_factor;    // k
  A slope;           // of +-s in raw
  A curvature;       // of +-s in raw, the second derivative
};

// Whether the shift is subtracted before the multiplication: p.
GENCORE_HD constexpr bool shift_comes_first(ScaleKind kind, bool inverse) {
  return inverse || kind == ScaleKind::kGated;
}

template <class A>
GENCORE_HD CouplingScale<A> coupling_scale(ScaleKind kind, bool inverse, A raw, A bound,
                                           A inverse_bound) {
  const A sign = inverse ? A(-1) : A(1);
  if (kind == ScaleKind::kGated) {
    const A e = exp_negative(raw < A(0) ? raw : -raw);
    const A larger = A(1) / (A(1) + e);
    const A sigmoid = raw < A(0) ? e * larger : larger;
    const A complement = raw < A(0) ? larger : e * larger;
    const A log_sigmoid = (raw < A(0) ? raw : A(0)) - log_one_plus(e);
    const A odds = raw < A(0) ? A(1) / e : e;  // e^-raw
    return {sign * log_sigmoid, inverse ? A(1) + odds : sigmoid, inverse ? -odds : complement,
            sign * complement, -sign * sigmoid * complement};
  }
  A s = raw, slope = A(1), curvature = A(0);
  if (kind == ScaleKind::kBounded) {
    const Tanh<A> t = hyperbolic_tangent(raw * inverse_bound);
    s = bound * t.value;
    slope = t.slope;
    curvature = A(-2) * inverse_bound * t.value * slope;
  }
  const A multiplier = exponential(sign * s);
  return {sign * s, multiplier, inverse ? -multiplier : A(1), sign * slope, sign * curvature};
}

template <class A>
GENCORE_HD A coupling_map(ScaleKind kind, bool inverse, const CouplingScale<A>& scale, A x, A t) {
  if (kind == ScaleKind::kGated) return multiply_add(scale.multiplier, x, scale.shift_factor * t);
  return inverse ? scale.multiplier * (x - t) : multiply_add(scale.multiplier, x, t);
}

// The derivatives of <g, out> + h (+-s) in x, raw and t.
template <class A>
struct CouplingGrads {
  A x;
  A raw;
  A shift;
};

template <class A>
GENCORE_HD CouplingGrads<A> coupling_grads(ScaleKind kind, bool inverse,
                                           const CouplingScale<A>& scale, A x, A t, A g, A h) {
  const A q = scale.multiplier * (shift_comes_first(kind, inverse) ? x - t : x);
  return {scale.multiplier * g, scale.slope * multiply_add(g, q, h), scale.shift_factor * g};
}

// The derivatives of <a, grads.x> + <b, grads.raw> + <c, grads.shift>; in h it is b times slope.
template <class A>
struct CouplingSecondGrads {
  A g;
  A x;
  A raw;
  A shift;
  A h;
};

template <class A>
GENCORE_HD CouplingSecondGrads<A> coupling_second_grads(ScaleKind kind, bool inverse,
                                                        const CouplingScale<A>& scale, A x, A t,
                                                        A g, A h, A a, A b, A c) {
  const bool first = shift_comes_first(kind, inverse);
  const A u = scale.multiplier, q = u * (first ? x - t : x);
  const A b_slope = b * scale.slope;
  const A by_x = b_slope * g * u;
  const A by_u = multiply_add(u, first ? a - c : a, b_slope * q);
  return {multiply_add(b_slope, q, multiply_add(a, u, c * scale.shift_factor)), by_x,
          multiply_add(scale.slope * g, by_u, b * scale.curvature * multiply_add(g, q, h)),
          first ? -by_x : A(0), b_slope};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
