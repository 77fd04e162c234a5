// Dequantisation over a range of elements. Reads a byte an element (and a given noise), writes one
// element; the noise is made in registers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/dequantize.h"
#include "../math/dequantize.h"
#include "../math/storage.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void dequantize_blocks(const Dequantize& args, std::int64_t begin, std::int64_t end) {
  const T bins = static_cast<T>(args.bins);
  const std::uint8_t* x = args.x;
  T* out = static_cast<T*>(args.out);
  if (args.noise.tensor != nullptr) {
    const T* noise = static_cast<const T*>(args.noise.tensor);
    for (std::int64_t k = begin; k < end; ++k) out[k] = dequantize_uniform(x[k], noise[k], bins);
    return;
  }
  const PhiloxStream stream = stream_of(args.noise.key);
  PhiloxWords words;
  alignas(64) std::uint32_t in_order[kBlock];
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t element = args.noise.first + at;
    const std::int64_t skipped = element % 4;
    const std::int64_t count = std::min<std::int64_t>(kBlock - skipped, end - at);
    philox_words(stream, static_cast<std::uint64_t>(element / 4), false, words);
    for (int i = 0; i < kPhiloxBlocks; ++i)
      for (int j = 0; j < 4; ++j) in_order[4 * i + j] = words.word[j][i];
    const std::uint32_t* piece = in_order + skipped;
    for (std::int64_t k = 0; k < count; ++k)
      out[at + k] = dequantize_word(x[at + k], piece[k], bins);
    at += count;
  }
}

template <class T>
void dequantize_range(const Dequantize& args, std::int64_t begin, std::int64_t end) {
  if (args.is_invalid != nullptr) {
    int largest = 0;
    for (std::int64_t k = begin; k < end; ++k) largest = std::max<int>(largest, args.x[k]);
    // Other threads may write the same.
    if (largest >= args.bins) __atomic_store_n(args.is_invalid, true, __ATOMIC_RELAXED);
  }
  dequantize_blocks<T>(args, begin, end);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
