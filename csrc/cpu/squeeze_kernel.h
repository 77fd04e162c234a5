// Squeezing over a range of pixel rows. Reads and writes each element once.
#pragma once

#include <cstdint>

#include "../arguments/squeeze.h"
#include "../math/macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// kFactor 0: known only at run time.
template <class Word, int kFactor>
void squeeze_rows(const Squeeze2d& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t factor = kFactor ? kFactor : args.factor;
  const std::int64_t width = args.width / factor, height = args.height / factor;
  const Word* x = static_cast<const Word*>(args.x);
  Word* out = static_cast<Word*>(args.out);
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t plane = row / args.height, y = row % args.height;
    const std::int64_t pixels = row * args.width;
    // Row y is row i = y % factor of its blocks, and fills row y / factor of `factor` channels.
    const std::int64_t channel = (plane * factor + y % factor) * factor;
    const std::int64_t squeezed = (channel * height + y / factor) * width;
    const std::int64_t step = height * width;
    for (std::int64_t k = 0; k < width; ++k)
      for (std::int64_t j = 0; j < factor; ++j) {
        if (args.inverse)
          out[pixels + k * factor + j] = x[squeezed + j * step + k];
        else
          out[squeezed + j * step + k] = x[pixels + k * factor + j];
      }
  }
}

struct Bytes16 {
  std::uint64_t half[2];
};

template <class Word>
void squeeze_words(const Squeeze2d& args, std::int64_t begin, std::int64_t end) {
  if (args.factor == 2) return squeeze_rows<Word, 2>(args, begin, end);
  squeeze_rows<Word, 0>(args, begin, end);
}

inline void squeeze2d_range(const Squeeze2d& args, std::int64_t begin, std::int64_t end) {
  switch (args.element_bytes) {
    case 1:
      return squeeze_words<std::uint8_t>(args, begin, end);
    case 2:
      return squeeze_words<std::uint16_t>(args, begin, end);
    case 4:
      return squeeze_words<std::uint32_t>(args, begin, end);
    case 8:
      return squeeze_words<std::uint64_t>(args, begin, end);
    case 16:
      return squeeze_words<Bytes16>(args, begin, end);
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
