// The splines of a block of elements: where each element lies in its own, found from raw
// parameters.
//
// Every array of the block is [bins][elements], so that loops over elements vectorise.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/spline.h"
#include "../math/spline.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Raw parameters of a kind, in memory of any layout: entry j of element k.
template <class T>
struct RawParameters {
  const T* data;
  std::int64_t element_stride;
  std::int64_t bin_stride;

  accumulate_t<T> operator()(std::int64_t k, std::int64_t j) const {
    return load(data[k * element_stride + j * bin_stride]);
  }
};

// The most elements of a block.
inline constexpr int kSplineElements = 64;

template <class A>
class SplineBlock {
 public:
  SplineBlock(const SplineSettings& settings, bool is_inverse)
      : settings_(settings),
        is_inverse_(is_inverse),
        bins_(static_cast<int>(settings.bins)),
        limit_(settings.bound),
        offset_(static_cast<A>(settings.slope_offset)) {}

  // How many elements fit.
  std::int64_t room() const { return std::min<std::int64_t>(kSplineElements, kRoom / bins_); }

  // Finds the bins of `count` elements' x, or of their y for the inverse.
  template <class T>
  void read(const T* x, RawParameters<T> widths, RawParameters<T> heights,
            RawParameters<T> derivatives, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) in[k] = static_cast<double>(load(x[k]));
    exponentials(widths, count, width_weights, width_slopes);
    exponentials(heights, count, height_weights, height_slopes);
    locate(count);
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t bin = index[k];
      left_raw_[k] = bin > 0 ? derivatives(k, bin - 1) : A(0);
      right_raw_[k] = bin + 1 < bins_ ? derivatives(k, bin) : A(0);
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
    return in[k] >= -settings_.tail_bound && in[k] <= settings_.tail_bound;
  }

  // Element k mapped, and the slope dy/dx there; outside the interval the identity.
  template <bool kInverse>
  SplineValue map(std::int64_t k) const {
    const SplineValue out =
        kInverse ? spline_inverse(bin(k), in[k]) : spline_forward(bin(k), in[k]);
    const bool inside = is_inside(k);
    return {inside ? out.value : in[k], inside ? out.slope : 1.0};
  }

  static constexpr std::int64_t kRoom = kMaxSplineBins;
  alignas(64) double in[kSplineElements];
  alignas(64) std::int64_t index[kSplineElements];
  alignas(64) double width_sum[kSplineElements], width_below[kSplineElements];
  alignas(64) double height_sum[kSplineElements], height_below[kSplineElements];
  // [bins][count]
  alignas(64) A width_weights[kRoom], width_slopes[kRoom];
  alignas(64) A height_weights[kRoom], height_slopes[kRoom];
  alignas(64) A slope0_by_raw[kSplineElements], slope1_by_raw[kSplineElements];

 private:
  // exp(bounded raw - something common to the element's bins), and the bound's derivatives. What a
  // small bound allows at most will do; else it is the bins' largest.
  template <class T>
  void exponentials(RawParameters<T> raw, std::int64_t count, A* weights, A* slope) {
    const std::int64_t total = count * bins_;
    for (int j = 0; j < bins_; ++j)
      for (std::int64_t k = 0; k < count; ++k) weights[j * count + k] = raw(k, j);
    if (limit_.is_small) {
      for (std::int64_t k = 0; k < total; ++k) {
        const Activated<A> bounded = limit_.within(weights[k]);
        slope[k] = bounded.slope;
        weights[k] = exp_negative(bounded.value - limit_.bound);
      }
      return;
    }
    for (std::int64_t k = 0; k < total; ++k) {
      const Activated<A> bounded = limit_(weights[k]);
      slope[k] = bounded.slope;
      weights[k] = bounded.value;
    }
    alignas(64) A largest[kSplineElements];
    std::copy_n(weights, count, largest);
    for (int j = 1; j < bins_; ++j)
      for (std::int64_t k = 0; k < count; ++k)
        largest[k] = largest[k] < weights[j * count + k] ? weights[j * count + k] : largest[k];
    for (int j = 0; j < bins_; ++j)
      for (std::int64_t k = 0; k < count; ++k)
        weights[j * count + k] = exp_negative(weights[j * count + k] - largest[k]);
  }

  // Sums of the weights below each knot.
  void sum_weights(const A* weights, std::int64_t count, double* below, double* sum) const {
    std::fill_n(below, count, 0.0);
    for (int j = 0; j < bins_; ++j) {
      double* next = j + 1 < bins_ ? below + (j + 1) * count : sum;
      for (std::int64_t k = 0; k < count; ++k)
        next[k] = below[j * count + k] + static_cast<double>(weights[j * count + k]);
    }
  }

  void locate(std::int64_t count) {
    sum_weights(width_weights, count, width_knots_, width_sum);
    sum_weights(height_weights, count, height_knots_, height_sum);
    const double* below = is_inverse_ ? height_knots_ : width_knots_;
    const double* sum = is_inverse_ ? height_sum : width_sum;
    const double share = is_inverse_ ? settings_.min_height : settings_.min_width;
    std::fill_n(index, count, 0);
    for (std::int64_t k = 0; k < count; ++k)
      scale_[k] = SplineAxis(settings_.tail_bound, share, bins_, sum[k]).scale;
    for (int j = 1; j < bins_; ++j) {
      const double start = SplineAxis(settings_.tail_bound, share, bins_, 1.0).start(j);
      for (std::int64_t k = 0; k < count; ++k)
        index[k] += in[k] >= scale_[k] * below[j * count + k] + start ? 1 : 0;
    }
    measure(width_knots_, width_weights, width_sum, settings_.min_width, count, width_below, left_,
            width_);
    measure(height_knots_, height_weights, height_sum, settings_.min_height, count, height_below,
            bottom_, height_);
  }

  void measure(const double* knots, const A* weights, const double* sum, double share,
               std::int64_t count, double* below, double* start, double* length) const {
    for (std::int64_t k = 0; k < count; ++k) {
      const int bin = static_cast<int>(index[k]);
      const SplineAxis axis(settings_.tail_bound, share, bins_, sum[k]);
      below[k] = knots[bin * count + k];
      start[k] = axis.knot(bin, below[k]);
      const double above = below[k] + static_cast<double>(weights[bin * count + k]);
      length[k] = axis.knot(bin + 1, above) - start[k];
    }
  }

  void slopes(const A* raw, std::int64_t count, A* slope, A* by_raw) const {
    const A smallest = static_cast<A>(settings_.min_derivative);
    for (std::int64_t k = 0; k < count; ++k) {
      const Activated<A> bounded = limit_(raw[k]);
      const Activated<A> at_knot = knot_slope(bounded.value, offset_, smallest);
      slope[k] = at_knot.value;
      by_raw[k] = at_knot.slope * bounded.slope;
    }
  }

  const SplineSettings& settings_;
  const bool is_inverse_;
  const int bins_;
  const RawBound<A> limit_;
  const A offset_;
  alignas(64) double width_knots_[kRoom], height_knots_[kRoom], scale_[kSplineElements];
  alignas(64) A left_raw_[kSplineElements], right_raw_[kSplineElements];
  alignas(64) A slope0_[kSplineElements], slope1_[kSplineElements];
  alignas(64) double left_[kSplineElements], width_[kSplineElements], bottom_[kSplineElements],
      height_[kSplineElements];
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
