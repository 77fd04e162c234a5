// What the kernels of stochastic-gradient samplers are called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// The new position may be x and the new momentum may be momentum.
struct SghmcStep {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t chain_size;
  const void* x;
  const void* momentum;
  const void* grad;
  NoiseSource noise;
  Coefficient step_size;
  Coefficient friction;
  Coefficient inverse_mass;
  Coefficient noise_scale;
  void* new_position;
  void* new_momentum;

  GENCORE_HD bool has_noise() const { return noise.tensor != nullptr || !noise_scale.is_zero(); }
};

// A null correction is zero.
struct RiemannianLangevinStep {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t chain_size;
  const void* x;
  const void* grad;
  const void* metric;
  const void* correction;
  NoiseSource noise;
  Coefficient step_size;
  void* out;

  GENCORE_HD bool has_noise() const { return noise.tensor != nullptr || !step_size.is_zero(); }
};

}  // namespace gencore
