// Rational-quadratic splines over a range of chains. With K bins and b bytes an element, forward
// and inverse read (3K) b and write b; backward reads (3K + 1) b and writes (3K) b.
#pragma once

#include <algorithm>

#include "../arguments/spline.h"
#include "../math/spline.h"
#include "chainwise.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The parameters of a block of elements, in parts of a kind so that loops over them vectorise.
template <class T>
class SplineBlock {
 public:
  using A = accumulate_t<T>;
  static constexpr int kElements = 64;

  explicit SplineBlock(const SplineArguments& args)
      : args_(args),
        bins_(static_cast<int>(args.bins)),
        limit_(args.bound),
        offset_(static_cast<A>(args.slope_offset)) {}

  // How many elements fit, of at most kElements.
  std::int64_t room() const { return std::min<std::int64_t>(kElements, kRoom / bins_); }

  // Reads the parameters of elements [at, at + count) and finds the bins of their x (or y).
  void read(std::int64_t at, std::int64_t count) {
    const T* x = static_cast<const T*>(args_.x) + at;
    for (std::int64_t k = 0; k < count; ++k) in[k] = static_cast<double>(load(x[k]));
    exponentials(args_.widths, at, count, width_weights, width_slopes);
    exponentials(args_.heights, at, count, height_weights, height_slopes);
    const T* derivatives = static_cast<const T*>(args_.derivatives) + at * (bins_ - 1);
    locate(count);
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t bin = index[k];
      const T* raw = derivatives + k * (bins_ - 1);
      left_raw_[k] = bin > 0 ? load(raw[bin - 1]) : A(0);
      right_raw_[k] = bin + 1 < bins_ ? load(raw[bin]) : A(0);
    }
    slopes(left_raw_, count, slope0_, slope0_by_raw);
    slopes(right_raw_, count, slope1_, slope1_by_raw);
    for (std::int64_t k = 0; k < count; ++k) {  // the slope at the ends of the interval is one
      if (index[k] == 0) slope0_[k] = A(1);
      if (index[k] + 1 == bins_) slope1_[k] = A(1);
    }
  }

  SplineBin bin(std::int64_t k) const {
    return {left_[k],
            width_[k],
            bottom_[k],
            height_[k],
            static_cast<double>(slope0_[k]),
            static_cast<double>(slope1_[k])};
  }

  bool is_inside(std::int64_t k) const {
    return in[k] >= -args_.tail_bound && in[k] <= args_.tail_bound;
  }

  static constexpr std::int64_t kRoom = kMaxSplineBins;
  alignas(64) double in[kElements];
  alignas(64) std::int64_t index[kElements];
  alignas(64) double width_sum[kElements], width_below[kElements];
  alignas(64) double height_sum[kElements], height_below[kElements];
  alignas(64) A width_weights[kRoom], width_slopes[kRoom];
  alignas(64) A height_weights[kRoom], height_slopes[kRoom];
  alignas(64) A slope0_by_raw[kElements], slope1_by_raw[kElements];

 private:
  // exp(bounded raw - something common to the element's bins), and the bound's derivatives. What a
  // small bound allows at most will do; else it is the bins' largest.
  void exponentials(const void* raw, std::int64_t at, std::int64_t count, A* weights, A* slope) {
    const T* source = static_cast<const T*>(raw) + at * bins_;
    const std::int64_t total = count * bins_;
    if (limit_.is_small) {
      for (std::int64_t k = 0; k < total; ++k) {
        const Activated<A> bounded = limit_.within(load(source[k]));
        slope[k] = bounded.slope;
        weights[k] = exp_negative(bounded.value - limit_.bound);
      }
      return;
    }
    for (std::int64_t k = 0; k < total; ++k) {
      const Activated<A> bounded = limit_(load(source[k]));
      slope[k] = bounded.slope;
      weights[k] = bounded.value;
    }
    for (std::int64_t k = 0; k < total; k += bins_) {
      const A largest = *std::max_element(weights + k, weights + k + bins_);
      for (int j = 0; j < bins_; ++j) weights[k + j] -= largest;
    }
    for (std::int64_t k = 0; k < total; ++k) weights[k] = exp_negative(weights[k]);
  }

  // Sums of the weights below each knot, knot by knot so that elements are the vector's lanes.
  void sum_weights(const A* weights, std::int64_t count, double* below, double* sum) const {
    std::fill_n(below, count, 0.0);
    for (int j = 0; j < bins_; ++j) {
      double* next = j + 1 < bins_ ? below + (j + 1) * count : sum;
      for (std::int64_t k = 0; k < count; ++k)
        next[k] = below[j * count + k] + static_cast<double>(weights[k * bins_ + j]);
    }
  }

  void locate(std::int64_t count) {
    sum_weights(width_weights, count, width_knots_, width_sum);
    sum_weights(height_weights, count, height_knots_, height_sum);
    const double* below = args_.inverse ? height_knots_ : width_knots_;
    const double* sum = args_.inverse ? height_sum : width_sum;
    const double share = args_.inverse ? args_.min_height : args_.min_width;
    std::fill_n(index, count, 0);
    for (std::int64_t k = 0; k < count; ++k)
      scale_[k] = SplineAxis(args_.tail_bound, share, bins_, sum[k]).scale;
    for (int j = 1; j < bins_; ++j) {
      const double start = SplineAxis(args_.tail_bound, share, bins_, 1.0).start(j);
      for (std::int64_t k = 0; k < count; ++k)
        index[k] += in[k] >= scale_[k] * below[j * count + k] + start ? 1 : 0;
    }
    measure(width_knots_, width_weights, width_sum, args_.min_width, count, width_below, left_,
            width_);
    measure(height_knots_, height_weights, height_sum, args_.min_height, count, height_below,
            bottom_, height_);
  }

  void measure(const double* knots, const A* weights, const double* sum, double share,
               std::int64_t count, double* below, double* start, double* length) const {
    for (std::int64_t k = 0; k < count; ++k) {
      const int bin = static_cast<int>(index[k]);
      const SplineAxis axis(args_.tail_bound, share, bins_, sum[k]);
      below[k] = knots[bin * count + k];
      start[k] = axis.knot(bin, below[k]);
      const double above = below[k] + static_cast<double>(weights[k * bins_ + bin]);
      length[k] = axis.knot(bin + 1, above) - start[k];
    }
  }

  void slopes(const A* raw, std::int64_t count, A* slope, A* by_raw) const {
    const A smallest = static_cast<A>(args_.min_derivative);
    for (std::int64_t k = 0; k < count; ++k) {
      const Activated<A> bounded = limit_(raw[k]);
      const Activated<A> at_knot = knot_slope(bounded.value, offset_, smallest);
      slope[k] = at_knot.value;
      by_raw[k] = at_knot.slope * bounded.slope;
    }
  }

  const SplineArguments& args_;
  const int bins_;
  const RawBound<A> limit_;
  const A offset_;
  alignas(64) double width_knots_[kRoom], height_knots_[kRoom], scale_[kElements];
  alignas(64) A left_raw_[kElements], right_raw_[kElements];
  alignas(64) A slope0_[kElements], slope1_[kElements];
  alignas(64) double left_[kElements], width_[kElements], bottom_[kElements], height_[kElements];
};

