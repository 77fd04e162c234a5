// Rational-quadratic splines over a range of chains. With K bins and b bytes an element, forward
// and inverse read (3K) b and write b; backward reads (3K + 1) b and writes (3K) b.
#pragma once

#include <algorithm>

#include "chainwise.h"
#include "spline_block.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Reads elements [at, at + count) of a call's operands.
template <class T>
void read_splines(const SplineArguments& args, std::int64_t at, std::int64_t count,
                  SplineBlock<accumulate_t<T>>& block) {
  const auto from = [&](const SplineParameters& raw) {
    return RawParameters<T>{static_cast<const T*>(raw.data) + at * raw.stride, raw.stride, 1};
  };
  block.read(static_cast<const T*>(args.x) + at, from(args.widths), from(args.heights),
             from(args.derivatives), count);
}

template <class T>
void spline_range(const SplineTransform& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  SplineBlock<A> block(args.spline, args.inverse);
  T* y = static_cast<T*>(args.y);
  A* log_det = static_cast<A*>(args.log_det);
  const auto run = [&](auto inverse, std::int64_t at, std::int64_t count, A* terms) {
    read_splines<T>(args, at, count, block);
    alignas(64) A slopes[kSplineElements];
    for (std::int64_t k = 0; k < count; ++k) {
      const SplineValue out = block.template map<inverse>(k);
      slopes[k] = static_cast<A>(out.slope);
      y[at + k] = store<T>(static_cast<A>(out.value));
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

// What the gradients of a block's logits on one axis are made of.
struct LogitAdjoints {
  alignas(64) double by_start[kSplineElements], by_length[kSplineElements];
};

// The gradients of a block's raw logits on one axis: of the shares before the bin, of the bin's
// own, and through the softmax and the bound.
template <class T, class A>
void write_logit_grads(T* grads, const A* weights, const A* slopes, int bins, std::int64_t count,
                       const std::int64_t* index, const LogitAdjoints& by, const double* sum,
                       const double* below, const double* inside, double reach) {
  alignas(64) double mean[kSplineElements], scale[kSplineElements];
  for (std::int64_t k = 0; k < count; ++k) {
    const double inverse_sum = 1.0 / sum[k];
    const double own = static_cast<double>(weights[index[k] * count + k]);
    mean[k] = (by.by_start[k] * below[k] + by.by_length[k] * own) * inverse_sum;
    scale[k] = reach * inverse_sum;
  }
  for (int j = 0; j < bins; ++j) {
    alignas(64) A row[kSplineElements];
    for (std::int64_t k = 0; k < count; ++k) {
      const double own = j < index[k] ? by.by_start[k] : (j == index[k] ? by.by_length[k] : 0.0);
      const double grad = scale[k] * static_cast<double>(weights[j * count + k]) * (own - mean[k]);
      // Outside the interval zero, whatever the parameters are, NaN included.
      row[k] = inside[k] != 0.0 ? static_cast<A>(grad) * slopes[j * count + k] : A(0);
    }
    for (std::int64_t k = 0; k < count; ++k) grads[k * bins + j] = store<T>(row[k]);
  }
}

template <class T>
void spline_backward_range(const SplineBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  SplineBlock<A> block(args.spline, args.inverse);
  const int bins = static_cast<int>(args.spline.bins);
  const double width_reach = 2.0 * args.spline.tail_bound * (1.0 - bins * args.spline.min_width);
  const double height_reach = 2.0 * args.spline.tail_bound * (1.0 - bins * args.spline.min_height);
  const T* y_grad = static_cast<const T*>(args.y_grad);
  const A* log_det_grad = static_cast<const A*>(args.log_det_grad);
  T* x_grad = static_cast<T*>(args.x_grad);
  T* widths_grad = static_cast<T*>(args.widths_grad);
  T* heights_grad = static_cast<T*>(args.heights_grad);
  T* derivatives_grad = static_cast<T*>(args.derivatives_grad);
  LogitAdjoints across, up;
  alignas(64) double by_slope0[kSplineElements], by_slope1[kSplineElements];
  alignas(64) double inside[kSplineElements];
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t count = std::min(block.room(), end - at);
    read_splines<T>(args, at, count, block);
    for (std::int64_t k = 0; k < count; ++k) {
      const double u = static_cast<double>(load(y_grad[at + k]));
      const double v = static_cast<double>(log_det_grad[(at + k) / args.chain_size]);
      SplineAdjoint g{u, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
      if (block.is_inside(k))
        g = args.inverse ? spline_inverse_adjoint(block.bin(k), block.in[k], u, v)
                         : spline_adjoint(block.bin(k), block.in[k], u, v);
      x_grad[at + k] = store<T>(static_cast<A>(g.x));
      across.by_start[k] = g.left;
      across.by_length[k] = g.width;
      up.by_start[k] = g.bottom;
      up.by_length[k] = g.height;
      by_slope0[k] = g.slope0;
      by_slope1[k] = g.slope1;
      inside[k] = block.is_inside(k) ? 1.0 : 0.0;
    }
    write_logit_grads(widths_grad + at * bins, block.width_weights, block.width_slopes, bins, count,
                      block.index, across, block.width_sum, block.width_below, inside, width_reach);
    write_logit_grads(heights_grad + at * bins, block.height_weights, block.height_slopes, bins,
                      count, block.index, up, block.height_sum, block.height_below, inside,
                      height_reach);
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t bin = block.index[k];
      T* const slopes = derivatives_grad + (at + k) * (bins - 1);
      for (int j = 0; j < bins - 1; ++j) slopes[j] = store<T>(A(0));
      if (!block.is_inside(k)) continue;
      if (bin > 0)
        slopes[bin - 1] = store<T>(static_cast<A>(by_slope0[k]) * block.slope0_by_raw[k]);
      if (bin + 1 < bins)
        slopes[bin] = store<T>(static_cast<A>(by_slope1[k]) * block.slope1_by_raw[k]);
    }
    at += count;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
