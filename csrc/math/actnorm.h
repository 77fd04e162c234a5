// Actnorm, the affine map of a channel: y = x exp(s) + b, and its inverse x = (y - b) exp(-s).
#pragma once

#include <cmath>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

GENCORE_HD float actnorm_scale(float log_scale, bool inverse) {
  return expf(inverse ? -log_scale : log_scale);
}
GENCORE_HD double actnorm_scale(double log_scale, bool inverse) {
  return exp(inverse ? -log_scale : log_scale);
}

template <class A>
GENCORE_HD A actnorm_map(A x, A scale, A bias, bool inverse) {
  return inverse ? (x - bias) * scale : multiply_add(x, scale, bias);
}

template <class A>
struct ActnormGrads {
  A log_scale;
  A bias;
};

// From a channel's sums of the result's gradient and of its product with the operand, and the sum
// of the log-determinants' gradients.
template <class A>
GENCORE_HD ActnormGrads<A> actnorm_grads(double grad, double grad_x, double grad_log_det,
                                         double positions, A scale, A bias, bool inverse) {
  const double volume = positions * grad_log_det;
  if (!inverse) return {static_cast<A>(scale * grad_x + volume), static_cast<A>(grad)};
  return {static_cast<A>(-scale * (grad_x - bias * grad) - volume), static_cast<A>(-scale * grad)};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
