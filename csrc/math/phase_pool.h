// Phase pooling: coordinates in a pool, and the two elements that share a phase.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

GENCORE_HD float natural_logarithm(float x) { return log_positive(x); }
GENCORE_HD double natural_logarithm(double x) { return log(x); }

// From -1 to 1 in equal steps over an axis of a pool; 0 where it has one element. The reciprocal is
// the same for all elements.
template <class A>
GENCORE_HD A phase_coordinate(std::int64_t at, std::int64_t size) {
  const A reciprocal = size > 1 ? A(1) / static_cast<A>(size - 1) : A(0);
  return static_cast<A>(2 * at - (size - 1)) * reciprocal;
}

// Where a phase lies along an axis: between element `near` and the next one, which may be outside
// of the pool. `slope` is the derivative of `fraction` by the phase.
template <class A>
struct PhaseCell {
  std::int32_t near;
  A fraction;
  A slope;
};

// NaN gives a fraction of NaN. On an element the phase is counted to the next one, and at 1, where
// a clamped one ends, to the one before.
template <class A>
GENCORE_HD PhaseCell<A> phase_cell(A phase, std::int64_t size, bool clamp) {
  const A scale = static_cast<A>(size - 1) / A(2);
  const bool below = phase<A(-1), above = phase> A(1);
  A at = (phase + A(1)) * scale;
  const A last = static_cast<A>(size - 1);
  if (clamp) at = below ? A(0) : above ? last : at;
  // Beyond one element outside of the pool nothing is left.
  const bool outside = at < A(-2) || at > last + A(2);
  at = at < A(-2) ? A(-2) : at > last + A(2) ? last + A(2) : at;
  A near = floor(at);
  if (clamp && near > last - A(1)) near = last - A(1);
  PhaseCell<A> cell;
  cell.near = static_cast<std::int32_t>(near == near ? near : A(0));
  cell.fraction = at - near;
  cell.slope = outside || (clamp && (below || above)) ? A(0) : scale;
  return cell;
}

// The share of one element of an axis, which is NaN for a phase of NaN.
template <class A>
GENCORE_HD A phase_share(A phase, std::int64_t element, std::int64_t size, bool clamp) {
  if (clamp) phase = phase < A(-1) ? A(-1) : phase > A(1) ? A(1) : phase;
  const A scale = static_cast<A>(size - 1) / A(2);
  const A distance = fabs((phase + A(1)) * scale - static_cast<A>(element));
  return distance >= A(1) ? A(0) : A(1) - distance;
}

// The sum of the eight corners around a phase, by their shares, and its derivatives by the phase.
// Those of an axis of one element, whose share is one, are not used.
template <class A>
GENCORE_HD A phase_cell_gradient(const A (&corner)[2][2][2], const PhaseCell<A>* cell,
                                 A (&slope)[3]) {
  const A f = cell[0].fraction, r = cell[1].fraction, c = cell[2].fraction;
  A across[2][2], along[2][2];
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      across[i][j] = corner[i][j][0] * (A(1) - c) + corner[i][j][1] * c;
      along[i][j] = corner[i][j][1] - corner[i][j][0];
    }
  A rows[2], row_slope[2], column_slope[2];
  for (int i = 0; i < 2; ++i) {
    rows[i] = across[i][0] * (A(1) - r) + across[i][1] * r;
    row_slope[i] = across[i][1] - across[i][0];
    column_slope[i] = along[i][0] * (A(1) - r) + along[i][1] * r;
  }
  slope[0] = cell[0].slope * (rows[1] - rows[0]);
  slope[1] = cell[1].slope * (row_slope[0] * (A(1) - f) + row_slope[1] * f);
  slope[2] = cell[2].slope * (column_slope[0] * (A(1) - f) + column_slope[1] * f);
  return rows[0] * (A(1) - f) + rows[1] * f;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
