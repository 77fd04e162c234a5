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

// f(x) of a fully connected network, of one output where it is an energy: layer l maps widths[l] to
// widths[l + 1] and all but the last are followed by the activation. Weights are [out, in] and of
// the accumulation dtype. No layers: f = 0, with widths[0] inputs.
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

// Transition k draws from the key's draw + k: its momenta are elements first_chain * dims, ... of
// the stream, its uniforms elements first_uniform, .... Results are of the accumulation dtype, one
// a chain.
struct MlpHmcChain {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t first_chain;
  std::int64_t first_uniform;
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

// The coefficient of element k of chain i is entry i chain_stride + k element_stride of `values`
// (fp64 for fp64 ops, else fp32), or `number` where that is null. A stride of 0 broadcasts.
struct Coefficient {
  const void* values;
  double number;
  std::int64_t chain_stride;
  std::int64_t element_stride;

  GENCORE_HD bool is_zero() const { return values == nullptr && number == 0.0; }
};

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

// Energies, kinetic energies, a given uniform and the rate have one entry a chain, fp64 for fp64
// ops, else fp32. The three `new_` results may be x, grad and energy.
struct MetropolisAccept {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t chain_size;
  const void* x;
  const void* grad;
  const void* energy;
  const void* proposal;
  const void* proposal_grad;
  const void* proposal_energy;
  const void* kinetic;
  const void* proposal_kinetic;
  NoiseSource uniform;
  double max_energy_error;
  void* new_x;
  void* new_grad;
  void* new_energy;
  bool* is_accepted;
  void* acceptance_rate;
  bool* is_divergent;
};

// Leaf `leaf` of the trees of `chains` chains, of at most 2^max_depth - 1 leaves. Each tensor of
// states is planes of chains * chain_size elements: `ends` are the positions, momenta and gradients
// of the trajectory's first state and of its last; `checkpoints` positions and momenta of a leaf
// and of the one before it; `drawn` positions and gradients from the newest subtree and from the
// trajectory without it. `energies` (fp64 for fp64 ops, else fp32) has a row for either, `weights`
// one for the initial energy, the two log weights, trajectory's and subtree's, and the sum of
// acceptance rates; `counts` one for the leaves and for the doublings; `flags` one for running,
// growing ahead and divergent.
struct NutsLeaf {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t chain_size;
  Coefficient step_size;  // does not vary within a chain
  Coefficient inverse_mass;
  void* position;
  void* momentum;
  void* ends;
  void* checkpoints;
  void* drawn;
  void* energies;
  double* weights;
  std::int64_t* counts;
  bool* flags;
  const void* energy;
  const void* grad;
  const std::int64_t* key;
  std::int64_t first_chain;
  std::int64_t leaf;
  std::int64_t max_depth;
  double max_energy_error;
};

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

// Replica r of chain n is row r * chains + n. `pairs` counts the pairs (r, r + 1), r = parity,
// parity + 2, ..., of all chains: pair k of chain n is number k * chains + n. A uniform is entry
// [r, n] of an array, or else element first + n (replicas - 1) + r of the key's Philox stream.
struct ReplicaSwap {
  Dtype energy_dtype;  // kFloat64 or kFloat32
  std::int64_t pairs;
  std::int64_t replicas;
  std::int64_t chains;
  std::int64_t parity;
  std::int64_t row_bytes;  // of one chain in x and grad
  void* x;
  void* grad;  // may be null
  void* energy;
  const double* inverse_temperature;
  const double* uniform;
  const std::int64_t* key;
  std::int64_t first;
  bool* is_accepted;  // one a row, false beforehand
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
