// What the kernel of uniform dequantisation is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// A given noise is a tensor of the result's dtype, kFloat64 or kFloat32.
struct Dequantize {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t bins;
  const std::uint8_t* x;
  NoiseSource noise;
  void* out;
  bool* is_invalid;  // set where a value is not below bins; null: nobody looks
};

}  // namespace gencore
