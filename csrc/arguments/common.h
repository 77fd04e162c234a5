// What the arguments of several families share. A kernel is called with plain pointers to
// contiguous memory, checked by then.
#pragma once

#include <cstdint>

#include "../math/macros.h"

namespace gencore {

enum class Dtype { kFloat64, kFloat32, kBFloat16, kFloat16 };

// Where a random op's noise comes from: a tensor of the op's dtype if one is given, else the Philox
// stream of `key` (int64 [seed, offset], on the op's device) from element `first` on.
struct NoiseSource {
  const void* tensor;
  const std::int64_t* key;
  std::int64_t first;
};

// The coefficient of element k of chain i is entry i chain_stride + k element_stride of `values`
// (fp64 for fp64 ops, else fp32), or `number` where that is null. A stride of 0 broadcasts.
struct Coefficient {
  const void* values;
  double number;
  std::int64_t chain_stride;
  std::int64_t element_stride;

  GENCORE_HD bool is_zero() const { return values == nullptr && number == 0.0; }
};

}  // namespace gencore
