// The bookkeeping of the No-U-Turn sampler for one leaf of one chain's tree, in double whatever the
// dtype.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "metropolis.h"
#include "philox.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Where leaf k = 0, 1, ... is: number k + 1 - 2^depth of the subtree of 2^depth leaves. A leaf of
// even number becomes checkpoint `slot`; but for the first, it begins the second half of the
// subtree that checkpoint slot - 1 begins. One of odd number ends `num_ended` balanced subtrees,
// whose first leaves are the checkpoints slot, slot - 1, ...; the next leaf becomes checkpoint
// `next_slot`.
struct NutsPlace {
  int depth;
  int slot;
  int next_slot;
  int num_ended;
  bool is_first;
  bool is_last;
  bool begins_half;
};

GENCORE_HD NutsPlace nuts_place(std::int64_t leaf) {
  int depth = 0;
  while (((leaf + 1) >> (depth + 1)) != 0) ++depth;
  const std::int64_t size = std::int64_t{1} << depth, number = leaf + 1 - size;
  int slot = 0, num_ended = 0;
  for (std::int64_t bits = number >> 1; bits != 0; bits >>= 1) slot += static_cast<int>(bits & 1);
  for (std::int64_t bits = number; (bits & 1) != 0; bits >>= 1) ++num_ended;
  const bool begins_half = number % 2 == 0 && number != 0;
  return {depth,      slot, slot - num_ended + 2, num_ended, number == 0, number == size - 1,
          begins_half};
}

struct NutsDraws {
  double takes;
  double merges;
  bool is_ahead;
};

GENCORE_HD NutsDraws nuts_draws(const PhiloxStream& stream, std::int64_t chain, std::int64_t leaf) {
  constexpr std::uint64_t kFirstBlock = std::uint64_t{1} << 59;
  const Philox4 block = stream(kFirstBlock + (static_cast<std::uint64_t>(chain) << 20) +
                               static_cast<std::uint64_t>(leaf));
  return {uniform_from_word(block.word[0]), uniform_from_word(block.word[1]),
          (block.word[2] >> 31) != 0};
}

GENCORE_HD double log_add_exp(double a, double b) {
  const double larger = a > b ? a : b, smaller = a > b ? b : a;
  return is_finite(larger) ? larger + log1p(exp(smaller - larger)) : larger;
}

struct NutsLeafVerdict {
  double acceptance_rate;
  double subtree_log_weight;
  bool is_divergent;
  bool takes;
};

// What a leaf of energy `total`, potential and kinetic, is to a subtree whose leaves before it
// weigh e^subtree_log_weight. `usable`: nothing in it is infinite or NaN. A trajectory from where
// the energy is infinite gives its leaves the weight e^-H.
GENCORE_HD NutsLeafVerdict nuts_judge(double initial_energy, double total, bool usable,
                                      bool is_first, double subtree_log_weight, double uniform,
                                      double max_energy_error) {
  const double error = total - initial_energy;
  if (!usable || !is_finite(total) || error > max_energy_error)
    return {usable && is_finite(total) ? exp(-error) : 0.0, subtree_log_weight, true, false};
  const double log_weight = (is_finite(initial_energy) ? initial_energy : 0.0) - total;
  const double sum = is_first ? log_weight : log_add_exp(subtree_log_weight, log_weight);
  const bool takes = uniform < exp(log_weight - sum);
  return {error > 0.0 ? exp(-error) : 1.0, sum, false, takes};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
