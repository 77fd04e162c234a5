// One element's step of the stochastic-gradient samplers.
//
//   SGHMC   p' = p - step (grad + friction v) + noise eps,  v = p / mass,   x' = x + step p' / mass
//   SGRLD   x' = x - step (metric grad - correction) + sqrt(2 step) sqrt(metric) eps
#pragma once

#include <cmath>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
struct SghmcCoefficients {
  A step;
  A friction;
  A inverse_mass;
  A noise;
};

template <class A>
struct PhasePoint {
  A position;
  A momentum;
};

template <class A>
GENCORE_HD PhasePoint<A> sghmc_element(PhasePoint<A> at, A grad, A eps,
                                       const SghmcCoefficients<A>& c) {
  const A force = multiply_add(c.friction, c.inverse_mass * at.momentum, grad);
  const A momentum = multiply_add(c.noise, eps, multiply_add(-c.step, force, at.momentum));
  return {multiply_add(c.step, c.inverse_mass * momentum, at.position), momentum};
}

GENCORE_HD float square_root(float value) { return sqrtf(value); }
GENCORE_HD double square_root(double value) { return sqrt(value); }

// `root` is sqrt(2 step), apart from the metric's root so that neither product overflows.
template <class A>
GENCORE_HD A riemannian_langevin_element(A x, A grad, A metric, A correction, A eps, A step,
                                         A root) {
  const A drift = multiply_add(metric, grad, -correction);
  return multiply_add(root * square_root(metric), eps, multiply_add(-step, drift, x));
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
