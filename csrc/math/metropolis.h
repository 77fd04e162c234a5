// The Metropolis decision about one chain's proposal, in double whatever the dtype.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "philox.h"
#include "storage.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The midpoint of a word's bin, so that it is neither 0 nor 1.
GENCORE_HD double uniform_from_word(std::uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 2.3283064365386963e-10;
}

// Word `element` of a stream. Chosen without an index: a GPU's registers have none.
GENCORE_HD std::uint32_t word_of_element(const Philox4& block, std::int64_t element) {
  const std::uint32_t even = (element & 2) != 0 ? block.word[2] : block.word[0];
  const std::uint32_t odd = (element & 2) != 0 ? block.word[3] : block.word[1];
  return (element & 1) != 0 ? odd : even;
}

struct MetropolisEnergies {
  double potential;
  double kinetic;
};

struct MetropolisDecision {
  double acceptance_rate;
  bool is_accepted;
  bool is_divergent;
};

// `usable`: nothing in the proposal is infinite or NaN. A current energy of +infinity makes the
// error -infinity, which accepts; one of NaN makes it NaN, which rejects.
GENCORE_HD MetropolisDecision metropolis_decide(const MetropolisEnergies& current,
                                                const MetropolisEnergies& proposal, bool usable,
                                                double uniform, double max_energy_error) {
  const double error =
      (proposal.potential - current.potential) + (proposal.kinetic - current.kinetic);
  const bool valid =
      usable && is_finite(proposal.potential) && is_finite(proposal.kinetic) && error == error;
  if (!valid) return {0.0, false, true};
  const double rate = error > 0.0 ? exp(-error) : 1.0;
  const bool is_accepted = uniform < rate;
  const bool is_divergent = error > max_energy_error;
  return {rate, is_accepted, is_divergent};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
