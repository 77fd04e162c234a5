// What the leapfrog integrator's kernels are called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// Chain i is the elements [i chain_size, (i + 1) chain_size), of which there may be none.
struct LeapfrogArguments {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t chains;
  std::int64_t chain_size;
  Coefficient step_size;
  Coefficient inverse_mass;
};

// `kinetic` has one entry a chain, fp64 for fp64 ops, else fp32.
struct LeapfrogStart : LeapfrogArguments {
  const void* x;
  const void* grad;
  NoiseSource noise;
  void* position;
  void* momentum;
  void* kinetic;
};

// The new position may be x and the new momentum may be momentum.
struct LeapfrogStep : LeapfrogArguments {
  const void* x;
  const void* momentum;
  const void* grad;
  void* new_position;
  void* new_momentum;
};

struct LeapfrogEnd : LeapfrogArguments {
  const void* momentum;
  const void* grad;
  void* new_momentum;
  void* kinetic;
};

}  // namespace gencore
