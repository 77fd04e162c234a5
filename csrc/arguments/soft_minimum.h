// What the kernels of sums over all pairs of two point clouds are called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Clouds x [batches, rows, dims] and y [batches, columns, dims], with the cost C = |x_i -
// y_j|^power of a pair.
struct PairSums {
  Dtype dtype;  // of all tensors, fp64 or fp32
  int power;    // 1 or 2
  double epsilon;
  std::int64_t batches;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t dims;
  const void* x;
  const void* y;
  const void* column_logs;  // v [batches, columns], which may be minus infinity
};

struct SoftMinimum : PairSums {
  void* minimum;  // -epsilon log sum_j exp(v_j - C_ij / epsilon), [batches, rows]
};

// Of P_ij = c_j exp(u_i + v_j - C_ij / epsilon). There is a column at least.
struct PlanSums : PairSums {
  const void* row_logs;  // u [batches, rows]
  const void* factors;   // c [batches, columns], or null for ones
  void* masses;          // sum_j P_ij, [batches, rows]
  void* slopes;          // sum_j P_ij dC_ij/dx_i, [batches, rows, dims]
};

}  // namespace gencore
