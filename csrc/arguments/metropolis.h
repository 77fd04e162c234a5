// What the Metropolis decision's kernel is called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

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

}  // namespace gencore
