// The samples of some consecutive pixels, found once for some channels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../arguments/warp.h"
#include "../math/warp.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Calls body(i) for i below kCount, as constants: GCC vectorises no loop around another one.
template <int kCount, class Body>
GENCORE_HD void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (body(std::integral_constant<int, i>{}), ...);
  }(std::make_integer_sequence<int, kCount>{});
}

template <int kRank, class A>
struct WarpSamples {
  static constexpr int kCorners = 1 << kRank;
  static constexpr std::int64_t kMost = 64;

  std::int64_t count;
  std::int32_t first, last;  // no pixel before or after these is read
  // Where a sample's neighbours are: in a plane, or just behind it if outside of the image.
  alignas(64) std::int32_t place[kCorners][kMost];
  alignas(64) std::int32_t moves[kRank][kMost];
  alignas(64) A fraction[kRank][kMost];

  // Of pixels [at, at + pixels) of a field. Those up to kMost read what is behind the plane.
  void find(const WarpArguments& args, std::int64_t field, std::int64_t at, std::int64_t pixels) {
    const std::int64_t plane = args.plane();
    const A* flow = static_cast<const A*>(args.flow) + kRank * field * plane + at;
    count = pixels;
    first = static_cast<std::int32_t>(plane - 1);
    last = 0;
    for (std::int64_t k = 0; k < pixels;) {
      const std::int64_t line = (at + k) / args.width(), column = (at + k) % args.width();
      const std::int64_t end = std::min(pixels, k + args.width() - column);
      find_in_line(args, flow, line, column - k, k, end);
      k = end;
    }
    for (int j = 0; j < kCorners; ++j)
      std::fill(place[j] + pixels, place[j] + kMost, static_cast<std::int32_t>(plane));
    for (int a = 0; a < kRank; ++a) {
      std::fill(fraction[a] + pixels, fraction[a] + kMost, A(0));
      std::fill(moves[a] + pixels, moves[a] + kMost, 0);
    }
  }

 private:
  // Pixel k is in column `offset` + k.
  void find_in_line(const WarpArguments& args, const A* flow, std::int64_t line,
                    std::int64_t offset, std::int64_t begin, std::int64_t end) {
    const std::int64_t plane = args.plane();
    const auto outside = static_cast<std::int32_t>(plane);
    std::int32_t size[kRank], stride[kRank], position[kRank];
    for (int a = 0; a < kRank; ++a) {
      size[a] = static_cast<std::int32_t>(args.sizes[a]);
      stride[a] = a == 0 ? 1 : stride[a - 1] * size[a - 1];
      position[a] = a == 0   ? static_cast<std::int32_t>(offset)
                    : a == 1 ? static_cast<std::int32_t>(line % args.sizes[1])
                             : static_cast<std::int32_t>(line / args.sizes[1]);
    }
    const bool border = args.border;
    std::int32_t low = first, high = last;
#pragma GCC ivdep
    for (auto k = static_cast<std::int32_t>(begin); k < static_cast<std::int32_t>(end); ++k) {
      A displacement[kRank];
      std::int32_t at[kCorners] = {}, inside[kCorners];
      unrolled<kRank>([&](auto a) { displacement[a] = flow[a * plane + k]; });
      spread_nan<kRank>(displacement);
      unrolled<kCorners>([&](auto j) { inside[j] = 1; });
      unrolled<kRank>([&](auto a) {
        const WarpAxis<A> axis =
            warp_axis(displacement[a], position[a] + (a == 0 ? k : 0), size[a], border);
        unrolled<kCorners>([&](auto j) {
          at[j] += (j >> a & 1 ? axis.far : axis.near) * stride[a];
          inside[j] &= j >> a & 1 ? axis.far_inside : axis.near_inside;
        });
        moves[a][k] = axis.moves;
        fraction[a][k] = axis.fraction;
      });
      low = std::min(low, at[0]);
      high = std::max(high, at[kCorners - 1]);
      unrolled<kCorners>([&](auto j) { place[j][k] = outside ^ ((at[j] ^ outside) & -inside[j]); });
    }
    first = low;
    last = high;
  }
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
