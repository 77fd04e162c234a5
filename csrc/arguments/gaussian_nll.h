// What the kernel of a flow's negative log-density is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// log_det and out have an entry for each chain, fp64 for fp64 ops, else fp32.
struct GaussianNll {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t chain_size;
  const void* z;
  const void* log_det;
  void* out;
};

}  // namespace gencore
