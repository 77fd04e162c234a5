// The logistic distribution, cut into bins of which the first and the last are open.
//
// All is counted in levels: raw means and log-scales are those of levels scaled to [-1, 1]. With a
// and b = a + d a bin's edges, less the mean, in scales, its probability is sigmoid(b) sigmoid(-a)
// (1 - e^-d), a product without a difference of nearly equal numbers, so that its logarithm is
// exact at any distance from the mean and for bins of any width. fp32 is branch-free and free of
// library calls.
#pragma once

#include <cmath>
#include <cstdint>

#include "activation.h"
#include "logarithm.h"
#include "macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Where a float still divides a bin by the scale.
inline constexpr double kLargestLogScale = 30.0;

// The bins of L levels, `size` levels each. A bin is known by its lower edge, which the first one
// has too.
template <class A>
struct LogisticBins {
  A half;  // (L - 1) / 2: what one unit of raw means is in levels
  A inverse_half;
  A size;
  A first;  // the lower edge of the first bin
  A last;   // of the last one
  A lowest_log_scale;

  GENCORE_HD LogisticBins(std::int64_t levels, std::int64_t bin_size, double first_edge,
                          double min_log_scale)
      : half(static_cast<A>(0.5 * static_cast<double>(levels - 1))),
        inverse_half(static_cast<A>(2.0 / static_cast<double>(levels - 1))),
        size(static_cast<A>(bin_size)),
        first(static_cast<A>(first_edge)),
        last(static_cast<A>(static_cast<double>(levels - bin_size) + first_edge)),
        lowest_log_scale(static_cast<A>(min_log_scale)) {}

  // The lower edge of the bin of a level, which may be NaN. Levels are few enough for the quotient
  // of two floats to have the right integer part.
  GENCORE_HD A lower_edge(A level) const { return floor(level / size) * size + first; }
  // A level scaled to [-1, 1].
  GENCORE_HD A scaled(A level) const { return level * inverse_half - A(1); }
};

// e^-rho of a raw log-scale rho within its bounds, and 1 or 0, the derivative of the bounding.
template <class A>
struct LogisticPrecision {
  A value;
  A moves;

  GENCORE_HD LogisticPrecision(A raw, const LogisticBins<A>& bins) {
    const A highest = static_cast<A>(kLargestLogScale);
    const bool below = raw<bins.lowest_log_scale, above = raw> highest;
    moves = below || above ? A(0) : A(1);
    value = exponential_of_bounded(-(below ? bins.lowest_log_scale : above ? highest : raw));
  }
};

// 1 - e^-d for d >= 0, where e is e^-d.
GENCORE_HD float one_minus_exponential(float d, float e) {
  float p = multiply_add(d, -1.0f / 5040, 1.0f / 720);
  p = multiply_add(-p, d, 1.0f / 120);
  p = multiply_add(-p, d, 1.0f / 24);
  p = multiply_add(-p, d, 1.0f / 6);
  p = multiply_add(-p, d, 0.5f);
  p = multiply_add(-p, d, 1.0f);
  return d < 0.5f ? p * d : 1.0f - e;
}
GENCORE_HD double one_minus_exponential(double d, double) { return -expm1(-d); }

// Everything about a bin that its log-probability and its derivatives need.
template <class A>
struct LogisticBin {
  A a, b, d;       // edges and width, in scales
  A below, above;  // e^-|a| and e^-|b|
  A narrow;        // e^-d
  A width;         // 1 - e^-d
  bool is_first, is_last;

  GENCORE_HD LogisticBin(A lower, A raw_mean, A precision, const LogisticBins<A>& bins) {
    const A mu = (raw_mean + A(1)) * bins.half, inverse = precision * bins.inverse_half;
    a = (lower - mu) * inverse;
    b = (lower + bins.size - mu) * inverse;
    d = bins.size * inverse;
    below = exp_negative(a < A(0) ? a : -a);
    above = exp_negative(b < A(0) ? b : -b);
    narrow = exp_negative(-d);
    width = one_minus_exponential(d, narrow);
    is_first = lower == bins.first;
    is_last = lower == bins.last;
  }

  GENCORE_HD A log_prob() const {
    const A from_below = is_first ? A(0) : a < A(0) ? A(0) : a;
    const A from_above = is_last ? A(0) : b < A(0) ? -b : A(0);
    const A rest = (is_first ? A(1) : A(1) + below) * (is_last ? A(1) : A(1) + above);
    const A share = is_first || is_last ? A(1) : width;
    return logarithm(share / rest) - (from_below + from_above);
  }

  // Derivatives of the log-probability by the raw mean, and by the raw log-scale within its bounds.
  struct Slopes {
    A mean;
    A log_scale;
  };
  GENCORE_HD Slopes slopes(A precision) const {
    const A by_a = A(1) / (A(1) + below), by_b = A(1) / (A(1) + above);
    const A lower = is_first ? A(0) : a < A(0) ? below * by_a : by_a;  // sigmoid(a)
    const A upper = is_last ? A(0) : b < A(0) ? by_b : above * by_b;   // sigmoid(-b)
    const A by_width = is_first || is_last ? A(0) : d * narrow / width;
    return {precision * (lower - upper), a * lower - b * upper - by_width};
  }
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
