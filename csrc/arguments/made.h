// What the inverse of an autoregressive layer is called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"
#include "mlp.h"
#include "spline.h"

namespace gencore {

// In the order of gencore/ops/made_inverse.py.
enum class AutoregressiveStep { kExponential, kGate, kSpline };

// The network maps widths[0] = D inputs to D shifts, then D raw scales, or to the raw parameters of
// D splines: the widths, heights and derivatives of the first, then those of the next. Entry [l][d]
// of `unit_ends` counts the units of hidden layer l that depend on the first d inputs alone, which
// are the first units of their layer. A kernel does not trust them to be in order and within
// bounds.
struct MadeInverse {
  Dtype dtype;
  std::int64_t rows;
  Mlp mlp;
  const std::int64_t* unit_ends;
  AutoregressiveStep step;
  double bound;              // largest |s|, or infinite
  SplineSettings spline;     // of the step that is one
  const void* z;             // [rows, D]
  const void* context_term;  // [rows, widths[1]] of the accumulation dtype, or null
  void* x;                   // [rows, D]
  void* log_det;             // [rows] of the accumulation dtype

  GENCORE_HD std::int64_t features() const { return mlp.widths[0]; }
  GENCORE_HD int hidden_layers() const { return mlp.layers - 1; }
  GENCORE_HD bool is_spline() const { return step == AutoregressiveStep::kSpline; }
  // How many outputs belong to one coordinate, the row of the first, and how far apart rows are.
  GENCORE_HD std::int64_t outputs() const { return is_spline() ? 3 * spline.bins - 1 : 2; }
  GENCORE_HD std::int64_t first_row(std::int64_t i) const {
    return is_spline() ? i * outputs() : i;
  }
  GENCORE_HD std::int64_t row_stride() const { return is_spline() ? 1 : features(); }
  // The units of hidden layer l of degree at most d; none for d < 0.
  GENCORE_HD std::int64_t units(int l, std::int64_t d) const {
    if (d < 0) return 0;
    const std::int64_t end = unit_ends[l * features() + d], width = mlp.widths[l + 1];
    return end < 0 ? 0 : end > width ? width : end;
  }
};

}  // namespace gencore
