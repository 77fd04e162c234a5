// The leapfrog integrator of H(x, p) = E(x) + p' M^-1 p / 2, one element at a time, for a diagonal
// mass matrix. Both maps are shears: they preserve volume, and a change of sign undoes them.
#pragma once

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
GENCORE_HD A leapfrog_kick(A momentum, A grad, A time) {
  return multiply_add(-time, grad, momentum);
}

template <class A>
GENCORE_HD A leapfrog_drift(A x, A momentum, A inverse_mass, A time) {
  return multiply_add(time * inverse_mass, momentum, x);
}

// The standard deviation of a momentum.
GENCORE_HD float momentum_scale(float inverse_mass) { return 1.0f / sqrtf(inverse_mass); }
GENCORE_HD double momentum_scale(double inverse_mass) { return 1.0 / sqrt(inverse_mass); }

}  // namespace GENCORE_LEVEL
}  // namespace gencore
