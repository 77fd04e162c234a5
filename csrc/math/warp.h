// Linear sampling at displaced pixels, in two dimensions or three.
//
// A displacement is taken apart into whole pixels and a fraction before the pixel's own position is
// added, so that the fraction does not depend on where in the image the pixel is: whole
// displacements sample pixels exactly, and every part of an image is warped alike.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Where a sample lies along one axis: between pixel `near` and the next one, `far`. Both are
// clamped to the image; what lies outside of it is zero where the padding is. `moves` says whether
// the sample follows the displacement, which beyond a border it does not.
template <class A>
struct WarpAxis {
  std::int32_t near;
  std::int32_t far;
  std::int32_t near_inside;  // 0 or 1, in the width that a vector of them has
  std::int32_t far_inside;
  std::int32_t moves;
  A fraction;
};

// The sample of pixel `at` of `size` ones, of which there is one at least. A displacement of NaN
// stays at its pixel, with a fraction of NaN.
template <class A>
GENCORE_HD WarpAxis<A> warp_axis(A displacement, std::int32_t at, std::int32_t size, bool border) {
  const std::int32_t last = size - 1, margin = border ? 0 : 2;
  // Beyond two pixels outside of the image all is zero, and indices are within bounds.
  const A low = static_cast<A>(-at - margin), high = static_cast<A>(last - at + margin);
  const bool below = displacement<low, above = displacement> high;
  const A bounded = below ? low : above ? high : displacement;
  const A whole = floor(bounded);
  const bool known = whole == whole;
  const std::int32_t first = at + static_cast<std::int32_t>(known ? whole : A(0));
  const std::int32_t second = first + (known ? 1 : 0);
  WarpAxis<A> axis;
  axis.near = first < 0 ? 0 : first > last ? last : first;
  axis.far = second < 0 ? 0 : second > last ? last : second;
  axis.near_inside = static_cast<std::int32_t>(border) | (axis.near == first ? 1 : 0);
  axis.far_inside = static_cast<std::int32_t>(border) | (axis.far == second ? 1 : 0);
  axis.moves = below || above ? 0 : 1;
  axis.fraction = bounded - whole;
  return axis;
}

// A displacement that is NaN along one axis is so along all, and concerns no pixel but its own.
template <int kRank, class A>
GENCORE_HD void spread_nan(A (&displacement)[kRank]) {
  // Written out and without branches, so that loops over pixels are vectorised. With two axes, z
  // is y.
  const A x = displacement[0], y = displacement[1], z = displacement[kRank - 1];
  const bool spreads = (x != x) | (y != y) | (z != z);
  const A sum = x + y + z;  // NaN where it is taken
  displacement[0] = spreads ? sum : x;
  displacement[1] = spreads ? sum : y;
  displacement[kRank - 1] = spreads ? sum : z;
}

// From a to b. A fraction of zero gives a whatever b is, so that no displacement changes nothing.
template <class A>
GENCORE_HD A interpolate(A a, A b, A fraction) {
  const A between = multiply_add(fraction, b - a, a);
  return fraction == 0 ? a : between;
}

// Between the 2^rank pixels around a sample. Bit a of a pixel's number says whether it is the far
// one along axis a. V is a number or a vector of them.
template <int kRank, class V>
GENCORE_HD V warp_value(const V (&pixels)[1 << kRank], const V (&fraction)[kRank]) {
  V value[1 << kRank];
  for (int j = 0; j < 1 << kRank; ++j) value[j] = pixels[j];
  for (int a = 0; a < kRank; ++a)
    for (int j = 0; j < 1 << (kRank - 1 - a); ++j)
      value[j] = interpolate(value[2 * j], value[2 * j + 1], fraction[a]);
  return value[0];
}

// Its derivative by the fraction along one axis; at whole displacements, towards larger ones.
template <int kRank, class V>
GENCORE_HD V warp_slope(const V (&pixels)[1 << kRank], const V (&fraction)[kRank], int axis) {
  V value[1 << kRank];
  for (int j = 0; j < 1 << kRank; ++j) value[j] = pixels[j];
  for (int a = 0; a < kRank; ++a)
    for (int j = 0; j < 1 << (kRank - 1 - a); ++j)
      value[j] = a == axis ? value[2 * j + 1] - value[2 * j]
                           : interpolate(value[2 * j], value[2 * j + 1], fraction[a]);
  return value[0];
}

// The weight of pixel j in the value.
template <int kRank, class A>
GENCORE_HD A warp_weight(int j, const A (&fraction)[kRank]) {
  A weight = j & 1 ? fraction[0] : A(1) - fraction[0];
  for (int a = 1; a < kRank; ++a) weight *= j >> a & 1 ? fraction[a] : A(1) - fraction[a];
  return weight;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
