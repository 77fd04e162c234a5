// Rational-quadratic splines on CUDA, an element a thread at a time. With K bins and b bytes an
// element, forward and inverse read (3K) b and write b; backward reads (3K + 1) b and writes (3K)
// b. Exponentials are made again where they are needed again: nothing is kept but sums.
#include "../math/spline.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

// The logits of one element on one axis.
template <class T>
struct Logits {
  using A = accumulate_t<T>;
  const T* raw;
  RawBound<A> limit;
  A largest;
  double sum;

  __device__ Logits(const void* all, std::int64_t element, const SplineArguments& args)
      : raw(static_cast<const T*>(all) + element * args.bins), limit(args.bound), sum(0.0) {
    const int bins = static_cast<int>(args.bins);
    largest = limit.bound;
    if (!limit.exists) {
      largest = load(raw[0]);
      for (int j = 1; j < bins; ++j) {
        const A logit = load(raw[j]);
        largest = largest < logit ? logit : largest;
      }
    }
    for (int j = 0; j < bins; ++j) sum += static_cast<double>(weight(j));
  }

  __device__ __forceinline__ A weight(int j) const {
    return exp_negative(limit(load(raw[j])).value - largest);
  }
};

// Where an element lies, with what its gradients need.
template <class T>
struct Located {
  using A = accumulate_t<T>;
  Logits<T> widths, heights;
  int index;
  double width_below, height_below;
  SplineBin bin;
  A slope0_by_raw, slope1_by_raw;

  __device__ Located(const SplineArguments& args, std::int64_t element, double in)
      : widths(args.widths, element, args), heights(args.heights, element, args) {
    const int bins = static_cast<int>(args.bins);
    const SplineAxis across(args.tail_bound, args.min_width, bins, widths.sum);
    const SplineAxis up(args.tail_bound, args.min_height, bins, heights.sum);
    if (args.inverse)
      search(up, heights, in, bins, height_below, bin.bottom, bin.height);
    else
      search(across, widths, in, bins, width_below, bin.left, bin.width);
    if (args.inverse)
      measure(across, widths, width_below, bin.left, bin.width);
    else
      measure(up, heights, height_below, bin.bottom, bin.height);
    const T* raw = static_cast<const T*>(args.derivatives) + element * (bins - 1);
    const A offset = static_cast<A>(slope_offset(args.min_derivative));
    const A smallest = static_cast<A>(args.min_derivative);
    bin.slope0 = bin.slope1 = 1.0;
    slope0_by_raw = slope1_by_raw = A(0);
    if (index > 0) bin.slope0 = slope(load(raw[index - 1]), offset, smallest, slope0_by_raw);
    if (index + 1 < bins) bin.slope1 = slope(load(raw[index]), offset, smallest, slope1_by_raw);
  }

 private:
  __device__ __forceinline__ void search(const SplineAxis& axis, const Logits<T>& logits, double in,
                                         int bins, double& below, double& start, double& length) {
    double running = 0.0, at = axis.knot(0, 0.0);
    for (int j = 0;; ++j) {
      const double after = running + static_cast<double>(logits.weight(j));
      const double next = axis.knot(j + 1, after);
      if (j + 1 == bins || !(in >= next)) {
        index = j;
        below = running;
        start = at;
        length = next - at;
        return;
      }
      running = after;
      at = next;
    }
  }

  __device__ __forceinline__ void measure(const SplineAxis& axis, const Logits<T>& logits,
                                          double& below, double& start, double& length) {
    below = 0.0;
    for (int j = 0; j < index; ++j) below += static_cast<double>(logits.weight(j));
    start = axis.knot(index, below);
    length = axis.knot(index + 1, below + static_cast<double>(logits.weight(index))) - start;
  }

  __device__ __forceinline__ double slope(A raw, A offset, A smallest, A& by_raw) const {
    const Activated<A> bounded = widths.limit(raw);
    const Activated<A> at_knot = knot_slope(bounded.value, offset, smallest);
    by_raw = at_knot.slope * bounded.slope;
    return static_cast<double>(at_knot.value);
  }
};

__device__ __forceinline__ bool is_inside(double in, double tail_bound) {
  return in >= -tail_bound && in <= tail_bound;
}

template <class T>
struct TransformBody {
  SplineTransform args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    double sum = 0.0;
    const T* x = static_cast<const T*>(args.x);
    T* y = static_cast<T*>(args.y);
    for_each_span(place, shape, [&](const Span& span) {
#pragma unroll 1
      for (int k = span.begin; k < span.end; ++k) {
        const std::int64_t e = span.at + k;
        const double in = static_cast<double>(load(x[e]));
        SplineValue out{in, 1.0};
        if (is_inside(in, args.tail_bound)) {
          const Located<T> at(args, e, in);
          out = args.inverse ? spline_inverse(at.bin, in) : spline_forward(at.bin, in);
        }
        y[e] = store<T>(static_cast<A>(out.value));
        sum += static_cast<double>(log(static_cast<A>(out.slope)));
      }
    });
    sum = chain_sum(place, sum);
    if (place.present && place.rank == 0)
      static_cast<A*>(args.log_det)[place.chain] = static_cast<A>(args.inverse ? -sum : sum);
  }
};

template <class T>
__device__ __forceinline__ void write_logit_grads(T* grads, const Logits<T>& logits, int bins,
                                                  int bin, double by_start, double by_length,
                                                  double below, double reach) {
  using A = accumulate_t<T>;
  const double inverse_sum = 1.0 / logits.sum;
  const double own_weight = static_cast<double>(logits.weight(bin));
  const double mean = (by_start * below + by_length * own_weight) * inverse_sum;
  const double scale = reach * inverse_sum;
#pragma unroll 1
  for (int j = 0; j < bins; ++j) {
    const double own = j < bin ? by_start : (j == bin ? by_length : 0.0);
    const Activated<A> bounded = logits.limit(load(logits.raw[j]));
    const double weight = static_cast<double>(exp_negative(bounded.value - logits.largest));
    grads[j] = store<T>(static_cast<A>(scale * weight * (own - mean)) * bounded.slope);
  }
}

template <class T>
struct BackwardBody {
  SplineBackward args;
  __device__ void operator()(const Span& span) const {
#pragma unroll 1
    for (int k = span.begin; k < span.end; ++k) element(span.at + k);
  }

  __device__ void element(std::int64_t e) const {
    using A = accumulate_t<T>;
    const int bins = static_cast<int>(args.bins);
    const double in = static_cast<double>(load(static_cast<const T*>(args.x)[e]));
    const double u = static_cast<double>(load(static_cast<const T*>(args.y_grad)[e]));
    const double v =
        static_cast<double>(static_cast<const A*>(args.log_det_grad)[e / args.chain_size]);
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
    const SplineAdjoint g =
        args.inverse ? spline_inverse_adjoint(at.bin, in, u, v) : spline_adjoint(at.bin, in, u, v);
    *x_grad = store<T>(static_cast<A>(g.x));
    const double reach = 2.0 * args.tail_bound;
    write_logit_grads(widths_grad, at.widths, bins, at.index, g.left, g.width, at.width_below,
                      reach * (1.0 - bins * args.min_width));
    write_logit_grads(heights_grad, at.heights, bins, at.index, g.bottom, g.height, at.height_below,
                      reach * (1.0 - bins * args.min_height));
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
    launch_elementwise<T>(BackwardBody<T>{args}, args.numel, 0, {}, stream);
  });
}

}  // namespace gencore::cuda
