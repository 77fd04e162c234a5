// What the kernels of warping are called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Images [images, channels, height, width] or volumes [images, channels, depth, height, width], and
// `flows` fields of displacements for each: [images flows, rank, (depth,) height, width], of the
// accumulation type, to the right, down and, in a volume, deeper. There is a pixel at least.
struct WarpArguments {
  Dtype dtype;
  bool border;  // the padding repeats the border; else it is zero
  int rank;     // 2 or 3
  std::int64_t images;
  std::int64_t flows;
  std::int64_t channels;
  std::int64_t sizes[3];  // width, height and depth, in the order of the displacements
  const void* x;          // not read by the gradient with respect to it alone
  const void* flow;

  GENCORE_HD std::int64_t width() const { return sizes[0]; }
  GENCORE_HD std::int64_t lines() const { return sizes[1] * sizes[2]; }
  GENCORE_HD std::int64_t plane() const { return width() * lines(); }  // a channel's pixels
};

// The warped images are [images flows, channels, ...].
struct Warp : WarpArguments {
  void* out;
};

// A pixel's gradient is a sum over the samples that read it. The CPU adds them up in their order.
// CUDA adds them up as integers, whose sum is the same in any order: multiples of a power of two
// that each plane's largest finite gradient decides.
struct WarpBackward : WarpArguments {
  const void* grad_out;
  void* x_grad;     // as x, or null
  void* flow_grad;  // as flow, or null
  // For CUDA's x_grad alone.
  double* largest;       // [images, channels]
  std::uint64_t* sums;   // as x, zero beforehand
  std::uint32_t* marks;  // [images, channels, words], zero beforehand: a bit for what is not finite

  GENCORE_HD std::int64_t words() const { return (plane() + 31) / 32; }
};

}  // namespace gencore
