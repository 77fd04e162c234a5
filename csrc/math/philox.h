// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3" (SC 2011). A random number is a pure function of (seed, offset, element): no state,
// no order of evaluation, the same integers on every device.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

struct Philox4 {
  std::uint32_t word[4];
};

GENCORE_HD Philox4 philox4x32_10(Philox4 counter, std::uint32_t key0, std::uint32_t key1) {
  std::uint32_t c0 = counter.word[0], c1 = counter.word[1];
  std::uint32_t c2 = counter.word[2], c3 = counter.word[3];
#if defined(__CUDACC__)
#pragma unroll
#endif
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// One stream of random words: the key is the seed, the counter is (element / 4, offset), and
// element e takes word e % 4. `refine` selects a second, disjoint stream (the top counter bit,
// which a non-negative offset leaves free) whose words extend the first stream's to 64 bits for
// fp64.
struct PhiloxStream {
  std::uint64_t seed;
  std::uint64_t offset;

  GENCORE_HD Philox4 operator()(std::uint64_t block, bool refine = false) const {
    const Philox4 counter{{static_cast<std::uint32_t>(block),
                           static_cast<std::uint32_t>(block >> 32),
                           static_cast<std::uint32_t>(offset),
                           static_cast<std::uint32_t>(offset >> 32) | (refine ? 0x80000000u : 0u)}};
    return philox4x32_10(counter, static_cast<std::uint32_t>(seed),
                         static_cast<std::uint32_t>(seed >> 32));
  }
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
