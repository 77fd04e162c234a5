// What the inverse of an affine autoregressive layer is called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"
#include "mlp.h"

namespace gencore {

// In the order of gencore/ops/made_inverse.py.
enum class AutoregressiveScale { kExponential, kGate };

// The network maps widths[0] = D inputs to 2 D outputs: D shifts, then D raw scales. Entry [l][d]
// of `unit_ends` counts the units of hidden layer l that depend on the first d inputs alone, which
// are the first units of their layer. A kernel does not trust them to be in order and within
// bounds.
struct MadeInverse {
  Dtype dtype;
  std::int64_t rows;
  Mlp mlp;
  const std::int64_t* unit_ends;
  AutoregressiveScale scale;
  double bound;              // largest |s|, or infinite
  const void* z;             // [rows, D]
  const void* context_term;  // [rows, widths[1]] of the accumulation dtype, or null
  void* x;                   // [rows, D]
  void* log_det;             // [rows] of the accumulation dtype

  GENCORE_HD std::int64_t features() const { return mlp.widths[0]; }
  GENCORE_HD int hidden_layers() const { return mlp.layers - 1; }
  // The units of hidden layer l of degree at most d; none for d < 0.
  GENCORE_HD std::int64_t units(int l, std::int64_t d) const {
    if (d < 0) return 0;
    const std::int64_t end = unit_ends[l * features() + d], width = mlp.widths[l + 1];
    return end < 0 ? 0 : end > width ? width : end;
  }
};

}  // namespace gencore
