// Pixels in bins of a mixture of logistic distributions. Bytes per pixel with P parameters of b
// bytes: forward reads P b, backward reads P b and writes P b; a component and channel takes four
// exponentials, which is what limits both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/logistic_mixture.h"
#include "../math/activation.h"
#include "../math/logarithm.h"
#include "../math/logistic.h"
#include "../math/storage.h"
#include "pixel_pieces.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A piece of pixels, and what its components need, in rows of kPixels.
template <class T>
class LogisticPiece {
 public:
  using A = accumulate_t<T>;

  explicit LogisticPiece(const LogisticMixtureArguments& args)
      : args_(args),
        bins(args.levels, args.bin_size, args.first_edge, args.min_log_scale),
        memory_(Scratch::size<A>(rows() * kPixels)),
        lower_(memory_.take<A>(rows() * kPixels)),
        scaled_(lower_ + args.channels * kPixels),
        terms_(scaled_ + args.channels * kPixels) {}

  void read(std::int64_t image, std::int64_t at, std::int64_t pixels) {
    count = pixels;
    base_ = image * args_.per_pixel() * args_.plane + at;
    for (std::int64_t c = 0; c < args_.channels; ++c) {
      A* lower = lower_ + c * kPixels;
      A* scaled = scaled_ + c * kPixels;
      const std::int64_t first = (image * args_.channels + c) * args_.plane + at;
      load_levels(args_, first, count, args_.levels, scaled);
      for (std::int64_t k = 0; k < count; ++k) {
        lower[k] = bins.lower_edge(scaled[k]);
        scaled[k] = bins.scaled(scaled[k]);
      }
    }
  }

  // Where the parameters begin that a block and a component have for the piece.
  std::int64_t offset(std::int64_t block, std::int64_t component) const {
    return base_ + (block + component) * args_.plane;
  }
  const T* row(std::int64_t block, std::int64_t component) const {
    return static_cast<const T*>(args_.parameters) + offset(block, component);
  }
  const A* lower(std::int64_t channel) const { return lower_ + channel * kPixels; }
  const A* scaled(std::int64_t channel) const { return scaled_ + channel * kPixels; }
  // The log-probability of the piece's pixels in a component, and after weigh() what the
  // component's logit adds to it.
  A* terms(std::int64_t component) { return terms_ + component * kPixels; }

  // Raw means of a channel, coupled to the earlier ones; and where `slopes` is not null, by rows,
  // their derivatives by the raw coefficients.
  template <bool kSlopes>
  void means(std::int64_t channel, std::int64_t component, A* __restrict out,
             A* __restrict slopes) const {
    const T* mean = row(args_.mean_at(channel), component);
    for (std::int64_t k = 0; k < count; ++k) out[k] = load(mean[k]);
    for (std::int64_t j = 0; args_.coupled && j < channel; ++j) {
      const T* raw = row(args_.coefficient_at(channel, j), component);
      const A* __restrict earlier = scaled(j);
      for (std::int64_t k = 0; k < count; ++k) {
        const A t = hyperbolic_tangent(A(load(raw[k])));
        out[k] += t * earlier[k];
        if (kSlopes) slopes[j * kPixels + k] = multiply_add(-t, t, A(1)) * earlier[k];
      }
    }
  }

  // Raw log-scales of a channel.
  void log_scales(std::int64_t channel, std::int64_t component, A* __restrict out) const {
    if (args_.log_scale != nullptr) {
      std::fill_n(out, count, static_cast<const A*>(args_.log_scale)[channel]);
      return;
    }
    const T* raw = row(args_.log_scale_at(channel), component);
    for (std::int64_t k = 0; k < count; ++k) out[k] = load(raw[k]);
  }

  // Adds the components' logits to the terms, and finds log sum exp of the two kinds.
  struct Sums {
    alignas(64) A logits[kPixels];
    alignas(64) A terms[kPixels];
  };
  void weigh(Sums& sums) {
    alignas(64) A most_logit[kPixels], most_term[kPixels], most[2][kPixels];
    const A least = -std::numeric_limits<A>::infinity();
    std::fill_n(most_logit, count, least);
    std::fill_n(most_term, count, least);
    for (std::int64_t m = 0; m < args_.components; ++m) {
      const T* logit = row(0, m);
      A* term = terms(m);
      for (std::int64_t k = 0; k < count; ++k) {
        const A value = load(logit[k]);
        term[k] += value;
        most_logit[k] = value > most_logit[k] ? value : most_logit[k];
        most_term[k] = term[k] > most_term[k] ? term[k] : most_term[k];
      }
    }
    for (std::int64_t k = 0; k < count; ++k) {
      most[0][k] = most_logit[k] == least ? A(0) : most_logit[k];
      most[1][k] = most_term[k] == least ? A(0) : most_term[k];
      sums.logits[k] = sums.terms[k] = A(0);
    }
    for (std::int64_t m = 0; m < args_.components; ++m) {
      const T* logit = row(0, m);
      const A* term = terms(m);
      for (std::int64_t k = 0; k < count; ++k) {
        sums.logits[k] += exp_negative(load(logit[k]) - most[0][k]);
        sums.terms[k] += exp_negative(term[k] - most[1][k]);
      }
    }
    for (std::int64_t k = 0; k < count; ++k) {
      sums.logits[k] = most[0][k] + logarithm(sums.logits[k]);
      sums.terms[k] = most[1][k] + logarithm(sums.terms[k]);
    }
  }

  std::int64_t count = 0;

 private:
  const LogisticMixtureArguments& args_;

 public:
  const LogisticBins<A> bins;

 private:
  std::int64_t rows() const { return 2 * args_.channels + args_.components; }
  Scratch memory_;
  A* lower_;
  A* scaled_;
  A* terms_;
  std::int64_t base_ = 0;
};

