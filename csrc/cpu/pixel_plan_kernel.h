// Running the program of a causal network pixel by pixel, on the images of one thread.
//
// A pixel reads the weights of all layers, from the second-level cache, and the few pixels around
// it of every map; nothing is computed twice. Products are not fused, so that the result is the
// same on every level; sums run over the terms and their channels in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/pixel_plan.h"
#include "../math/pixel_draw.h"
#include "lanes.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
class PlanRun {
 public:
  PlanRun(const PixelPlan& args, std::int64_t first, std::int64_t last)
      : args_(args),
        header_(args.header()),
        first_(first),
        images_(last - first),
        weights_(static_cast<const A*>(args.weights)),
        state_(static_cast<A*>(args.state) + first * header_.image_size),
        scratch_(Scratch::size<double>(header_.levels) + Scratch::size<double>(components())),
        levels_(scratch_.template take<double>(header_.levels)),
        shares_(scratch_.template take<double>(components())) {}

  void run() {
    const std::int64_t channels = header_.channels;
    for (std::int64_t t = args_.begin; t < args_.end; ++t) {
      const std::int64_t pixel = t / channels, channel = t % channels;
      const std::int64_t y = pixel / header_.width, x = pixel % header_.width;
      if (t == args_.begin && t > 0) enter(t - 1);  // it may have been written since
      if (channel == 0 && x == 0) run_row(y);
      if (channel < header_.steps) run_pixel(channel, y, x);
      if (args_.parameters != nullptr && channel == header_.steps - 1) record(y, x);
      for (std::int64_t n = 0; n < images_; ++n) decide(t, n);
      enter(t);
    }
  }

 private:
  using Vector = Lanes<A>;
  static constexpr int kVectors = kVectorBytes == 64 ? 4 : 2;
  static constexpr int kImages = 4;

  std::int64_t components() const { return std::max<std::int64_t>(header_.components, 1); }
  A* image(std::int64_t n) const { return state_ + n * header_.image_size; }
  std::int64_t* levels(std::int64_t n) const {
    return args_.x + (first_ + n) * header_.channels * plane();
  }
  std::int64_t plane() const { return header_.height * header_.width; }

  void run_row(std::int64_t y) {
    for (std::int64_t at = args_.list(0); at < args_.list(1);) {
      const PlanInstruction& step = args_.instruction(at);
      if (step.runs_in(y))
        for (std::int64_t x = step.column; x < header_.width; x += step.modulus)
          execute(step, y, x);
      at += step.length;
    }
  }

  void run_pixel(std::int64_t list, std::int64_t y, std::int64_t x) {
    for (std::int64_t at = args_.list(1 + list); at < args_.list(2 + list);) {
      const PlanInstruction& step = args_.instruction(at);
      if (step.runs_at(y, x)) execute(step, y, x);
      at += step.length;
    }
  }

  void execute(const PlanInstruction& step, std::int64_t y, std::int64_t x) {
    const std::int64_t to = args_.map(step.map).at(y, x, 0, 0) + step.channel;
    const std::int64_t* const with = step.operands();
    const auto place = [&](int operand) {
      return args_.map(with[2 * operand]).at(y, x, 0, 0) + with[2 * operand + 1];
    };
    const auto each = [&](auto function) {
      const std::int64_t from = place(0);
      for (std::int64_t n = 0; n < images_; ++n) {
        A* const out = image(n) + to;
        const A* const in = image(n) + from;
#pragma GCC ivdep
        for (std::int64_t c = 0; c < step.count; ++c) out[c] = function(in[c]);
      }
    };
    const auto each_pair = [&](auto function) {
      const std::int64_t left = place(0), right = place(1);
      for (std::int64_t n = 0; n < images_; ++n) {
        A* const out = image(n) + to;
        const A *const a = image(n) + left, *const b = image(n) + right;
#pragma GCC ivdep
        for (std::int64_t c = 0; c < step.count; ++c) out[c] = function(a[c], b[c]);
      }
    };
    switch (static_cast<PlanKind>(step.kind)) {
      case PlanKind::kConvolution:
        return convolve(step, y, x, to);
      case PlanKind::kCopy:
        return each([](A a) { return a; });
      case PlanKind::kScale: {
        const A factor = weights_[with[2]];
        return each([=](A a) { return a * factor; });
      }
      case PlanKind::kRelu:
        return each([](A a) { return a > A(0) ? a : A(0); });
      case PlanKind::kElu:
        return each([](A a) {
          const double e = portable_exp(a > A(0) ? 0.0 : static_cast<double>(a)) - 1.0;
          return a > A(0) ? a : static_cast<A>(e);
        });
      case PlanKind::kTanh:
        return each([](A a) { return static_cast<A>(portable_tanh(static_cast<double>(a))); });
      case PlanKind::kSigmoid:
        return each([](A a) { return static_cast<A>(portable_sigmoid(static_cast<double>(a))); });
      case PlanKind::kAdd:
        return each_pair([](A a, A b) { return a + b; });
      case PlanKind::kMultiply:
        return each_pair([](A a, A b) { return a * b; });
    }
  }

