// One coordinate of an affine autoregressive map, inverted.
#pragma once

#include "activation.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// e^x, capped at e^87 in fp32.
GENCORE_HD float exp_signed(float x) {
  const float e = exp_negative(x > 0.0f ? -x : x);
  return x > 0.0f ? 1.0f / e : e;
}
GENCORE_HD double exp_signed(double x) { return exp(x); }

template <class A>
struct SolvedCoordinate {
  A value;
  A log_slope;  // log dx/dz
};

// z = (x - m) exp(-s) for the log-scale s = bound tanh(raw / bound).
template <class A>
GENCORE_HD SolvedCoordinate<A> solve_exponential(A z, A shift, A raw, A bound) {
  const A tanh = activate<Activation::kTanh>(raw / bound, A(0)).value;
  const A s = bound < A(__builtin_huge_val()) ? bound * tanh : raw;
  return {multiply_add(z, exp_signed(s), shift), s};
}

// z = sigma x + (1 - sigma) m for the gate sigma = sigmoid(raw): 1 / sigma is 1 + exp(-raw).
template <class A>
GENCORE_HD SolvedCoordinate<A> solve_gate(A z, A shift, A raw) {
  return {multiply_add(z - shift, A(1) + exp_signed(-raw), shift),
          activate<Activation::kSoftplus>(-raw, A(0)).value};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
