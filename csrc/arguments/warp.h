// What the kernels of image warping are called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Images [images, channels, height, width] and their displacements [images, 2, height, width], to
// the right and down, which are of the accumulation type. There is a pixel at least.
struct WarpArguments {
  Dtype dtype;
  bool border;  // the padding repeats the border; else it is zero
  std::int64_t images;
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  const void* x;  // not read by the gradient with respect to it
  const void* flow;

  GENCORE_HD std::int64_t plane() const { return height * width; }
};

struct Warp : WarpArguments {
  void* out;
};

struct WarpFlowBackward : WarpArguments {
  const void* grad_out;
  void* flow_grad;  // of the accumulation type
};

// A pixel's gradient is a sum over the samples that read it. The CPU adds them up in their order,
// one thread a plane. CUDA adds them up as integers, whose sum is the same in any order: multiples
// of a power of two that each plane's largest gradient decides.
struct WarpXBackward : WarpArguments {
  const void* grad_out;
  void* x_grad;         // of the accumulation type
  double* largest;      // [images, channels], for CUDA alone
  std::uint64_t* sums;  // as x, zero beforehand, for CUDA alone
};

}  // namespace gencore
