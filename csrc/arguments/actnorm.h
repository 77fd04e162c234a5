// What actnorm's kernels are called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// x is [images, channels, positions]. Parameters, scales and log-determinants are fp64 for fp64
// ops, else fp32.
struct ActnormShape {
  Dtype dtype;
  bool inverse;
  std::int64_t images;
  std::int64_t channels;
  std::int64_t positions;
};

// Writes the factor of each channel and, unless null, the log-determinant of each image.
struct ActnormScales : ActnormShape {
  const void* log_scale;
  void* scale;
  void* log_det;
};

struct Actnorm : ActnormShape {
  std::int64_t numel;
  const void* x;
  const void* scale;
  const void* bias;
  void* out;
};

// The sums over a channel are made in `parts`, an order that depends on the shape alone: `sums` is
// [parts, channels, 2], of grad_out and of grad_out x.
struct ActnormBackward : ActnormShape {
  const void* grad_out;
  const void* x;
  const void* scale;
  void* grad_x;
  std::int64_t parts;
  double* sums;
};

// From the sums to the gradients of the parameters; grad_log_det has an entry for each image.
struct ActnormParameters : ActnormShape {
  const void* scale;
  const void* bias;
  const void* grad_log_det;
  std::int64_t parts;
  const double* sums;
  void* grad_log_scale;
  void* grad_bias;
};

}  // namespace gencore
