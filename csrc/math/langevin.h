// One Langevin step of one element, and the two linear maps that differentiate it.
//
//   pre = x - step (clip(grad) + prior x) + noise eps,   x' = clamp(pre)
//
// The step is piecewise linear in (x, grad, eps), so its first derivative is a pair of adjoint
// linear maps, and every higher derivative is one of the two again.
#pragma once

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
struct LangevinCoefficients {
  A step;
  A noise;
  A prior;
  A clip;  // +inf when the gradient is not clipped
  A low;   // -inf and +inf when the state is not clamped
  A high;
};

// Comparisons are ordered so that NaN passes through.
template <class A>
GENCORE_HD A clip_between(A value, A low, A high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

template <class A>
GENCORE_HD A langevin_unclamped(A x, A grad, A eps, const LangevinCoefficients<A>& c) {
  const A drift = multiply_add(c.prior, x, clip_between(grad, -c.clip, c.clip));
  return multiply_add(c.noise, eps, multiply_add(-c.step, drift, x));
}

template <class A>
GENCORE_HD A langevin_element(A x, A grad, A eps, const LangevinCoefficients<A>& c) {
  return clip_between(langevin_unclamped(x, grad, eps, c), c.low, c.high);
}

// Where the derivative of the clamps is one. A value on the bound counts as inside, as in
// torch.clamp before 2.14, and NaN as outside.
template <class A>
struct LangevinActive {
  bool state;
  bool grad;
};
template <class A>
GENCORE_HD LangevinActive<A> langevin_active(A x, A grad, A eps, const LangevinCoefficients<A>& c) {
  const A pre = langevin_unclamped(x, grad, eps, c);
  return {pre >= c.low && pre <= c.high, grad >= -c.clip && grad <= c.clip};
}

template <class A>
struct LangevinGradients {
  A x, grad, eps;
};
template <class A>
GENCORE_HD LangevinGradients<A> langevin_adjoint(A grad_out, LangevinActive<A> active,
                                                 const LangevinCoefficients<A>& c) {
  const A inside = active.state ? grad_out : A(0);
  return {multiply_add(-c.step * c.prior, inside, inside), active.grad ? -c.step * inside : A(0),
          c.noise * inside};
}

template <class A>
GENCORE_HD A langevin_tangent(A dx, A dgrad, A deps, LangevinActive<A> active,
                              const LangevinCoefficients<A>& c) {
  const A slope = multiply_add(-c.step * c.prior, dx, dx);
  const A drift = active.grad ? multiply_add(-c.step, dgrad, slope) : slope;
  return active.state ? multiply_add(c.noise, deps, drift) : A(0);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
