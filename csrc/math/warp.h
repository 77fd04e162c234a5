// Bilinear sampling at displaced pixels.
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

// The sample of pixel `at` of `size` ones, of which there is one at least. NaN gives a fraction of
// NaN.
template <class A>
GENCORE_HD WarpAxis<A> warp_axis(A displacement, std::int32_t at, std::int32_t size, bool border) {
  const std::int32_t last = size - 1, margin = border ? 0 : 2;
  // Beyond two pixels outside of the image all is zero, and indices are within bounds.
  const A low = static_cast<A>(-at - margin), high = static_cast<A>(last - at + margin);
  const bool below = displacement<low, above = displacement> high;
  const A bounded = below ? low : above ? high : displacement;
  const A whole = floor(bounded);
  const std::int32_t first = at + static_cast<std::int32_t>(whole == whole ? whole : A(0));
  const std::int32_t second = first + 1;
  WarpAxis<A> axis;
  axis.near = first < 0 ? 0 : first > last ? last : first;
  axis.far = second < 0 ? 0 : second > last ? last : second;
  axis.near_inside = border || axis.near == first ? 1 : 0;
  axis.far_inside = border || axis.far == second ? 1 : 0;
  axis.moves = below || above ? 0 : 1;
  axis.fraction = bounded - whole;
  return axis;
}

// From a to b. A fraction of zero gives a whatever b is, so that no displacement changes nothing.
template <class A>
GENCORE_HD A interpolate(A a, A b, A fraction) {
  const A between = multiply_add(fraction, b - a, a);
  return fraction == 0 ? a : between;
}

// The four pixels around a sample: the upper two, from left to right, and the lower two.
template <class A>
GENCORE_HD A warp_value(const A (&pixel)[4], A right, A down) {
  return interpolate(interpolate(pixel[0], pixel[1], right), interpolate(pixel[2], pixel[3], right),
                     down);
}

// Its derivatives by the two fractions; at whole displacements, from the right and from below.
template <class A>
GENCORE_HD A warp_slope_right(const A (&pixel)[4], A down) {
  return interpolate(pixel[1] - pixel[0], pixel[3] - pixel[2], down);
}
template <class A>
GENCORE_HD A warp_slope_down(const A (&pixel)[4], A right) {
  return interpolate(pixel[2], pixel[3], right) - interpolate(pixel[0], pixel[1], right);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
