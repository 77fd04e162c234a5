// Exchanges between neighbouring replicas over a range of pairs.
// Bytes per pair: two energies read, two flags written; where the swap is accepted, both rows of x
// and of grad read and written.
#pragma once

#include "../arguments/replica_exchange.h"
#include "../math/metropolis.h"
#include "../math/replica_exchange.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

inline void swap_bytes(void* left, void* right, std::int64_t count) {
  auto* a = static_cast<unsigned char*>(left);
  auto* b = static_cast<unsigned char*>(right);
// Two rows never overlap.
#pragma GCC ivdep
  for (std::int64_t k = 0; k < count; ++k) {
    const unsigned char kept = a[k];
    a[k] = b[k];
    b[k] = kept;
  }
}

inline void swap_rows(void* rows, std::int64_t low, std::int64_t high, std::int64_t bytes) {
  if (rows == nullptr) return;
  char* first = static_cast<char*>(rows);
  swap_bytes(first + low * bytes, first + high * bytes, bytes);
}

inline double swap_uniform(const ReplicaSwap& args, std::int64_t replica, std::int64_t chain) {
  if (args.uniform != nullptr) return args.uniform[replica * args.chains + chain];
  const std::int64_t element = args.first + chain * (args.replicas - 1) + replica;
  const Philox4 block = stream_of(args.key)(static_cast<std::uint64_t>(element / 4));
  return uniform_from_word(word_of_element(block, element));
}

template <class E>
void replica_swap_range(const ReplicaSwap& args, std::int64_t begin, std::int64_t end) {
  E* energy = static_cast<E*>(args.energy);
  for (std::int64_t pair = begin; pair < end; ++pair) {
    const std::int64_t replica = args.parity + 2 * (pair / args.chains);
    const std::int64_t chain = pair % args.chains;
    const std::int64_t low = replica * args.chains + chain, high = low + args.chains;
    const double uniform = swap_uniform(args, replica, chain);
    if (!swap_is_accepted(args.inverse_temperature[replica], args.inverse_temperature[replica + 1],
                          energy[low], energy[high], uniform))
      continue;
    args.is_accepted[low] = args.is_accepted[high] = true;
    const E kept = energy[low];
    energy[low] = energy[high];
    energy[high] = kept;
    swap_rows(args.x, low, high, args.row_bytes);
    swap_rows(args.grad, low, high, args.row_bytes);
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
