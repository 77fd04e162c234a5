// Where an element lies in its spline, found by one thread. Exponentials are made again where they
// are needed again: nothing is kept but sums.
#pragma once

#include "../arguments/spline.h"
#include "../math/spline.h"
#include "../math/storage.h"

namespace gencore::cuda {

// One element's raw parameters of a kind, entry j `stride` j entries behind the first.
template <class T>
struct RawParameters {
  const T* first;
  int stride;

  __device__ __forceinline__ accumulate_t<T> operator[](int j) const {
    return load(first[j * stride]);
  }
};

// All of one element's.
template <class T>
struct RawSpline {
  RawParameters<T> widths, heights, derivatives;
};

// The weights of one element's bins on one axis: exponentials of bounded logits.
template <class T>
struct Weights {
  using A = accumulate_t<T>;
  RawParameters<T> raw;
  RawBound<A> limit;
  A largest;
  int bins;

  __device__ Weights(RawParameters<T> raw, const SplineSettings& spline)
      : raw(raw), limit(spline.bound), largest(limit.bound), bins(static_cast<int>(spline.bins)) {
    if (limit.is_small) return;  // the bound is as good
    largest = limit(raw[0]).value;
#pragma unroll 1
    for (int j = 1; j < bins; ++j) {
      const A logit = limit(raw[j]).value;
      largest = largest < logit ? logit : largest;
    }
  }

  __device__ __forceinline__ Activated<A> operator()(int j) const {
    const Activated<A> bounded = limit(raw[j]);
    return {exp_negative(bounded.value - largest), bounded.slope};
  }
};

// A bin's place on one axis, with the weights below it, its own and all.
struct Side {
  double below, own, sum, start, length;
};

template <class T>
__device__ __forceinline__ Side side_of(const Weights<T>& weights, int bin, double tail_bound,
                                        double smallest) {
  Side side{0.0, 0.0, 0.0, 0.0, 0.0};
#pragma unroll 1
  for (int j = 0; j < weights.bins; ++j) {
    const double weight = static_cast<double>(weights(j).value);
    if (j == bin) {
      side.below = side.sum;
      side.own = weight;
    }
    side.sum += weight;
  }
  const SplineAxis axis(tail_bound, smallest, weights.bins, side.sum);
  side.start = axis.knot(bin, side.below);
  side.length = axis.knot(bin + 1, side.below + side.own) - side.start;
  return side;
}

// The bin that `in` lies in.
template <class T>
__device__ __forceinline__ int search(const Weights<T>& weights, double in, double tail_bound,
                                      double smallest) {
  double sum = 0.0, below = 0.0;
#pragma unroll 1
  for (int j = 0; j < weights.bins; ++j) sum += static_cast<double>(weights(j).value);
  const SplineAxis axis(tail_bound, smallest, weights.bins, sum);
  int bin = 0;
#pragma unroll 1
  for (; bin + 1 < weights.bins; ++bin) {
    below += static_cast<double>(weights(bin).value);
    if (!(in >= axis.knot(bin + 1, below))) break;
  }
  return bin;
}

// Where an element lies, with what its gradients need.
template <class T>
struct Located {
  using A = accumulate_t<T>;
  int index;
  Side across, up;
  A slope0, slope1, slope0_by_raw, slope1_by_raw;

  __device__ Located(const SplineSettings& spline, const RawSpline<T>& raw, bool is_inverse,
                     double in) {
    const int bins = static_cast<int>(spline.bins);
    const Weights<T> searched(is_inverse ? raw.heights : raw.widths, spline);
    index =
        search(searched, in, spline.tail_bound, is_inverse ? spline.min_height : spline.min_width);
    const Weights<T> widths(raw.widths, spline);
    across = side_of(widths, index, spline.tail_bound, spline.min_width);
    const Weights<T> heights(raw.heights, spline);
    up = side_of(heights, index, spline.tail_bound, spline.min_height);
    slope0 = slope1 = A(1);
    slope0_by_raw = slope1_by_raw = A(0);
    if (index > 0) slope0 = slope(spline, raw.derivatives[index - 1], slope0_by_raw);
    if (index + 1 < bins) slope1 = slope(spline, raw.derivatives[index], slope1_by_raw);
  }

  __device__ __forceinline__ SplineBin bin() const {
    return {across.start,
            across.length,
            up.start,
            up.length,
            static_cast<double>(slope0),
            static_cast<double>(slope1)};
  }

 private:
  __device__ static __forceinline__ A slope(const SplineSettings& spline, A raw, A& by_raw) {
    const Activated<A> bounded = RawBound<A>(spline.bound)(raw);
    const Activated<A> at_knot = knot_slope(bounded.value, static_cast<A>(spline.slope_offset),
                                            static_cast<A>(spline.min_derivative));
    by_raw = at_knot.slope * bounded.slope;
    return at_knot.value;
  }
};

__device__ __forceinline__ bool is_inside(double in, double tail_bound) {
  return in >= -tail_bound && in <= tail_bound;
}

// An element mapped, and the slope dy/dx there; outside the interval the identity.
template <class T>
__device__ __forceinline__ SplineValue map(const SplineSettings& spline, const RawSpline<T>& raw,
                                           bool is_inverse, double in) {
  if (!is_inside(in, spline.tail_bound)) return {in, 1.0};
  const SplineBin bin = Located<T>(spline, raw, is_inverse, in).bin();
  return is_inverse ? spline_inverse(bin, in) : spline_forward(bin, in);
}

}  // namespace gencore::cuda