template <class T>
void spline_range(const SplineTransform& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  SplineBlock<T> block(args);
  T* y = static_cast<T*>(args.y);
  A* log_det = static_cast<A*>(args.log_det);
  const auto run = [&](auto inverse, std::int64_t at, std::int64_t count, A* terms) {
    block.read(at, count);
    alignas(64) A slopes[SplineBlock<T>::kElements];
    for (std::int64_t k = 0; k < count; ++k) {
      const SplineBin bin = block.bin(k);
      const SplineValue out =
          inverse ? spline_inverse(bin, block.in[k]) : spline_forward(bin, block.in[k]);
      const bool inside = block.is_inside(k);
      slopes[k] = static_cast<A>(inside ? out.slope : 1.0);
      y[at + k] = store<T>(static_cast<A>(inside ? out.value : block.in[k]));
    }
    for (std::int64_t k = 0; k < count; ++k) {
      const A change = log_slope(slopes[k]);
      terms[k] = inverse ? -change : change;
    }
  };
  sum_over_chains<T>(
      {}, false, args.chain_size, begin, end,
      [&](std::int64_t at, std::int64_t count, const A*, A* terms) {
        for (std::int64_t done = 0; done < count;) {
          const std::int64_t part = std::min(block.room(), count - done);
          if (args.inverse)
            run(std::true_type{}, at + done, part, terms + done);
          else
            run(std::false_type{}, at + done, part, terms + done);
          done += part;
        }
      },
      [&](std::int64_t chain, double sum) { log_det[chain] = static_cast<A>(sum); });
}

