// Rational-quadratic splines on CUDA, an element a thread at a time. With K bins and b bytes an
// element, forward and inverse read (3K) b and write b; backward reads (3K + 1) b and writes (3K)
// b. Exponentials are made again where they are needed again: nothing is kept but sums.
#include "../math/spline.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

// The weights of one element's bins on one axis: exponentials of bounded logits.
template <class T>
struct Weights {
  using A = accumulate_t<T>;
  const T* raw;
  RawBound<A> limit;
  A largest;
  int bins;

  __device__ Weights(const void* all, std::int64_t element, const SplineArguments& args)
      : raw(static_cast<const T*>(all) + element * args.bins),
        limit(args.bound),
        largest(limit.bound),
        bins(static_cast<int>(args.bins)) {
    if (limit.is_small) return;  // the bound is as good
    largest = limit(load(raw[0])).value;
#pragma unroll 1
    for (int j = 1; j < bins; ++j) {
      const A logit = limit(load(raw[j])).value;
      largest = largest < logit ? logit : largest;
    }
  }

  __device__ __forceinline__ Activated<A> operator()(int j) const {
    const Activated<A> bounded = limit(load(raw[j]));
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

  __device__ Located(const SplineArguments& args, std::int64_t element, double in) {
    const int bins = static_cast<int>(args.bins);
    const Weights<T> searched(args.inverse ? args.heights : args.widths, element, args);
    index = search(searched, in, args.tail_bound, args.inverse ? args.min_height : args.min_width);
    const Weights<T> widths(args.widths, element, args);
    across = side_of(widths, index, args.tail_bound, args.min_width);
    const Weights<T> heights(args.heights, element, args);
    up = side_of(heights, index, args.tail_bound, args.min_height);
    const T* raw = static_cast<const T*>(args.derivatives) + element * (bins - 1);
    slope0 = slope1 = A(1);
    slope0_by_raw = slope1_by_raw = A(0);
    if (index > 0) slope0 = slope(args, load(raw[index - 1]), slope0_by_raw);
    if (index + 1 < bins) slope1 = slope(args, load(raw[index]), slope1_by_raw);
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
  __device__ static __forceinline__ A slope(const SplineArguments& args, A raw, A& by_raw) {
    const Activated<A> bounded = RawBound<A>(args.bound)(raw);
    const Activated<A> at_knot = knot_slope(bounded.value, static_cast<A>(args.slope_offset),
                                            static_cast<A>(args.min_derivative));
    by_raw = at_knot.slope * bounded.slope;
    return at_knot.value;
  }
};

__device__ __forceinline__ bool is_inside(double in, double tail_bound) {
  return in >= -tail_bound && in <= tail_bound;
}

// Calls body(e) for a thread's share of its chain, neighbours next to each other.
template <class Body>
__device__ __forceinline__ void for_each_element(const Place& place, const ChainShape& shape,
                                                 Body body) {
  if (!place.present) return;
  const std::int64_t start = place.chain * shape.chain_size;
#pragma unroll 1
  for (std::int64_t k = place.rank; k < shape.chain_size; k += place.width) body(start + k);
}

template <class T>
struct TransformBody {
  SplineTransform args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    double sum = 0.0;
    for_each_element(place, shape, [&](std::int64_t e) {
      const double in = static_cast<double>(load(static_cast<const T*>(args.x)[e]));
      A value = static_cast<A>(in), slope = A(1);
      if (is_inside(in, args.tail_bound)) {
        const SplineBin bin = Located<T>(args, e, in).bin();
        const SplineValue out = args.inverse ? spline_inverse(bin, in) : spline_forward(bin, in);
        value = static_cast<A>(out.value);
        slope = static_cast<A>(out.slope);
      }
      static_cast<T*>(args.y)[e] = store<T>(value);
      sum += static_cast<double>(log_slope(slope));
    });
    sum = chain_sum(place, sum);
    if (place.present && place.rank == 0)
      static_cast<A*>(args.log_det)[place.chain] = static_cast<A>(args.inverse ? -sum : sum);
  }
};

// The gradient of an axis' raw logits: of the shares before the bin, of the bin's own, and through
// the softmax and the bound.
template <class T>
__device__ __forceinline__ void write_logit_grads(T* grads, const Weights<T>& weights, int bin,
                                                  const Side& side, double by_start,
                                                  double by_length, double reach) {
  using A = accumulate_t<T>;
  const double scale = reach / side.sum;
  const double mean = (by_start * side.below + by_length * side.own) / side.sum;
#pragma unroll 1
  for (int j = 0; j < weights.bins; ++j) {
    const double own = j < bin ? by_start : (j == bin ? by_length : 0.0);
    const Activated<A> weight = weights(j);
    const double grad = scale * static_cast<double>(weight.value) * (own - mean);
    grads[j] = store<T>(static_cast<A>(grad) * weight.slope);
  }
}

template <class T>
struct BackwardBody {
  SplineBackward args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    for_each_element(place, shape, [&](std::int64_t e) { element(e, place.chain); });
  }

  __device__ __forceinline__ void element(std::int64_t e, std::int64_t chain) const {
    using A = accumulate_t<T>;
    const int bins = static_cast<int>(args.bins);
    const double in = static_cast<double>(load(static_cast<const T*>(args.x)[e]));
    const double u = static_cast<double>(load(static_cast<const T*>(args.y_grad)[e]));
    const double v = static_cast<double>(static_cast<const A*>(args.log_det_grad)[chain]);
    T* x_grad = static_cast<T*>(args.x_grad) + e;
    T* widths_grad = static_cast<T*>(args.widths_grad) + e * bins;
    T* heights_grad = static_cast<T*>(args.heights_grad) + e * bins;
    T* slopes_grad = static_cast<T*>(args.derivatives_grad) + e * (bins - 1);
    for (int j = 0; j < bins - 1; ++j) slopes_grad[j] = store<T>(A(0));
    if (!is_inside(in, args.tail_bound)) {
      *x_grad = store<T>(static_cast<A>(u));
      for (int j = 0; j < bins; ++j) widths_grad[j] = heights_grad[j] = store<T>(A(0));
      return;
    }
    const Located<T> at(args, e, in);
    const SplineAdjoint g = args.inverse ? spline_inverse_adjoint(at.bin(), in, u, v)
                                         : spline_adjoint(at.bin(), in, u, v);
    *x_grad = store<T>(static_cast<A>(g.x));
    const double reach = 2.0 * args.tail_bound;
    write_logit_grads(widths_grad, Weights<T>(args.widths, e, args), at.index, at.across, g.left,
                      g.width, reach * (1.0 - bins * args.min_width));
    write_logit_grads(heights_grad, Weights<T>(args.heights, e, args), at.index, at.up, g.bottom,
                      g.height, reach * (1.0 - bins * args.min_height));
    if (at.index > 0)
      slopes_grad[at.index - 1] = store<T>(static_cast<A>(g.slope0) * at.slope0_by_raw);
    if (at.index + 1 < bins)
      slopes_grad[at.index] = store<T>(static_cast<A>(g.slope1) * at.slope1_by_raw);
  }
};

}  // namespace

void spline(const SplineTransform& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(TransformBody<T>{args}, args.chains, args.chain_size, 0, {}, stream);
  });
}

void spline_backward(const SplineBackward& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(BackwardBody<T>{args}, args.chains, args.chain_size, 0, {}, stream);
  });
}

}  // namespace gencore::cuda
