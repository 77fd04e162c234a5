// What operators with rational-quadratic splines are called with, checked.
#pragma once

#include <cmath>
#include <cstdint>

#include "../arguments/spline.h"
#include "tensors.h"

namespace gencore {

inline SplineSettings spline_settings(const char* op, std::int64_t bins, double tail_bound,
                                      double bound, double min_width, double min_height,
                                      double min_derivative) {
  STD_TORCH_CHECK(bins >= 1 && bins <= kMaxSplineBins, op, ": too few or too many bins");
  STD_TORCH_CHECK(tail_bound > 0.0 && std::isfinite(tail_bound) && bound > 0.0, op,
                  ": tail_bound and bound must be positive");
  STD_TORCH_CHECK(min_width >= 0.0 && min_height >= 0.0 && min_width * bins < 1.0 &&
                      min_height * bins < 1.0 && min_derivative >= 0.0 && min_derivative < 1.0,
                  op, ": a smallest width, height or derivative does not fit");
  return {bins,
          tail_bound,
          bound,
          min_width,
          min_height,
          min_derivative,
          std::log(std::exp(1.0 - min_derivative) - 1.0)};
}

}  // namespace gencore
