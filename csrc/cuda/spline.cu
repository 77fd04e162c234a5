// Rational-quadratic splines on CUDA, an element a thread at a time. With K bins and b bytes an
// element, forward and inverse read (3K) b and write b; backward reads (3K + 1) b and writes (3K)
// b.
#include "chainwise.cuh"
#include "kernels.h"
#include "spline_bins.cuh"

namespace gencore::cuda {
namespace {

// The raw parameters of element e.
template <class T>
__device__ __forceinline__ RawSpline<T> raw_of(const SplineArguments& args, std::int64_t e) {
  const auto from = [e](const SplineParameters& raw) {
    return RawParameters<T>{static_cast<const T*>(raw.data) + e * raw.stride, 1};
  };
  return {from(args.widths), from(args.heights), from(args.derivatives)};
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
      const SplineValue out = map(args.spline, raw_of<T>(args, e), args.inverse, in);
      static_cast<T*>(args.y)[e] = store<T>(static_cast<A>(out.value));
      sum += static_cast<double>(log_slope(static_cast<A>(out.slope)));
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
    const SplineSettings& spline = args.spline;
    const int bins = static_cast<int>(spline.bins);
    const double in = static_cast<double>(load(static_cast<const T*>(args.x)[e]));
    const double u = static_cast<double>(load(static_cast<const T*>(args.y_grad)[e]));
    const double v = static_cast<double>(static_cast<const A*>(args.log_det_grad)[chain]);
    T* x_grad = static_cast<T*>(args.x_grad) + e;
    T* widths_grad = static_cast<T*>(args.widths_grad) + e * bins;
    T* heights_grad = static_cast<T*>(args.heights_grad) + e * bins;
    T* slopes_grad = static_cast<T*>(args.derivatives_grad) + e * (bins - 1);
    for (int j = 0; j < bins - 1; ++j) slopes_grad[j] = store<T>(A(0));
    if (!is_inside(in, spline.tail_bound)) {
      *x_grad = store<T>(static_cast<A>(u));
      for (int j = 0; j < bins; ++j) widths_grad[j] = heights_grad[j] = store<T>(A(0));
      return;
    }
    const RawSpline<T> raw = raw_of<T>(args, e);
    const Located<T> at(spline, raw, args.inverse, in);
    const SplineAdjoint g = args.inverse ? spline_inverse_adjoint(at.bin(), in, u, v)
                                         : spline_adjoint(at.bin(), in, u, v);
    *x_grad = store<T>(static_cast<A>(g.x));
    const double reach = 2.0 * spline.tail_bound;
    write_logit_grads(widths_grad, Weights<T>(raw.widths, spline), at.index, at.across, g.left,
                      g.width, reach * (1.0 - bins * spline.min_width));
    write_logit_grads(heights_grad, Weights<T>(raw.heights, spline), at.index, at.up, g.bottom,
                      g.height, reach * (1.0 - bins * spline.min_height));
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
