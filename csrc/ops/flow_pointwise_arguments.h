// What the pointwise kernels of normalizing flows are called with: plain pointers to contiguous
// memory, checked by then.
#pragma once

#include <cstdint>

#include "arguments.h"

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

// Rows of pixels: row r of the image [N, C, H, W] goes to, or `inverse` comes from, `factor` rows
// of the squeezed one [N, C factor^2, H / factor, W / factor]. Elements are moved, whatever they
// are.
struct Squeeze2d {
  bool inverse;
  int element_bytes;
  std::int64_t rows;  // N C H
  std::int64_t height;
  std::int64_t width;
  std::int64_t factor;
  const void* x;
  void* out;
};

// log_det and out have an entry for each chain, fp64 for fp64 ops, else fp32.
struct GaussianNll {
  Dtype dtype;
  std::int64_t chains;
  std::int64_t chain_size;
  const void* z;
  const void* log_det;
  void* out;
};

// A given noise is a tensor of the result's dtype, kFloat64 or kFloat32.
struct Dequantize {
  Dtype dtype;
  std::int64_t numel;
  std::int64_t bins;
  const std::uint8_t* x;
  NoiseSource noise;
  void* out;
  bool* is_invalid;  // set where a value is not below bins; null: nobody looks
};

}  // namespace gencore