// The gradient of an axis' raw logits: of the shares before the bin, of the bin's own, and through
// the softmax and the bound.
template <class T, class A>
inline void write_logit_grads(T* grads, const A* weights, const A* slopes, int bins, int bin,
                              double by_start, double by_length, double sum, double below,
                              double reach) {
  const double inverse_sum = 1.0 / sum;
  const double mean =
      (by_start * below + by_length * static_cast<double>(weights[bin])) * inverse_sum;
  const double scale = reach * inverse_sum;
  for (int j = 0; j < bins; ++j) {
    const double own = j < bin ? by_start : (j == bin ? by_length : 0.0);
    const double grad = scale * static_cast<double>(weights[j]) * (own - mean);
    grads[j] = store<T>(static_cast<A>(grad) * slopes[j]);
  }
}

template <class T>
void spline_backward_range(const SplineBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  SplineBlock<T> block(args);
  const int bins = static_cast<int>(args.bins);
  const double width_reach = 2.0 * args.tail_bound * (1.0 - bins * args.min_width);
  const double height_reach = 2.0 * args.tail_bound * (1.0 - bins * args.min_height);
  const T* y_grad = static_cast<const T*>(args.y_grad);
  const A* log_det_grad = static_cast<const A*>(args.log_det_grad);
  T* x_grad = static_cast<T*>(args.x_grad);
  T* widths_grad = static_cast<T*>(args.widths_grad);
  T* heights_grad = static_cast<T*>(args.heights_grad);
  T* derivatives_grad = static_cast<T*>(args.derivatives_grad);
  SplineAdjoint adjoints[SplineBlock<T>::kElements];
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t count = std::min(block.room(), end - at);
    block.read(at, count);
    for (std::int64_t k = 0; k < count; ++k) {
      const double u = static_cast<double>(load(y_grad[at + k]));
      const double v = static_cast<double>(log_det_grad[(at + k) / args.chain_size]);
      SplineAdjoint g{u, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
      if (block.is_inside(k))
        g = args.inverse ? spline_inverse_adjoint(block.bin(k), block.in[k], u, v)
                         : spline_adjoint(block.bin(k), block.in[k], u, v);
      x_grad[at + k] = store<T>(static_cast<A>(g.x));
      adjoints[k] = g;
    }
    for (std::int64_t k = 0; k < count; ++k) {
      const SplineAdjoint& g = adjoints[k];
      const std::int64_t e = at + k, first = k * bins;
      const int bin = static_cast<int>(block.index[k]);
      T* slopes = derivatives_grad + e * (bins - 1);
      for (int j = 0; j < bins - 1; ++j) slopes[j] = store<T>(A(0));
      if (!block.is_inside(k)) {  // whatever the parameters are, NaN included
        for (int j = 0; j < bins; ++j)
          widths_grad[e * bins + j] = heights_grad[e * bins + j] = store<T>(A(0));
        continue;
      }
      write_logit_grads(widths_grad + e * bins, block.width_weights + first,
                        block.width_slopes + first, bins, bin, g.left, g.width, block.width_sum[k],
                        block.width_below[k], width_reach);
      write_logit_grads(heights_grad + e * bins, block.height_weights + first,
                        block.height_slopes + first, bins, bin, g.bottom, g.height,
                        block.height_sum[k], block.height_below[k], height_reach);
      if (bin > 0) slopes[bin - 1] = store<T>(static_cast<A>(g.slope0) * block.slope0_by_raw[k]);
      if (bin + 1 < bins) slopes[bin] = store<T>(static_cast<A>(g.slope1) * block.slope1_by_raw[k]);
    }
    at += count;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
