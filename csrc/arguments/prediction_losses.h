// What the kernels of the losses of predicted images are called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Images [images, channels, height, width], planes of less than 2^31 pixels. Both losses are
// symmetric in x, one of prediction and target, and other.
struct PredictionLossesArguments {
  Dtype dtype;
  int p;
  int alpha;  // 0: without the gradient difference, which is 0 then
  std::int64_t images;
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  const void* x;
  const void* other;

  GENCORE_HD std::int64_t plane() const { return height * width; }
};

struct PredictionLosses : PredictionLossesArguments {
  void* lp;                   // [images], of the accumulation type
  void* gradient_difference;  // alike
  std::int64_t pieces;        // in how many pieces CUDA sums an image
  double* sums;               // [2, images, pieces], for CUDA alone
};

struct PredictionLossesBackward : PredictionLossesArguments {
  const void* lp_grad;                   // [images], of the accumulation type
  const void* gradient_difference_grad;  // alike
  void* x_grad;
};

}  // namespace gencore
