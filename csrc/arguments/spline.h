// What the kernels of rational-quadratic splines are called with.
#pragma once

#include <cstdint>

#include "common.h"

namespace gencore {

// A block of a CPU kernel holds the logits of at least one element.
inline constexpr std::int64_t kMaxSplineBins = 512;

// What the raw parameters of a spline mean: `bins` widths, as many heights, one derivative less.
struct SplineSettings {
  std::int64_t bins;
  double tail_bound;
  double bound;  // largest |raw parameter|, or infinite
  double min_width;
  double min_height;
  double min_derivative;
  double slope_offset;  // added inside the softplus: a raw derivative of zero has slope one
};

// Raw parameters of a kind: those of element e are neighbours, from entry e stride on.
struct SplineParameters {
  const void* data;
  std::int64_t stride;
};

// Chain i is the elements [i chain_size, (i + 1) chain_size), of which there may be none.
struct SplineArguments {
  Dtype dtype;
  bool inverse;
  std::int64_t numel;
  std::int64_t chains;
  std::int64_t chain_size;
  SplineSettings spline;
  const void* x;
  SplineParameters widths;
  SplineParameters heights;
  SplineParameters derivatives;
};

// `log_det` has one entry a chain, fp64 for fp64 ops, else fp32.
struct SplineTransform : SplineArguments {
  void* y;
  void* log_det;
};

// `log_det_grad` has one entry a chain, fp64 for fp64 ops, else fp32. Gradients of parameters are
// contiguous.
struct SplineBackward : SplineArguments {
  const void* y_grad;
  const void* log_det_grad;
  void* x_grad;
  void* widths_grad;
  void* heights_grad;
  void* derivatives_grad;
};

}  // namespace gencore