  void convolve(const PlanInstruction& step, std::int64_t y, std::int64_t x, std::int64_t to) {
    const std::int64_t* const with = step.operands();
    const A* const weights = weights_ + with[0];
    const A* const bias = with[1] < 0 ? nullptr : weights_ + with[1];
    const std::int64_t terms = with[2], columns = plan_columns(step.count);
    const PlanTerm* const term = reinterpret_cast<const PlanTerm*>(with + 3);
    for_each_panel<kImages>(images_, [&](auto rows, std::int64_t first) {
      for_each_panel<kVectors>(columns / Vector::count, [&](auto width, std::int64_t vector) {
        constexpr int images = decltype(rows)::value, vectors = decltype(width)::value;
        const std::int64_t column = vector * Vector::count;
        Vector sums[images][vectors];
        for (int v = 0; v < vectors; ++v) {
          const Vector start = bias == nullptr ? Vector::fill(A(0))
                                               : Vector::load(bias + column + v * Vector::count);
          for (int n = 0; n < images; ++n) sums[n][v] = start;
        }
        const A* weight = weights + column;
        for (std::int64_t k = 0; k < terms; ++k) {
          const A* const from = image(first) +
                                args_.map(term[k].map).at(y, x, term[k].down, term[k].right) +
                                term[k].channel;
          for (std::int64_t i = 0; i < term[k].count; ++i, weight += columns) {
            Vector w[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) w[v] = Vector::load(weight + v * Vector::count);
#pragma GCC unroll 4
            for (int n = 0; n < images; ++n) {
              const Vector input = Vector::fill(from[n * header_.image_size + i]);
#pragma GCC unroll 4
              for (int v = 0; v < vectors; ++v)
                sums[n][v].value = sums[n][v].value + input.value * w[v].value;
            }
          }
        }
        const std::int64_t left = step.count - column;  // what is beyond is filling
        for (int n = 0; n < images; ++n) {
          A* const out = image(first + n) + to + column;
          for (int v = 0; v < vectors; ++v) {
            const std::int64_t here = left - v * Vector::count;
            if (here >= Vector::count) {
              sums[n][v].store(out + v * Vector::count);
            } else {
              A tail[Vector::count];
              sums[n][v].store(tail);
              for (std::int64_t c = 0; c < here; ++c) out[v * Vector::count + c] = tail[c];
            }
          }
        }
      });
    });
  }

  const A* parameters(std::int64_t n, std::int64_t y, std::int64_t x) const {
    return image(n) + args_.map(header_.parameters_map).at(y, x, 0, 0);
  }

  void record(std::int64_t y, std::int64_t x) {
    for (std::int64_t n = 0; n < images_; ++n) {
      const A* const from = parameters(n, y, x);
      A* const to = static_cast<A*>(args_.parameters) +
                    (first_ + n) * header_.parameters * plane() + y * header_.width + x;
      for (std::int64_t p = 0; p < header_.parameters; ++p) to[p * plane()] = from[p];
    }
  }

