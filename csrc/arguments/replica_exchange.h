// What the kernel of swaps between replicas is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// Replica r of chain n is row r * chains + n. `pairs` counts the pairs (r, r + 1), r = parity,
// parity + 2, ..., of all chains: pair k of chain n is number k * chains + n. A uniform is entry
// [r, n] of an array, or else element first + n (replicas - 1) + r of the key's Philox stream.
struct ReplicaSwap {
  Dtype dtype;  // the energies': kFloat64 or kFloat32
  std::int64_t pairs;
  std::int64_t replicas;
  std::int64_t chains;
  std::int64_t parity;
  std::int64_t row_bytes;  // that one chain takes in x and in grad
  void* x;
  void* grad;  // may be null
  void* energy;
  const double* inverse_temperature;
  const double* uniform;
  const std::int64_t* key;
  std::int64_t first;
  bool* is_accepted;  // one a row, false beforehand
};

}  // namespace gencore
