// The losses of predicted images. Bytes per pixel of b bytes: forward reads 2 b; backward reads 2 b
// and writes b. A plane is taken as one long row, so that narrow images fill vectors too: the pixel
// above is a width before, and the first column, before which a row has ended, is set right after.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../arguments/prediction_losses.h"
#include "../math/prediction_losses.h"
#include "../math/storage.h"
#include "lane_sum.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <int kP_, int kAlpha_>
struct LossExponents {
  static constexpr int kP = kP_, kAlpha = kAlpha_;
};

// Calls body(exponents) with what of the exponents is known at compile time.
template <class Body>
void with_loss_exponents(const PredictionLossesArguments& args, const Body& body) {
  const auto with_p = [&](auto alpha) {
    constexpr int kAlpha = decltype(alpha)::value;
    if (args.p == 1) return body(LossExponents<1, kAlpha>{});
    body(LossExponents<2, kAlpha>{});
  };
  if (args.alpha == 1) return with_p(std::integral_constant<int, 1>{});
  if (args.alpha == 2) return with_p(std::integral_constant<int, 2>{});
  with_p(std::integral_constant<int, 0>{});
}

// A piece of a plane, whose temporaries stay in the first-level cache.
template <class A>
inline constexpr std::int64_t kLossPiece = 4096 / sizeof(A);

// Calls body(k) for those of the pixels [at, at + count) that are in the first column.
template <class Body>
void for_first_column(std::int64_t at, std::int64_t count, std::int64_t width, const Body& body) {
  for (std::int64_t k = (width - at % width) % width; k < count; k += width) body(k);
}

template <class T, class Exponents>
void prediction_losses_images(const PredictionLosses& args, std::int64_t begin, std::int64_t end,
                              Exponents) {
  using A = accumulate_t<T>;
  constexpr int kP = Exponents::kP, kAlpha = Exponents::kAlpha;
  const std::int64_t plane = args.plane(), width = args.width;
  const int p = args.p, alpha = args.alpha;
  alignas(64) A pixels[kLossPiece<A>], differences[kLossPiece<A>];
  for (std::int64_t image = begin; image < end; ++image) {
    LaneSum pixel_sum, difference_sum;
    for (std::int64_t channel = 0; channel < args.channels; ++channel) {
      const std::int64_t offset = (image * args.channels + channel) * plane;
      for (std::int64_t at = 0; at < plane; at += kLossPiece<A>) {
        const std::int64_t count = std::min(plane - at, kLossPiece<A>);
        const T* x = static_cast<const T*>(args.x) + offset + at;
        const T* other = static_cast<const T*>(args.other) + offset + at;
        const auto difference = [&](std::int64_t k, std::int64_t step) {
          return magnitude_power<kAlpha>(
              excess(load(x[k]) - load(x[k - step]), load(other[k]) - load(other[k - step])),
              alpha);
        };
        const auto pixel = [&](std::int64_t k) {
          return magnitude_power<kP>(load(x[k]) - load(other[k]), p);
        };
        if (alpha == 0) {
          for (std::int64_t k = 0; k < count; ++k) pixels[k] = pixel(k);
          pixel_sum.add(pixels, count);
          continue;
        }
        const std::int64_t second_row = std::clamp<std::int64_t>(width - at, 0, count);
        if (at == 0) pixels[0] = pixel(0);
        for (std::int64_t k = at == 0 ? 1 : 0; k < second_row; ++k) {
          pixels[k] = pixel(k);
          differences[k] = difference(k, 1);
        }
        for (std::int64_t k = second_row; k < count; ++k) {
          pixels[k] = pixel(k);
          differences[k] = difference(k, 1) + difference(k, width);
        }
        for_first_column(at, count, width, [&](std::int64_t k) {
          differences[k] = k < second_row ? A(0) : difference(k, width);
        });
        pixel_sum.add(pixels, count);
        difference_sum.add(differences, count);
      }
    }
    static_cast<A*>(args.lp)[image] = static_cast<A>(pixel_sum.total());
    static_cast<A*>(args.gradient_difference)[image] = static_cast<A>(difference_sum.total());
  }
}

// Items are images.
template <class T>
void prediction_losses_range(const PredictionLosses& args, std::int64_t begin, std::int64_t end) {
  with_loss_exponents(
      args, [&](auto exponents) { prediction_losses_images<T>(args, begin, end, exponents); });
}

template <class T, class Exponents>
void prediction_losses_backward_planes(const PredictionLossesBackward& args, std::int64_t begin,
                                       std::int64_t end, Exponents) {
  using A = accumulate_t<T>;
  constexpr int kP = Exponents::kP, kAlpha = Exponents::kAlpha;
  constexpr std::int64_t kPiece = kLossPiece<A>;
  const std::int64_t plane = args.plane(), width = args.width;
  const int p = args.p, alpha = args.alpha;
  // Entry k is the slope of the difference between pixel at + k and the one before it, or above.
  alignas(64) A across[kPiece + 1], down[2 * kPiece];
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t image = item / args.channels;
    const T* x = static_cast<const T*>(args.x) + item * plane;
    const T* other = static_cast<const T*>(args.other) + item * plane;
    T* __restrict x_grad = static_cast<T*>(args.x_grad) + item * plane;
    const A pixel_weight = A(p) * static_cast<const A*>(args.lp_grad)[image];
    const A weight = A(alpha) * static_cast<const A*>(args.gradient_difference_grad)[image];
    // The slopes of pixels [first, last), zero where there is no pixel a step before.
    const auto find = [&](std::int64_t first, std::int64_t last, std::int64_t step, A* slopes) {
      const std::int64_t from = std::clamp(step, first, last), to = std::clamp(plane, from, last);
      std::fill(slopes, slopes + (from - first), A(0));
      for (std::int64_t k = from; k < to; ++k)
        slopes[k - first] = excess_slope<kAlpha>(load(x[k]) - load(x[k - step]),
                                                 load(other[k]) - load(other[k - step]), alpha);
      std::fill(slopes + (to - first), slopes + (last - first), A(0));
    };
    const auto pixel = [&](std::int64_t k) {
      return magnitude_power_slope<kP>(load(x[k]) - load(other[k]), p) * pixel_weight;
    };
    if (alpha == 0) {
      for (std::int64_t k = 0; k < plane; ++k) x_grad[k] = store<T>(pixel(k));
      continue;
    }
    for (std::int64_t at = 0; at < plane; at += kPiece) {
      const std::int64_t count = std::min(plane - at, kPiece);
      find(at, at + count + 1, 1, across);
      for_first_column(at, count + 1, width, [&](std::int64_t k) { across[k] = A(0); });
      const A* below = down + std::min(width, kPiece);
      if (width <= kPiece) {
        find(at, at + count + width, width, down);
      } else {
        find(at, at + count, width, down);
        find(at + width, at + width + count, width, down + kPiece);
      }
      for (std::int64_t k = 0; k < count; ++k) {
        const A slope = (across[k] - across[k + 1]) + (down[k] - below[k]);
        x_grad[at + k] = store<T>(multiply_add(weight, slope, pixel(at + k)));
      }
    }
  }
}

// Items are planes.
template <class T>
void prediction_losses_backward_range(const PredictionLossesBackward& args, std::int64_t begin,
                                      std::int64_t end) {
  with_loss_exponents(args, [&](auto exponents) {
    prediction_losses_backward_planes<T>(args, begin, end, exponents);
  });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
