// What the kernels of causal convolutions are called with.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common.h"

namespace gencore {

// Where the elements of images [images, channels, height, width] lie.
template <class Void>
struct ImageLayout {
  Void* data;
  std::int64_t image, channel, row, pixel;  // strides
};

// A convolution with a square kernel of an odd side and zero padding that keeps the size. Its taps
// are those before the centre in raster order and, of the centre, those from the groups of channels
// before the output's, or up to it.
struct MaskedConv2d {
  Dtype dtype;
  bool inclusive;  // a group sees itself at the centre
  std::int64_t images, height, width, inputs, outputs;
  std::int64_t side, dilation, groups;
  const void* weight;  // [outputs, inputs, side, side]
  const void* bias;    // [outputs] or null
  ImageLayout<const void> x;
  ImageLayout<void> out;  // not written by the backward pass
  // What is worked on at once: some rows of an image, or a few whole images.
  std::int64_t rows, stack;

  std::int64_t before() const { return side * side / 2; }  // taps before the centre
  std::int64_t taps() const { return before() + (inclusive || groups > 1 ? 1 : 0); }
  std::int64_t reach() const { return side / 2 * dilation; }  // of the taps, in pixels
  // At the centre, output o sees the inputs [0, seen_by(o)), and input i is seen by the outputs
  // [first_to_see(i), outputs).
  std::int64_t seen_by(std::int64_t o) const {
    return (o / (outputs / groups) + (inclusive ? 1 : 0)) * (inputs / groups);
  }
  std::int64_t first_to_see(std::int64_t i) const {
    return (i / (inputs / groups) + (inclusive ? 0 : 1)) * (outputs / groups);
  }
  std::int64_t bands() const { return (height + rows - 1) / rows; }
  std::int64_t tiles() const { return (images + stack - 1) / stack * bands(); }
};

// The tiles are split into pieces, whose parts of the gradients of weight and bias lie in `partial`
// until they are added up: the sums do not depend on the number of threads.
struct MaskedConv2dBackward : MaskedConv2d {
  std::int64_t pieces;
  ImageLayout<const void> grad_out;
  ImageLayout<void> x_grad;  // data is null if it is not wanted
  void* weight_grad;         // zero beforehand; null if it is not wanted
  void* bias_grad;           // null if it is not wanted
  void* partial;             // pieces * partial_bound() elements
};

// Elements that a piece's part takes at most: with vectors of 64 bytes.
inline std::int64_t partial_bound(const MaskedConv2d& conv) {
  const auto filled = [](std::int64_t channels) { return (channels + 15) / 16 * 16; };
  return conv.taps() *
             std::min(filled(conv.inputs) * conv.outputs, filled(conv.outputs) * conv.inputs) +
         filled(conv.outputs);
}

}  // namespace gencore
