// What the kernel of plain random numbers is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// Writes normals of `dtype`, or the raw 32-bit words as int64.
struct PhiloxFill {
  Dtype dtype;
  bool words;
  std::int64_t numel;
  std::int64_t first;
  const std::int64_t* key;
  void* out;
};

}  // namespace gencore
