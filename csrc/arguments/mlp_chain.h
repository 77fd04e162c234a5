// What the kernels of whole chains on a network's energy are called with.
#pragma once

#include <cstdint>

#include "common.h"
#include "langevin.h"
#include "mlp.h"

namespace gencore {

// Whole chains on E(x) = f(x) + prior_precision |x|^2 / 2, each x of chain_size = widths[0]
// elements. The states after steps thin, 2 thin, ..., num_steps are kept: `out` is [kept, chains,
// chain_size]. Per-chain coefficients have an entry for every chain. Step k draws from the key's
// offset + k; given noise is [num_steps, chains, chain_size].
struct MlpLangevinChain : LangevinArguments {
  Mlp mlp;
  std::int64_t num_steps;
  std::int64_t thin;
  void* out;

  GENCORE_HD std::int64_t chains() const { return numel / chain_size; }
};

// Transition k draws from the key's offset + k: its momenta are elements first_chain * dims, ... of
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

}  // namespace gencore
