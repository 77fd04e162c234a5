// Maps of pixels in cache, and the two inner loops of convolutions over them.
//
// A map lies in memory as [images][height][width][channels], channels filled up to whole vectors,
// within a border of zeros as wide as a kernel reaches. A convolution is then a loop over taps and
// input channels that adds a broadcast input times a vector of output channels to the sums of a few
// pixels, which stay in registers; backward with respect to the input is the same loop with the
// kernel turned round. The gradient of a weight is a sum over pixels of outer products.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "lanes.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

struct Extent {
  std::int64_t images, height, width;
};

// Images of pixels of vectors of channels; `origin` is the first one within the border.
template <class A>
struct ConvMap {
  ConvMap() = default;
  ConvMap(A* memory, Extent extent, std::int64_t border, std::int64_t channels)
      : pixel(whole_vectors<A>(channels)),
        row((extent.width + 2 * border) * pixel),
        image((extent.height + 2 * border) * row),
        origin(memory + border * (row + pixel)) {}
  static std::int64_t size(Extent extent, std::int64_t border, std::int64_t channels) {
    return extent.images * (extent.height + 2 * border) * (extent.width + 2 * border) *
           whole_vectors<A>(channels);
  }

  // Whether its pixels follow one another, from row to row and from image to image.
  bool is_flat(Extent extent) const {
    return row == extent.width * pixel && image == extent.height * row;
  }

  std::int64_t pixel, row, image;
  A* origin;
};

// Successive pixels of images.
struct Position {
  Position(std::int64_t index, Extent extent)
      : image(index / (extent.height * extent.width)),
        y(index / extent.width % extent.height),
        x(index % extent.width) {}
  template <class A>
  A* in(const ConvMap<A>& map) const {
    return map.origin + image * map.image + y * map.row + x * map.pixel;
  }
  void advance(Extent extent) {
    if (++x < extent.width) return;
    x = 0;
    if (++y < extent.height) return;
    y = 0;
    ++image;
  }

  std::int64_t image, y, x;
};

// Calls body(vectors, first) for blocks of one to three vectors that cover `channels`.
template <class A, class Body>
void for_each_block(std::int64_t channels, Body body) {
  std::int64_t first = 0, left = whole_vectors<A>(channels) / Lanes<A>::count;
  if (left % 2 == 1 && left > 1) {
    body(std::integral_constant<int, 3>{}, first);
    first += 3 * Lanes<A>::count, left -= 3;
  }
  for (; left >= 2; left -= 2, first += 2 * Lanes<A>::count)
    body(std::integral_constant<int, 2>{}, first);
  if (left == 1) body(std::integral_constant<int, 1>{}, first);
}

// Blocks of outputs, each [taps][inputs][outputs of the block].
template <class A>
void pack_conv_weight(const A* weight, std::int64_t taps, std::int64_t inputs,
                      std::int64_t input_stride, std::int64_t outputs, std::int64_t output_stride,
                      A* packed) {
  for_each_block<A>(outputs, [&](auto vectors, std::int64_t first) {
    constexpr std::int64_t kWidth = vectors * Lanes<A>::count;
    const std::int64_t filled = std::min<std::int64_t>(kWidth, outputs - first);
    if (filled < kWidth) std::fill_n(packed, taps * inputs * kWidth, A(0));
    if (output_stride == 1)  // as they lie, of one tap
      for (std::int64_t i = 0; i < inputs; ++i)
        std::copy_n(weight + first + i * input_stride, filled, packed + i * kWidth);
    else  // tiles of a few inputs, whose weights stay in cache while they are turned round
      for (std::int64_t tile = 0; tile < inputs; tile += 16)
        for (std::int64_t o = 0; o < filled; ++o)
          for (std::int64_t i = tile; i < std::min(inputs, tile + 16); ++i)
            for (std::int64_t t = 0; t < taps; ++t)
              packed[(t * inputs + i) * kWidth + o] =
                  weight[(first + o) * output_stride + i * input_stride + t];
    packed += taps * inputs * kWidth;
  });
}

// A few pixels of a convolution: sums over taps, which lie reach[t] away from `at`, and inputs, of
// which the last tap may have fewer.
template <int kCount, int kVectors, class A>
void convolve_tile(const A* const* at, const std::int64_t* reach, std::int64_t taps,
                   std::int64_t inputs, std::int64_t last_inputs, const A* weight, const A* bias,
                   A* const* to) {
  using Vector = Lanes<A>;
  Vector sums[kCount][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Vector start =
        bias == nullptr ? Vector::fill(A(0)) : Vector::load(bias + v * Vector::count);
    for (int p = 0; p < kCount; ++p) sums[p][v] = start;
  }
  for (std::int64_t t = 0; t < taps; ++t) {
    const A* from[kCount];
    for (int p = 0; p < kCount; ++p) from[p] = at[p] + reach[t];
    const std::int64_t count = t + 1 < taps ? inputs : last_inputs;
    for (std::int64_t i = 0; i < count; ++i, weight += kVectors * Vector::count) {
      Vector weights[kVectors];
      for (int v = 0; v < kVectors; ++v) weights[v] = Vector::load(weight + v * Vector::count);
#pragma GCC unroll 8
      for (int p = 0; p < kCount; ++p) {
        const Vector input = Vector::fill(from[p][i]);
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v)
          sums[p][v] = Vector::multiply_add(input, weights[v], sums[p][v]);
      }
    }
  }
  for (int p = 0; p < kCount; ++p)
    for (int v = 0; v < kVectors; ++v) sums[p][v].store(to[p] + v * Vector::count);
}

// A few rows and columns of the sum over all pixels of outer products.
template <int kRows, int kVectors, class A>
void outer_product_tile(const ConvMap<A>& a, std::int64_t row, const ConvMap<A>& b,
                        std::int64_t column, bool start, std::int64_t stride, Extent extent,
                        A* total) {
  using Vector = Lanes<A>;
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] =
          start ? Vector::fill(A(0)) : Vector::load(total + r * stride + v * Vector::count);
  if (a.is_flat(extent) && b.is_flat(extent))
    extent = {1, 1, extent.images * extent.height * extent.width};
  for (std::int64_t line = 0; line < extent.images * extent.height; ++line) {
    const std::int64_t n = line / extent.height, y = line % extent.height;
    const A* left = a.origin + n * a.image + y * a.row + row;
    const A* right = b.origin + n * b.image + y * b.row + column;
    for (std::int64_t x = 0; x < extent.width; ++x, left += a.pixel, right += b.pixel) {
      Vector vectors[kVectors];
      for (int v = 0; v < kVectors; ++v) vectors[v] = Vector::load(right + v * Vector::count);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vector factor = Vector::fill(left[r]);
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v)
          sums[r][v] = Vector::multiply_add(factor, vectors[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v].store(total + r * stride + v * Vector::count);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
