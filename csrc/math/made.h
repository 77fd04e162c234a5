// One coordinate of an affine autoregressive map, inverted.
#pragma once

#include "activation.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// e^x
GENCORE_HD float exp_signed(float x) {
  const bool is_large = x > 87.0f || x < -87.0f;
  const float e = exp_negative(x > 0.0f ? -x : x);
  return is_large ? exponential(x) : (x > 0.0f ? 1.0f / e : e);
}
GENCORE_HD double exp_signed(double x) { return exp(x); }

template <class A>
struct SolvedCoordinate {
  A value;
  A log_slope;  // log dx/dz
};

// s = bound tanh(raw / bound), or raw where the bound is infinite.
template <class A>
GENCORE_HD A within_bound(A raw, A bound) {
  const A tanh = tanh_of_bounded(raw / bound, bound <= A(kSmallBound)).value;
  return bound < A(__builtin_huge_val()) ? bound * tanh : raw;
}

// z = (x - m) exp(-s).
template <class A>
GENCORE_HD SolvedCoordinate<A> solve_exponential(A z, A shift, A s) {
  return {multiply_add(z, exp_signed(s), shift), s};
}

// z = sigma x + (1 - sigma) m for the gate sigma = sigmoid(s): 1 / sigma is 1 + exp(-s).
template <class A>
GENCORE_HD SolvedCoordinate<A> solve_gate(A z, A shift, A s) {
  return {multiply_add(z - shift, A(1) + exp_signed(-s), shift),
          activate<Activation::kSoftplus>(-s, A(0)).value};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
