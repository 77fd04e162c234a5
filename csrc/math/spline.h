// The monotone rational-quadratic map of one bin (Durkan et al. 2019, eqs. (4) to (8)), its inverse
// and its derivatives, and the knots that raw parameters stand for.
//
// Exponentials are made in the accumulation type; everything after them is double, because a flat
// bin magnifies every rounding by the inverse of its slope. Forward and inverse see the same knots
// bit for bit, so that a round trip loses only what the rounding of its result to fp32 loses.
#pragma once

#include <cmath>

#include "activation.h"
#include "macros.h"
#include "storage.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A raw parameter r within (-bound, bound), bound tanh(r / bound), and the derivative of that.
template <class A>
struct RawBound {
  bool exists;
  bool is_small;
  A bound;
  A inverse;

  explicit GENCORE_HD RawBound(double limit)
      : exists(is_finite(static_cast<A>(limit))),
        is_small(limit <= kSmallBound),
        bound(static_cast<A>(limit)),
        inverse(static_cast<A>(1.0 / limit)) {}

  // Where a bound exists.
  GENCORE_HD Activated<A> within(A raw) const {
    const Activated<A> t = tanh_of_bounded(raw * inverse, is_small);
    return {bound * t.value, t.slope};
  }
  GENCORE_HD Activated<A> operator()(A raw) const {
    return exists ? within(raw) : Activated<A>{raw, A(1)};
  }
};

// Knots on one axis: bin j has the share min + (1 - bins min) e_j / sum of the interval, where e_j
// is the exponential of its logit.
struct SplineAxis {
  double tail_bound;
  double step;   // the length that each bin has at least
  double scale;  // multiplies the sums of exponentials
  int bins;

  GENCORE_HD SplineAxis(double bound, double min_share, int count, double sum)
      : tail_bound(bound),
        step(2.0 * bound * min_share),
        scale(2.0 * bound * (1.0 - count * min_share) / sum),
        bins(count) {}

  // Where bin j begins if it and those below have the smallest width.
  GENCORE_HD double start(int j) const { return step * j - tail_bound; }

  // Knot j, where `below` is the sum of the exponentials before it. The last one is exact too.
  GENCORE_HD double knot(int j, double below) const {
    return j == bins ? tail_bound : scale * below + start(j);
  }
};

// The slope at an inner knot, and its derivative by the bounded raw parameter.
template <class A>
GENCORE_HD Activated<A> knot_slope(A raw, A offset, A min_derivative) {
  const Activated<A> s = activate<Activation::kSoftplus>(raw + offset, A(0));
  // Of log(1 + e), float keeps a rounding of one; where it is small this is -log(1 - slope).
  const A q = s.slope;
  const bool is_small = sizeof(A) == sizeof(float) && q < A(0.018);
  const A series = q * (A(1) + q * (A(1) / 2 + q * (A(1) / 3 + q * (A(1) / 4))));
  return {min_derivative + (is_small ? series : s.value), s.slope};
}

// A bin [left, left + width] that is mapped onto [bottom, bottom + height].
struct SplineBin {
  double left, width, bottom, height;
  double slope0, slope1;  // at its ends
};

struct SplineValue {
  double value;
  double slope;  // dy/dx of the forward map, whichever way the value was found
};

// s^2 M / Q^2 of eq. (5), at xi of the bin's width.
GENCORE_HD double spline_slope(const SplineBin& bin, double s, double xi, double inverse_q) {
  const double rest = 1.0 - xi, ratio = s * inverse_q;
  const double m = bin.slope1 * xi * xi + 2.0 * s * xi * rest + bin.slope0 * rest * rest;
  return ratio * ratio * m;
}

GENCORE_HD double inverse_q(const SplineBin& bin, double s, double xi) {
  return 1.0 / (s + (bin.slope1 + bin.slope0 - 2.0 * s) * xi * (1.0 - xi));
}

GENCORE_HD SplineValue spline_forward(const SplineBin& bin, double x) {
  const double inverse_width = 1.0 / bin.width;
  const double s = bin.height * inverse_width, xi = (x - bin.left) * inverse_width;
  const double n = s * xi * xi + bin.slope0 * xi * (1.0 - xi);
  const double over_q = inverse_q(bin, s, xi);
  return {bin.bottom + bin.height * (n * over_q), spline_slope(bin, s, xi, over_q)};
}

