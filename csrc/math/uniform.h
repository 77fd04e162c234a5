// A uniform of (0, 1) from one Philox word: the midpoint of its bin, exact in fp64.
#pragma once

#include <cstdint>

#include "macros.h"
#include "philox.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

GENCORE_HD double uniform_of(const PhiloxStream& stream, std::uint64_t element) {
  const Philox4 words = stream(element / 4);
  // Chosen without an index, which would put the words in a GPU's local memory.
  const std::uint32_t even = (element & 2u) != 0 ? words.word[2] : words.word[0];
  const std::uint32_t odd = (element & 2u) != 0 ? words.word[3] : words.word[1];
  return (((element & 1u) != 0 ? odd : even) + 0.5) * 2.3283064365386963e-10;  // 2^-32
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
