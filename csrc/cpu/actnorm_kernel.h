// Actnorm over [images, channels, positions]. Bytes per element of b bytes: the map reads x and
// writes one (2b); backward reads grad_out and x and writes one (3b), and makes a channel's sums on
// the way, of every plane or, where a plane is one element, down the columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/actnorm.h"
#include "../math/actnorm.h"
#include "../math/storage.h"
#include "lane_sum.h"
#include "philox_block.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// One item: all channels, a handful of numbers.
template <class T>
void actnorm_scales_range(const ActnormScales& args, std::int64_t, std::int64_t) {
  using A = accumulate_t<T>;
  const A* log_scale = static_cast<const A*>(args.log_scale);
  A* scale = static_cast<A*>(args.scale);
  double sum = 0.0;
  for (std::int64_t c = 0; c < args.channels; ++c) {
    scale[c] = actnorm_scale(log_scale[c], args.inverse);
    sum += log_scale[c];
  }
  if (args.log_det == nullptr) return;
  sum *= static_cast<double>(args.inverse ? -args.positions : args.positions);
  std::fill_n(static_cast<A*>(args.log_det), args.images, static_cast<A>(sum));
}

// Elements.
template <class T>
void actnorm_range(const Actnorm& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const T* x = static_cast<const T*>(args.x);
  const A* scales = static_cast<const A*>(args.scale);
  const A* biases = static_cast<const A*>(args.bias);
  T* out = static_cast<T*>(args.out);
  const bool inverse = args.inverse;
  if (args.positions == 1) {
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t channel = at % args.channels;
      const std::int64_t run = std::min(end - at, args.channels - channel);
      for (std::int64_t k = 0; k < run; ++k)
        out[at + k] = store<T>(
            actnorm_map<A>(load(x[at + k]), scales[channel + k], biases[channel + k], inverse));
      at += run;
    }
    return;
  }
  if (begin == end) return;
  std::int64_t channel = begin / args.positions % args.channels;
  std::int64_t position = begin % args.positions;
  for (std::int64_t at = begin; at < end; position = 0) {
    const std::int64_t run = std::min(end - at, args.positions - position);
    const A scale = scales[channel], bias = biases[channel];
    for (std::int64_t k = 0; k < run; ++k)
      out[at + k] = store<T>(actnorm_map<A>(load(x[at + k]), scale, bias, inverse));
    at += run;
    channel = channel + 1 < args.channels ? channel + 1 : 0;
  }
}

// Planes, each a part of its channel's sums.
template <class T>
void actnorm_plane_range(const ActnormBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  alignas(64) A terms[kBlock], products[kBlock];
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const A scale = static_cast<const A*>(args.scale)[plane % args.channels];
    LaneSum sum, product;
    const std::int64_t stop = (plane + 1) * args.positions;
    for (std::int64_t at = plane * args.positions; at < stop; at += kBlock) {
      const std::int64_t count = std::min<std::int64_t>(kBlock, stop - at);
      const T* grad = static_cast<const T*>(args.grad_out) + at;
      const T* x = static_cast<const T*>(args.x) + at;
      T* grad_x = static_cast<T*>(args.grad_x) + at;
#pragma GCC ivdep
      for (std::int64_t k = 0; k < count; ++k) {
        const A g = load(grad[k]);
        terms[k] = g;
        products[k] = g * load(x[k]);
        grad_x[k] = store<T>(g * scale);
      }
      sum.add(terms, count);
      product.add(products, count);
    }
    args.sums[2 * plane] = sum.total();
    args.sums[2 * plane + 1] = product.total();
  }
}

// Channels of one position, in one part.
template <class T>
void actnorm_column_range(const ActnormBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const A* scale = static_cast<const A*>(args.scale);
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const std::int64_t count = std::min<std::int64_t>(kBlock, end - first);
    double sum[kBlock] = {}, product[kBlock] = {};
    for (std::int64_t image = 0; image < args.images; ++image) {
      const std::int64_t at = image * args.channels + first;
      const T* grad = static_cast<const T*>(args.grad_out) + at;
      const T* x = static_cast<const T*>(args.x) + at;
      T* grad_x = static_cast<T*>(args.grad_x) + at;
#pragma GCC ivdep
      for (std::int64_t k = 0; k < count; ++k) {
        const A g = load(grad[k]);
        grad_x[k] = store<T>(g * scale[first + k]);
        sum[k] += g;
        product[k] += g * load(x[k]);
      }
    }
    for (std::int64_t k = 0; k < count; ++k) {
      args.sums[2 * (first + k)] = sum[k];
      args.sums[2 * (first + k) + 1] = product[k];
    }
  }
}

template <class T>
void actnorm_backward_range(const ActnormBackward& args, std::int64_t begin, std::int64_t end) {
  if (args.positions == 1) return actnorm_column_range<T>(args, begin, end);
  actnorm_plane_range<T>(args, begin, end);
}

// Channels.
template <class T>
void actnorm_parameters_range(const ActnormParameters& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const A* grad_log_det = static_cast<const A*>(args.grad_log_det);
  double log_det = 0.0;
  for (std::int64_t image = 0; image < args.images; ++image) log_det += grad_log_det[image];
  for (std::int64_t c = begin; c < end; ++c) {
    double sum = 0.0, product = 0.0;
    for (std::int64_t part = 0; part < args.parts; ++part) {
      const double* sums = args.sums + 2 * (part * args.channels + c);
      sum += sums[0];
      product += sums[1];
    }
    const ActnormGrads<A> grads = actnorm_grads(
        sum, product, log_det, static_cast<double>(args.positions),
        static_cast<const A*>(args.scale)[c], static_cast<const A*>(args.bias)[c], args.inverse);
    static_cast<A*>(args.grad_log_scale)[c] = grads.log_scale;
    static_cast<A*>(args.grad_bias)[c] = grads.bias;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