  // What is asked for of position t of image n: its level, its frequencies.
  void decide(std::int64_t t, std::int64_t n) {
    const std::int64_t pixel = t / header_.channels, channel = t % header_.channels;
    std::int64_t* const x = levels(n) + pixel;
    const std::int64_t place = channel * plane();
    const bool is_drawn = args_.uniforms != nullptr &&
                          (args_.known == nullptr ||
                           !args_.known[(first_ + n) * header_.channels * plane() + place + pixel]);
    if (!is_drawn && args_.frequencies == nullptr) return;
    const A* const from = parameters(n, pixel / header_.width, pixel % header_.width);
    const float* uniforms =
        is_drawn ? args_.uniforms + (first_ + n) * args_.uniforms_size * plane() + pixel : nullptr;
    if (static_cast<PixelDraw>(header_.draw) == PixelDraw::kLogistic) {
      const LogisticPixel<A> mixture{from,
                                     x,
                                     plane(),
                                     header_.channels,
                                     header_.components,
                                     header_.levels,
                                     header_.coupled != 0,
                                     static_cast<double>(weights_[header_.lowest])};
      if (is_drawn)
        x[place] = draw_logistic(mixture, channel, static_cast<double>(uniforms[0]),
                                 static_cast<double>(uniforms[(1 + channel) * plane()]));
      if (args_.frequencies == nullptr) return;
      logistic_shares(mixture, channel, shares_);
      std::fill_n(levels_, header_.levels, 0.0);
      for (std::int64_t m = 0; m < header_.components; ++m) {
        const double centre = mixture.mean(channel, m), share = shares_[m];
        const double precision = portable_exp(-mixture.log_scale(channel, m));
        const std::int64_t last = header_.levels - 1;
        for (std::int64_t k = 0; k < last; ++k) {
          const double edge = LogisticPixel<A>::edge(k, header_.levels);
          levels_[k] = levels_[k] + share * portable_sigmoid((edge - centre) * precision);
        }
        levels_[last] = levels_[last] + share;
      }
    } else {
      categorical_weights(from + channel * header_.levels);
      if (is_drawn)
        x[place] = invert_weights(levels_, header_.levels,
                                  static_cast<double>(uniforms[channel * plane()]));
      for (std::int64_t k = 1; k < header_.levels; ++k) levels_[k] = levels_[k - 1] + levels_[k];
    }
    if (args_.frequencies != nullptr)
      frequencies_of(
          levels_, header_.levels,
          args_.frequencies +
              ((first_ + n) * (args_.end - args_.begin) + t - args_.begin) * header_.levels);
  }

  void categorical_weights(const A* logits) {
    A largest = logits[0];
    for (std::int64_t k = 1; k < header_.levels; ++k)
      largest = logits[k] > largest ? logits[k] : largest;
    double* const weights = levels_;
#pragma GCC ivdep
    for (std::int64_t k = 0; k < header_.levels; ++k)
      weights[k] = portable_exp(static_cast<double>(logits[k]) - static_cast<double>(largest));
  }

  // Puts what the network sees of position t's levels into the input's map.
  void enter(std::int64_t t) {
    const std::int64_t pixel = t / header_.channels, channel = t % header_.channels;
    const std::int64_t to =
        args_.map(header_.input_map).at(pixel / header_.width, pixel % header_.width, 0, 0) +
        channel * header_.embedding;
    for (std::int64_t n = 0; n < images_; ++n) {
      const std::int64_t level =
          std::clamp<std::int64_t>(levels(n)[channel * plane() + pixel], 0, header_.levels - 1);
      std::copy_n(weights_ + header_.table + level * header_.embedding, header_.embedding,
                  image(n) + to);
    }
  }

  const PixelPlan& args_;
  const PlanHeader& header_;
  std::int64_t first_, images_;
  const A* weights_;
  A* state_;
  Scratch scratch_;
  double* levels_;
  double* shares_;
};

// Items are images.
template <class A>
void pixel_plan_range(const PixelPlan& args, std::int64_t begin, std::int64_t end) {
  PlanRun<A>(args, begin, end).run();
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
