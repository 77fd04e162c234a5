// What the kernels of small convolutional networks are called with.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../math/activation.h"
#include "common.h"

namespace gencore {

inline constexpr int kMaxConvLayers = 4;
inline constexpr std::int64_t kMaxConvSide = 7;
// Positions that are worked on at once at least: with fewer, loading and storing the sums of outer
// products would take longer than making them.
inline constexpr std::int64_t kConvStack = 64;

// Convolutions with square kernels of odd sides and zero padding that keeps the size, and an
// activation between each two, over images [images, channels, height, width].
struct ConvNetwork {
  Dtype dtype;
  int layers;
  std::int64_t images, height, width;
  std::int64_t channels[kMaxConvLayers + 1];
  std::int64_t sides[kMaxConvLayers];
  const void* weights[kMaxConvLayers];  // [channels[l + 1], channels[l], sides[l], sides[l]]
  const void* biases[kMaxConvLayers];   // [channels[l + 1]]
  const void* context_term;             // [images, channels[1]], added to the first bias, or null
  Activation activation;
  double negative_slope;
  const void* x;
  std::int64_t x_stride;  // between images, which are contiguous themselves
  void* out;              // [images, channels[layers], height, width]; null in the backward pass

  std::int64_t taps(int l) const { return sides[l] * sides[l]; }
};

// The images are split into groups, whose parts of the gradients of weights and biases lie in
// `partial` until they are added up: the sums do not depend on the number of threads.
struct ConvNetworkBackward : ConvNetwork {
  std::int64_t groups;
  const void* grad_out;
  void* x_grad;  // null if it is not wanted
  void* weight_grads[kMaxConvLayers];
  void* bias_grads[kMaxConvLayers];
  void* context_term_grad;  // null if there is none
  void* partial;            // groups * conv_partial_bound() elements
};

// Elements that a group's part takes at most: with vectors of 64 bytes.
inline std::int64_t conv_partial_bound(const ConvNetwork& net) {
  const auto filled = [](std::int64_t channels) { return (channels + 15) / 16 * 16; };
  std::int64_t size = 0;
  for (int l = 0; l < net.layers; ++l) {
    const std::int64_t in = net.channels[l], out = net.channels[l + 1];
    size += net.taps(l) * std::min(filled(in) * out, filled(out) * in) + filled(out);
  }
  return size;
}

}  // namespace gencore
