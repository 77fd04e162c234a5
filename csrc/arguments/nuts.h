// What the kernel of a leaf of the no-U-turn sampler's trees is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

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

}  // namespace gencore
