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
#include "storage.h"

namespace gencore {

// The largest bound: e^s of fp32 stays normal.
inline constexpr double kLargestBound = 80.0;

// How a raw scale becomes the log-scale s, numbered as in gencore/ops/affine_coupling_reference.py.
enum class ScaleKind {
  kExponential,  // s = raw
  kBounded,      // s = bound tanh(raw / bound)
  kGated,        // s = log sigmoid(raw)
};

inline namespace GENCORE_LEVEL {

// What a raw scale makes of an element, in the direction asked for.
template <class A>
struct CouplingScale {
  A log_multiplier;  // +-s
  A multiplier;      // u
  A shift_factor;    // k
  A slope;           // d(+-s)/d raw
  A curvature;       // d^2(+-s)/d raw^2
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
    const A log_sigmoid = (raw > A(0) ? A(0) : raw) - log_one_plus(e);  // NaN is the first term's
    const A odds = raw < A(0) ? A(1) / e : e;                           // e^-raw
    return {sign * log_sigmoid, inverse ? A(1) + odds : sigmoid, inverse ? -odds : complement,
            sign * complement, -sign * sigmoid * complement};
  }
  A s = raw, slope = A(1), curvature = A(0);
  if (kind == ScaleKind::kBounded) {
    const A t = hyperbolic_tangent(raw * inverse_bound);
    s = bound * t;
    slope = multiply_add(-t, t, A(1));
    curvature = A(-2) * inverse_bound * t * slope;
  }
  const bool bounded = kind == ScaleKind::kBounded;
  const A multiplier = bounded ? exponential_of_bounded(sign * s) : exponential(sign * s);
  return {sign * s, multiplier, inverse ? -multiplier : A(1), sign * slope, sign * curvature};
}

template <class A>
GENCORE_HD A coupling_map(ScaleKind kind, bool inverse, const CouplingScale<A>& scale, A x, A t) {
  if (kind == ScaleKind::kGated) {
    const A out = multiply_add(scale.multiplier, x, scale.shift_factor * t);
    return is_finite(out) ? out : multiply_add(scale.multiplier, x - t, t);  // for inf - inf
  }
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
