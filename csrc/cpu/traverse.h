// The walk that every elementwise CPU kernel shares: blocks of at most kBlock elements, with the
// block's noise ready in registers' reach (a stack buffer in L1) whatever its source.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/common.h"
#include "../math/storage.h"
#include "philox_block.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

inline PhiloxStream stream_of(const std::int64_t* key) {
  return {static_cast<std::uint64_t>(key[0]), static_cast<std::uint64_t>(key[1])};
}

template <class T, class A>
inline void load_block(const void* source, std::int64_t at, std::int64_t count, A* out) {
  const T* in = static_cast<const T*>(source) + at;
  for (std::int64_t k = 0; k < count; ++k) out[k] = load(in[k]);
}

// Calls body(at, count, noise) for consecutive pieces [at, at + count) of [begin, end). A Philox
// block may straddle a piece's start, so pieces are cut where the blocks of the whole tensor end.
template <class T, class Body>
inline void for_each_piece(const NoiseSource& source, bool has_noise, std::int64_t begin,
                           std::int64_t end, Body body) {
  using A = accumulate_t<T>;
  alignas(64) A noise[kBlock] = {};
  for (std::int64_t at = begin; at < end;) {
    std::int64_t count = std::min<std::int64_t>(kBlock, end - at);
    const A* piece = noise;
    if (has_noise && source.tensor != nullptr) {
      load_block<T>(source.tensor, at, count, noise);
    } else if (has_noise) {
      const std::int64_t element = source.first + at;
      const std::int64_t skipped = element % 4;
      normal_block(stream_of(source.key), static_cast<std::uint64_t>(element / 4), noise);
      piece = noise + skipped;
      count = std::min<std::int64_t>(count, kBlock - skipped);
    }
    body(at, count, piece);
    at += count;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
