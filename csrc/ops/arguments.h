// What the two back ends are called with: plain pointers to contiguous memory, checked by then.
#pragma once

#include <cstdint>

#include "../math/activation.h"
#include "../math/macros.h"

namespace gencore {

enum class Dtype { kFloat64, kFloat32, kBFloat16, kFloat16 };

// Where a random op's noise comes from: a tensor of the op's dtype if one is given, else the Philox
// stream of `key` (int64 [seed, draw], on the op's device) from element `first` on.
struct NoiseSource {
  const void* tensor;
  const std::int64_t* key;
  std::int64_t first;
};

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

// f(x) of a fully connected network with one output: layer l maps widths[l] to widths[l + 1] and
// all but the last are followed by the activation. Weights are [out, in] and of the accumulation
// dtype. No layers: f = 0, with widths[0] inputs.
inline constexpr int kMaxMlpLayers = 5;
struct Mlp {
  int layers;
  std::int64_t widths[kMaxMlpLayers + 1];
  const void* weights[kMaxMlpLayers];
  const void* biases[kMaxMlpLayers];
  Activation activation;
  double negative_slope;
};

// Whole chains on E(x) = f(x) + prior_precision |x|^2 / 2, each x of chain_size = widths[0]
// elements. The states after steps thin, 2 thin, ..., num_steps are kept: `out` is [kept, chains,
// chain_size]. Per-chain coefficients have an entry for every chain. Step k draws from the key's
// draw + k; given noise is [num_steps, chains, chain_size].
struct MlpLangevinChain : LangevinArguments {
  Mlp mlp;
  std::int64_t num_steps;
  std::int64_t thin;
  void* out;

  GENCORE_HD std::int64_t chains() const { return numel / chain_size; }
};

// Transition k draws its momentum from the key's draw + 2 k and its uniform, one an element of a
// stream that starts at chain `first_chain`, from draw + 2 k + 1. Results are of the accumulation
// dtype, one a chain.
struct MlpHmcChain {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t first_chain;
  Mlp mlp;
  const void* x;
  const std::int64_t* key;
  const void* step_sizes;      // one a chain, or null
  const void* inverse_masses;  // one a dimension, or null
  double step_size;
  double inverse_mass;
  double prior_precision;
  double max_energy_error;
  std::int64_t num_leapfrog;
  std::int64_t num_steps;
  std::int64_t thin;
  void* out;
  void* energy;
  void* acceptance_rate;  // mean over the transitions
  void* num_accepted;
  void* num_divergent;
};

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
