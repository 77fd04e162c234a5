// What the affine coupling's kernels are called with.
#pragma once

#include <cstdint>

#include "../math/affine.h"
#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Rows of one tensor: row i begins at i * stride and is contiguous. Null where there is none.
struct ConstRows {
  const void* data;
  std::int64_t stride;
};
struct Rows {
  void* data;
  std::int64_t stride;
};

// Row i of a whole tensor (x, out and their derivatives) has `size` transformed elements from
// `begin` on and `rest_size` that pass through from `rest_begin` on; a row of a raw scale or a
// shift has the transformed elements only. With a checkerboard all elements count as transformed,
// in planes of height * width, but those pass through whose h + w has the parity `passing`.
//
// Items of work are pieces of a row: `piece` transformed elements, the last one fewer, and as many
// that pass through. Item i is piece i % pieces of row i / pieces, and the sum over its elements is
// entry i of `sums`: of double, or where a row is one piece of the accumulation type.
struct CouplingArguments {
  Dtype dtype;
  ScaleKind kind;
  bool inverse;
  double bound;
  std::int64_t rows;
  std::int64_t begin;
  std::int64_t size;
  std::int64_t rest_begin;
  std::int64_t rest_size;
  std::int64_t height;
  std::int64_t width;  // 0: no checkerboard
  int passing;
  std::int64_t piece;
  std::int64_t pieces;
  void* sums;
  ConstRows x;
  ConstRows raw;    // null: zeros
  ConstRows shift;  // may be null where no result depends on it

  GENCORE_HD std::int64_t items() const { return rows * pieces; }
};

struct AffineCoupling : CouplingArguments {
  Rows out;
};

// `grad_log_det` has one entry a row, of the accumulation type. Any gradient may be null: it is
// zero, or not wanted. Where `x_out` is not null, x is the output of the forward map, whose input
// is rebuilt there. No sums.
struct AffineCouplingBackward : CouplingArguments {
  ConstRows grad_out;
  const void* grad_log_det;
  Rows x_grad;
  Rows raw_grad;
  Rows shift_grad;
  Rows x_out;
};

// The tangents are the gradients of the backward pass's results. Sums are the gradient with respect
// to grad_log_det.
struct AffineCouplingDoubleBackward : CouplingArguments {
  ConstRows grad_out;
  const void* grad_log_det;
  ConstRows x_tangent;
  ConstRows raw_tangent;
  ConstRows shift_tangent;
  Rows grad_out_grad;
  Rows x_grad;
  Rows raw_grad;
  Rows shift_grad;
};

// The log-determinants of rows that were cut into pieces.
struct PieceSums {
  Dtype dtype;
  std::int64_t rows;
  std::int64_t pieces;
  const double* sums;
  void* out;  // [rows], of the accumulation type
};

}  // namespace gencore
