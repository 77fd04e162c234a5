// The walk over discrete pixels: items are pieces of at most kPixels neighbouring pixels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/pixels.h"
#include "../math/macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

inline constexpr std::int64_t kPixels = 128;

// Calls body(image, offset in a plane, count) for the pieces [begin, end).
template <class Body>
void for_each_pixel_piece(const Pixels& args, std::int64_t begin, std::int64_t end,
                          const Body& body) {
  const std::int64_t pieces = (args.plane + kPixels - 1) / kPixels;
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t at = item % pieces * kPixels;
    body(item / pieces, at, std::min(args.plane - at, kPixels));
  }
}

// The levels of one channel of a piece, NaN where they are not below `levels`.
template <class A>
void load_levels(const Pixels& args, std::int64_t first, std::int64_t count, std::int64_t levels,
                 A* out) {
  const A none = std::numeric_limits<A>::quiet_NaN();
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int32_t level = args.level(first + k, levels);
    out[k] = level < 0 ? none : static_cast<A>(level);
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
