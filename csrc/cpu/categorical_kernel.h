// Categorical pixels. Bytes per pixel and channel of K levels in b bytes: forward reads K b,
// backward reads K b and writes K b.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/categorical.h"
#include "../math/activation.h"
#include "../math/logarithm.h"
#include "../math/storage.h"
#include "pixel_pieces.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// log sum exp over the levels of one channel of a piece, in one pass over the logits: a few levels
// at a time are copied beside each other, because planes of a power of two of bytes lie such that
// the cache cannot hold many of them.
template <class T>
class LogNormalizer {
 public:
  using A = accumulate_t<T>;

  void find(const T* logits, std::int64_t levels, std::int64_t plane, std::int64_t count, A* out) {
    for (std::int64_t k = 0; k < count; ++k) {
      most_[k] = -std::numeric_limits<A>::infinity();
      sum_[k] = A(0);
    }
    for (std::int64_t first = 0; first < levels; first += kRows)
      add(logits + first * plane, std::min(levels - first, kRows), plane, count);
    for (std::int64_t k = 0; k < count; ++k) out[k] = most_[k] + logarithm(sum_[k]);
  }

 private:
  static constexpr std::int64_t kRows = 16;

  void add(const T* logits, std::int64_t rows, std::int64_t plane, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) before_[k] = most_[k];
    for (std::int64_t row = 0; row < rows; ++row) {
      const T* source = logits + row * plane;
      A* copy = rows_ + row * kPixels;
      for (std::int64_t k = 0; k < count; ++k) {
        const A value = load(source[k]);
        copy[k] = value;
        most_[k] = value > most_[k] ? value : most_[k];
      }
    }
    // Of nothing but -inf the sum stays zero.
    for (std::int64_t k = 0; k < count; ++k) {
      base_[k] = most_[k] == -std::numeric_limits<A>::infinity() ? A(0) : most_[k];
      sum_[k] *= exp_negative(before_[k] - base_[k]);
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      const A* copy = rows_ + row * kPixels;
      for (std::int64_t k = 0; k < count; ++k) sum_[k] += exp_negative(copy[k] - base_[k]);
    }
  }

  alignas(64) A rows_[kRows * kPixels];
  alignas(64) A most_[kPixels], before_[kPixels], base_[kPixels], sum_[kPixels];
};

// Items are pieces of pixels.
template <class T>
void categorical_range(const Categorical& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const T* logits = static_cast<const T*>(args.logits);
  A* log_normalizer = static_cast<A*>(args.log_normalizer);
  LogNormalizer<T> normalizer;
  for_each_pixel_piece(args, begin, end,
                       [&](std::int64_t image, std::int64_t at, std::int64_t count) {
                         A* total = static_cast<A*>(args.log_prob) + image * args.plane + at;
                         std::fill_n(total, count, A(0));
                         for (std::int64_t c = 0; c < args.channels; ++c) {
                           const std::int64_t channel = image * args.channels + c;
                           const std::int64_t first = channel * args.plane + at;
                           const T* rows = logits + channel * args.levels * args.plane + at;
                           A* out = log_normalizer + first;
                           normalizer.find(rows, args.levels, args.plane, count, out);
                           for (std::int64_t k = 0; k < count; ++k) {
                             const std::int64_t level = args.level(first + k, args.levels);
                             total[k] += level < 0 ? std::numeric_limits<A>::quiet_NaN()
                                                   : A(load(rows[level * args.plane + k]) - out[k]);
                           }
                         }
                       });
}

template <class T>
void categorical_backward_range(const CategoricalBackward& args, std::int64_t begin,
                                std::int64_t end) {
  using A = accumulate_t<T>;
  for_each_pixel_piece(
      args, begin, end, [&](std::int64_t image, std::int64_t at, std::int64_t count) {
        const A* grad = static_cast<const A*>(args.grad) + image * args.plane + at;
        for (std::int64_t c = 0; c < args.channels; ++c) {
          const std::int64_t channel = image * args.channels + c;
          const std::int64_t first = channel * args.plane + at;
          const std::int64_t rows = channel * args.levels * args.plane + at;
          const T* logits = static_cast<const T*>(args.logits) + rows;
          T* logits_grad = static_cast<T*>(args.logits_grad) + rows;
          const A* log_normalizer = static_cast<const A*>(args.log_normalizer) + first;
          const A* normalizer_grad = static_cast<const A*>(args.normalizer_grad) + first;
          alignas(64) A weight[kPixels];
          for (std::int64_t k = 0; k < count; ++k) weight[k] = normalizer_grad[k] - grad[k];
          for (std::int64_t level = 0; level < args.levels; ++level) {
            const T* source = logits + level * args.plane;
            T* target = logits_grad + level * args.plane;
#pragma GCC ivdep
            for (std::int64_t k = 0; k < count; ++k)
              target[k] = store<T>(weight[k] * exp_negative(load(source[k]) - log_normalizer[k]));
          }
          for (std::int64_t k = 0; k < count; ++k) {
            const std::int64_t level = args.level(first + k, args.levels);
            if (level < 0) continue;
            const std::int64_t place = level * args.plane + k;
            const A share = exp_negative(load(logits[place]) - log_normalizer[k]);
            logits_grad[place] = store<T>(multiply_add(weight[k], share, grad[k]));
          }
        }
      });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
