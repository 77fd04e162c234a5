// -log p of a flow with standard normal latents: |z|^2 / 2 + D log(2 pi) / 2 - log_det.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// In double, for the terms may be large and cancel.
GENCORE_HD double gaussian_nll(double square, std::int64_t size, double log_det) {
  const double log_normalizer = 0.91893853320467274178 * static_cast<double>(size);
  return 0.5 * square + log_normalizer - log_det;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
