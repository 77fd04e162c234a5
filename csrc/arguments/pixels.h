// Discrete pixels, and the parameters of their distributions, beside each other in memory.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Images [images, channels, plane] of levels, uint8 or, if `wide`, int64.
struct Pixels {
  Dtype dtype;  // of the parameters
  bool wide;
  std::int64_t images;
  std::int64_t channels;
  std::int64_t plane;
  const void* x;

  // Level of an element, or a negative number for one that is not below `levels`.
  GENCORE_HD std::int32_t level(std::int64_t element, std::int64_t levels) const {
    const std::int64_t value = wide ? static_cast<const std::int64_t*>(x)[element]
                                    : static_cast<const std::uint8_t*>(x)[element];
    return value >= 0 && value < levels ? static_cast<std::int32_t>(value) : -1;
  }
};

}  // namespace gencore