// Adds the log-probabilities of some bins to the terms; and, if kSlopes, finds their derivatives.
template <bool kSlopes, class A>
void add_bins(const LogisticBins<A> bins, const A* __restrict lower, const A* __restrict mean,
              const A* __restrict log_scale, std::int64_t count, A* __restrict term,
              A* __restrict by_mean, A* __restrict by_log_scale) {
  for (std::int64_t k = 0; k < count; ++k) {
    const LogisticPrecision<A> precision(log_scale[k], bins);
    const LogisticBin<A> bin(lower[k], mean[k], precision.value, bins);
    term[k] += bin.log_prob();
    if (!kSlopes) continue;
    const auto slopes = bin.slopes(precision.value);
    by_mean[k] = slopes.mean;
    by_log_scale[k] = slopes.log_scale * precision.moves;
  }
}

// Items are pieces of pixels.
template <class T>
void logistic_mixture_range(const LogisticMixture& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  LogisticPiece<T> piece(args);
  for_each_pixel_piece(args, begin, end,
                       [&](std::int64_t image, std::int64_t at, std::int64_t count) {
                         piece.read(image, at, count);
                         for (std::int64_t m = 0; m < args.components; ++m) {
                           A* term = piece.terms(m);
                           std::fill_n(term, count, A(0));
                           for (std::int64_t c = 0; c < args.channels; ++c) {
                             alignas(64) A mean[kPixels], log_scale[kPixels];
                             piece.template means<false>(c, m, mean, nullptr);
                             piece.log_scales(c, m, log_scale);
                             add_bins<false, A>(piece.bins, piece.lower(c), mean, log_scale, count,
                                                term, nullptr, nullptr);
                           }
                         }
                         A* out = static_cast<A*>(args.log_prob) + image * args.plane + at;
                         const A* only = piece.terms(0);
                         if (!args.weighted) return void(std::copy_n(only, count, out));
                         typename LogisticPiece<T>::Sums sums;
                         piece.weigh(sums);
                         for (std::int64_t k = 0; k < count; ++k)
                           out[k] = sums.terms[k] - sums.logits[k];
                       });
}

// The derivatives of the terms are kept until the components' shares in the pixels are known.
template <class T>
void logistic_mixture_backward_range(const LogisticMixtureBackward& args, std::int64_t begin,
                                     std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t channels = args.channels, components = args.components, pairs = args.pairs();
  LogisticPiece<T> piece(args);
  const std::int64_t slopes = 2 * channels + pairs;  // rows a component
  Scratch memory(Scratch::size<A>(components * slopes * kPixels));
  A* const kept = memory.take<A>(components * slopes * kPixels);
  for_each_pixel_piece(
      args, begin, end, [&](std::int64_t image, std::int64_t at, std::int64_t count) {
        piece.read(image, at, count);
        for (std::int64_t m = 0; m < components; ++m) {
          A* const by_means = kept + m * slopes * kPixels;
          A* const by_log_scales = by_means + channels * kPixels;
          A* by_coefficients = by_log_scales + channels * kPixels;
          A* term = piece.terms(m);
          std::fill_n(term, count, A(0));
          for (std::int64_t c = 0; c < channels; ++c) {
            alignas(64) A mean[kPixels], log_scale[kPixels];
            piece.template means<true>(c, m, mean, by_coefficients);
            piece.log_scales(c, m, log_scale);
            A* by_mean = by_means + c * kPixels;
            add_bins<true>(piece.bins, piece.lower(c), mean, log_scale, count, term, by_mean,
                           by_log_scales + c * kPixels);
            for (std::int64_t j = 0; args.coupled && j < c; ++j) {
              A* __restrict by_coefficient = by_coefficients;
              for (std::int64_t k = 0; k < count; ++k) by_coefficient[k] *= by_mean[k];
              by_coefficients += kPixels;
            }
          }
        }
        typename LogisticPiece<T>::Sums sums;
        if (args.weighted) piece.weigh(sums);
        const A* grad = static_cast<const A*>(args.grad) + image * args.plane + at;
        T* parameters_grad = static_cast<T*>(args.parameters_grad);
        for (std::int64_t m = 0; m < components; ++m) {
          alignas(64) A weight[kPixels];
          if (args.weighted) {
            const T* logit = piece.row(0, m);
            const A* term = piece.terms(m);
            T* out = parameters_grad + piece.offset(0, m);
#pragma GCC ivdep
            for (std::int64_t k = 0; k < count; ++k) {
              const A share = exp_negative(term[k] - sums.terms[k]);
              out[k] = store<T>(grad[k] * (share - exp_negative(load(logit[k]) - sums.logits[k])));
              weight[k] = grad[k] * share;
            }
          } else {
            std::copy_n(grad, count, weight);
          }
          const A* by = kept + m * slopes * kPixels;
          const auto write = [&](T* out) {
#pragma GCC ivdep
            for (std::int64_t k = 0; k < count; ++k) out[k] = store<T>(weight[k] * by[k]);
            by += kPixels;
          };
          for (std::int64_t c = 0; c < channels; ++c)
            write(parameters_grad + piece.offset(args.mean_at(c), m));
          for (std::int64_t c = 0; c < channels; ++c) {
            if (args.log_scale == nullptr) {
              write(parameters_grad + piece.offset(args.log_scale_at(c), m));
              continue;
            }
            A* out =
                static_cast<A*>(args.log_scale_grad) + (image * channels + c) * args.plane + at;
            for (std::int64_t k = 0; k < count; ++k) out[k] = weight[k] * by[k];
            by += kPixels;
          }
          for (std::int64_t p = 0; p < pairs; ++p)
            write(parameters_grad + piece.offset(args.coefficient_at(1, 0) + p * components, m));
        }
      });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
