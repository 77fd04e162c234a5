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

// Everything about a bin that its log-probability and its derivatives need. Masks are numbers,
// because GCC does not vectorise what keeps truth values.
template <class A>
struct LogisticBin {
  A a, b, d;       // edges and width, in scales
  A lower, upper;  // 1, or 0 where the bin has no such edge
  A below, above;  // e^-|a| and e^-|b|, or 0
  A narrow;        // e^-d
  A width;         // 1 - e^-d

  GENCORE_HD LogisticBin(A edge, A raw_mean, A precision, const LogisticBins<A>& bins) {
    const A mu = (raw_mean + A(1)) * bins.half, inverse = precision * bins.inverse_half;
    a = (edge - mu) * inverse;
    b = (edge + bins.size - mu) * inverse;
    d = bins.size * inverse;
    lower = edge == bins.first ? A(0) : A(1);
    upper = edge == bins.last ? A(0) : A(1);
    below = exp_negative(a < A(0) ? a : -a) * lower;
    above = exp_negative(b < A(0) ? b : -b) * upper;
    narrow = exp_negative(-d);
    width = one_minus_exponential(d, narrow);
  }

  GENCORE_HD A log_prob() const {
    const A from_below = (a < A(0) ? A(0) : a) * lower;
    const A from_above = (b < A(0) ? -b : A(0)) * upper;
    const A share = lower * upper == A(0) ? A(1) : width;
    return logarithm(share / ((A(1) + below) * (A(1) + above))) - (from_below + from_above);
  }

  // Derivatives of the log-probability by the raw mean, and by the raw log-scale within its bounds.
  struct Slopes {
    A mean;
    A log_scale;
  };
  GENCORE_HD Slopes slopes(A precision) const {
    const A by_a = (a < A(0) ? below : lower) / (A(1) + below);  // sigmoid(a)
    const A by_b = (b < A(0) ? upper : above) / (A(1) + above);  // sigmoid(-b)
    const A by_d = d * narrow / width * (lower * upper);
    return {precision * (by_a - by_b), a * by_a - b * by_b - by_d};
  }
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
