// Uniform dequantisation: y = (x + u) / bins of a grey level x, u in [0, 1).
#pragma once

#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A uniform is the midpoint of one of 2^15 cells, so that x + u, of 24 bits for x < 256, is exact:
// rounding never carries it into the next bin, nor y to 1. fp64 has the bits for 2^32 cells.
GENCORE_HD float dequantize_word(std::uint8_t x, std::uint32_t word, float bins) {
  const std::int32_t sum =
      (static_cast<std::int32_t>(x) << 16) | static_cast<std::int32_t>(word >> 17 << 1) | 1;
  return static_cast<float>(sum) / (65536.0f * bins);
}
GENCORE_HD double dequantize_word(std::uint8_t x, std::uint32_t word, double bins) {
  return (x + (static_cast<double>(word) + 0.5) * 2.3283064365386963e-10) / bins;  // 2^-32
}

// The same for a given u. Bins have the edges k / bins as T rounds them: the sum and the quotient
// may round up to the next one, and then the number below it is taken.
GENCORE_HD float dequantize_uniform(std::uint8_t x, float u, float bins) {
  const float next = (static_cast<float>(x) + 1.0f) / bins;
  const float below = bit_cast<float>(bit_cast<std::int32_t>(next) - 1);
  const float y = (static_cast<float>(x) + u) / bins;
  return y < next ? y : below;
}
GENCORE_HD double dequantize_uniform(std::uint8_t x, double u, double bins) {
  const double next = (x + 1.0) / bins;
  const double below = bit_cast<double>(bit_cast<std::int64_t>(next) - 1);
  const double y = (x + u) / bins;
  return y < next ? y : below;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
