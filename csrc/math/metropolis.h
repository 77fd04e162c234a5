// The Metropolis-Hastings decision of one chain.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A uniform on (0, 1) from a Philox word.
GENCORE_HD double uniform_of(std::uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 2.3283064365386963e-10;  // 2^-32
}

struct MetropolisDecision {
  double rate;  // the probability of acceptance
  bool is_accepted;
  bool is_divergent;
};

// For the change of the total energy from `current` to `proposal`. A proposal that is not finite is
// never accepted; from a state of infinite energy every other one is.
GENCORE_HD MetropolisDecision metropolis(double current, double proposal, double uniform,
                                         double max_energy_error) {
  const double infinity = __builtin_huge_val();
  if (!(proposal > -infinity && proposal < infinity)) return {0.0, false, true};
  const double error = proposal - current;
  const double rate = error <= 0.0 ? 1.0 : (error > 0.0 ? exp(-error) : 0.0);
  return {rate, uniform<rate, error> max_energy_error};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