// The root of eqs. (6) to (8), in whichever of its two forms does not cancel: b is negative towards
// the end of a flat bin, and a = s - b is then positive. The discriminant is not negative and the
// root lies in [0, 1], but for roundings.
GENCORE_HD SplineValue spline_inverse(const SplineBin& bin, double y) {
  const double s = bin.height / bin.width;
  const double eta = (y - bin.bottom) / bin.height;
  const double excess = eta * (bin.slope1 + bin.slope0 - 2.0 * s);
  const double a = (s - bin.slope0) + excess;
  const double b = bin.slope0 - excess;
  const double discriminant = b * b + 4.0 * a * s * eta;
  const double root = sqrt(discriminant < 0.0 ? 0.0 : discriminant);
  const bool is_rising = b >= 0.0;
  double xi = (is_rising ? 2.0 * s * eta : root - b) / (is_rising ? b + root : 2.0 * a);
  xi = xi < 0.0 ? 0.0 : (xi > 1.0 ? 1.0 : xi);
  return {bin.left + bin.width * xi, spline_slope(bin, s, xi, inverse_q(bin, s, xi))};
}

// log of a slope; an infinite one's is NaN.
GENCORE_HD float log_slope(float slope) {
  const float log = slope > 0.0f ? log_positive(slope) : -__builtin_huge_valf();
  return is_finite(slope) ? log : slope - slope;
}
GENCORE_HD double log_slope(double slope) { return log(slope); }

// What u y + v log(dy/dx) changes by, per change of x and of the bin.
struct SplineAdjoint {
  double x, left, width, bottom, height, slope0, slope1;
};

GENCORE_HD SplineAdjoint spline_adjoint(const SplineBin& bin, double x, double u, double v) {
  const double s = bin.height / bin.width, excess = bin.slope1 + bin.slope0 - 2.0 * s;
  const double xi = (x - bin.left) / bin.width, rest = 1.0 - xi;
  const double product = xi * rest, product_xi = rest - xi;
  const double m = bin.slope1 * xi * xi + 2.0 * s * product + bin.slope0 * rest * rest;
  const double over_q = 1.0 / (s + excess * product);
  const double r = (s * xi * xi + bin.slope0 * product) * over_q;
  const double by_m = v / m;
  // y = bottom + height r and log(dy/dx) = 2 log s + log m - 2 log q: by r over q, and by q
  const double by_n = u * bin.height * over_q;
  const double by_q = -(by_n * r + 2.0 * v * over_q);
  const double by_xi = by_n * (2.0 * s * xi + bin.slope0 * product_xi) +
                       by_q * excess * product_xi +
                       2.0 * by_m * (bin.slope1 * xi + s * product_xi - bin.slope0 * rest);
  const double by_s =
      by_n * xi * xi + by_q * (1.0 - 2.0 * product) + 2.0 * by_m * product + 2.0 * v / s;
  SplineAdjoint g;
  g.x = by_xi / bin.width;
  g.left = -g.x;
  g.width = -(by_s * s + by_xi * xi) / bin.width;
  g.bottom = u;
  g.height = u * r + by_s / bin.width;
  g.slope0 = by_n * product + by_q * product + by_m * rest * rest;
  g.slope1 = by_q * product + by_m * xi * xi;
  return g;
}

// The same where `in` is mapped back: u and v belong to x and to log(dx/dy), and `.x` of the result
// is by y. The implicit function's derivatives are those of y, divided by minus the slope.
GENCORE_HD SplineAdjoint spline_inverse_adjoint(const SplineBin& bin, double in, double u,
                                                double v) {
  const SplineValue inverse = spline_inverse(bin, in);
  const double x = inverse.value;
  const double curvature = spline_adjoint(bin, x, 0.0, 1.0).x;  // d log(dy/dx) / dx
  const double by_y = (u - v * curvature) / inverse.slope;
  SplineAdjoint g = spline_adjoint(bin, x, -by_y, -v);
  g.x = by_y;
  return g;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
