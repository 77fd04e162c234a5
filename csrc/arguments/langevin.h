// What the Langevin step's kernels are called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// Coefficients of chain i are entry i of the per-chain arrays (fp64 for fp64 ops, else fp32), or
// the scalars where the array is null. Elements of a chain are `chain_size` consecutive ones.
struct LangevinArguments {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t chain_size;
  const void* x;
  const void* grad;
  NoiseSource noise;
  const void* step_sizes;
  const void* noise_scales;
  double step_size;
  double noise_scale;
  double prior_precision;
  double grad_clamp;
  double clamp_min;
  double clamp_max;

  GENCORE_HD bool clamps_state() const { return clamp_min > -kUnbounded || clamp_max < kUnbounded; }
  GENCORE_HD bool clips_grad() const { return grad_clamp < kUnbounded; }
  GENCORE_HD bool has_noise() const {
    return noise.tensor != nullptr || noise_scales != nullptr || noise_scale != 0.0;
  }
  static constexpr double kUnbounded = __builtin_huge_val();
};

struct LangevinStep : LangevinArguments {
  void* out;
};

// Any of the three outputs may be null: it is not wanted.
struct LangevinBackward : LangevinArguments {
  const void* grad_out;
  void* x_grad;
  void* grad_grad;
  void* noise_grad;
};

// Any of the three tangents may be null: it is zero.
struct LangevinTangent : LangevinArguments {
  const void* x_tangent;
  const void* grad_tangent;
  const void* noise_tangent;
  void* out;
};

}  // namespace gencore
