// Some channels of an image, those of one pixel side by side: what a pixel's channels share, they
// share as a vector. An image is turned round as it is first read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../math/storage.h"
#include "lanes.h"
#include "transpose.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Calls body(row) for the first `rows` rows of a square.
template <int kSide, class Body>
void for_each_row(int rows, const Body& body) {
  if (rows < kSide) {
    for (int row = 0; row < rows; ++row) body(row);
  } else {
#pragma GCC unroll 16
    for (int row = 0; row < kSide; ++row) body(row);
  }
}

// `count` elements, followed by zeros.
template <int kSide, class T>
typename Square<kSide, accumulate_t<T>>::Vector load_row(const T* from, int count) {
  using A = accumulate_t<T>;
  typename Square<kSide, A>::Vector vector{};
  if (std::is_same_v<T, A> && count == kSide) {
    __builtin_memcpy(&vector, from, sizeof(vector));
    return vector;
  }
  alignas(64) A row[kSide] = {};
  if (count == kSide)
    for (int k = 0; k < kSide; ++k) row[k] = load(from[k]);
  else
    for (int k = 0; k < count; ++k) row[k] = load(from[k]);
  __builtin_memcpy(&vector, row, sizeof(vector));
  return vector;
}

template <int kSide, class T>
void store_row(typename Square<kSide, accumulate_t<T>>::Vector vector, T* to, int count) {
  using A = accumulate_t<T>;
  if (std::is_same_v<T, A> && count == kSide) {
    __builtin_memcpy(to, &vector, sizeof(vector));
    return;
  }
  alignas(64) A row[kSide];
  __builtin_memcpy(row, &vector, sizeof(vector));
  if (count == kSide)
    for (int k = 0; k < kSide; ++k) to[k] = store<T>(row[k]);
  else
    for (int k = 0; k < count; ++k) to[k] = store<T>(row[k]);
}

// Pixels [at, at + count) of the channels that begin at `from`, `plane` elements apart: from
// `to` on, kSide elements a pixel, zero where there is no channel.
template <int kSide, class T>
void to_channels_last(const T* from, std::int64_t plane, int channels, std::int64_t count,
                      accumulate_t<T>* to) {
  for (std::int64_t at = 0; at < count; at += kSide) {
    const int pixels = static_cast<int>(std::min<std::int64_t>(kSide, count - at));
    Square<kSide, accumulate_t<T>> square{};
    for_each_row<kSide>(
        channels, [&](int c) { square.rows[c] = load_row<kSide>(from + c * plane + at, pixels); });
    square.transpose();
    for_each_row<kSide>(pixels, [&](int k) {
      __builtin_memcpy(to + (at + k) * kSide, &square.rows[k], sizeof(square.rows[k]));
    });
  }
}

// The way back.
template <int kSide, class T>
void from_channels_last(const accumulate_t<T>* from, T* to, std::int64_t plane, int channels,
                        std::int64_t count) {
  for (std::int64_t at = 0; at < count; at += kSide) {
    const int pixels = static_cast<int>(std::min<std::int64_t>(kSide, count - at));
    Square<kSide, accumulate_t<T>> square{};
    for_each_row<kSide>(pixels, [&](int k) {
      __builtin_memcpy(&square.rows[k], from + (at + k) * kSide, sizeof(square.rows[k]));
    });
    square.transpose();
    for_each_row<kSide>(
        channels, [&](int c) { store_row<kSide>(square.rows[c], to + c * plane + at, pixels); });
  }
}

// Blocks of pixels, made when one of them is first needed.
class FirstUse {
 public:
  static constexpr std::int64_t kBlock = 64;
  static std::int64_t blocks(std::int64_t pixels) { return (pixels + kBlock - 1) / kBlock; }

  // `made` has a place a block.
  FirstUse(std::uint8_t* made, std::int64_t pixels) : made_(made), pixels_(pixels) { forget(); }

  void forget() {
    left_ = blocks(pixels_);
    std::fill(made_, made_ + left_, std::uint8_t{0});
  }

  // Calls make(begin, end) for the blocks of pixels first to last that were not needed before.
  template <class Make>
  void need(std::int64_t first, std::int64_t last, const Make& make) {
    if (left_ == 0) return;
    for (std::int64_t block = first / kBlock; block <= last / kBlock; ++block) {
      if (made_[block] != 0) continue;
      made_[block] = 1;
      --left_;
      make(block * kBlock, std::min(pixels_, (block + 1) * kBlock));
    }
  }

 private:
  std::uint8_t* made_;
  std::int64_t pixels_;
  std::int64_t left_;
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
