// The stochastic-gradient samplers' steps over a range of elements.
// Bytes per element of b bytes, noise and shared coefficients free of charge: SGHMC reads x, p,
// grad and writes x', p' (5b); SGRLD reads x, grad, metric, correction and writes x' (5b).
#pragma once

#include "../math/stochastic_gradient.h"
#include "coefficient.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void sghmc_step_range(const SghmcStep& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientPiece<A> step(args.step_size), friction(args.friction);
  CoefficientPiece<A> inverse_mass(args.inverse_mass), scale(args.noise_scale);
  const T* x = static_cast<const T*>(args.x);
  const T* momentum = static_cast<const T*>(args.momentum);
  const T* grad = static_cast<const T*>(args.grad);
  T* x_out = static_cast<T*>(args.x_out);
  T* momentum_out = static_cast<T*>(args.momentum_out);
  for_each_piece<T>(args.noise, args.has_noise(), begin, end,
                    [&](std::int64_t at, std::int64_t count, const A* noise) {
                      for (auto* piece : {&step, &friction, &inverse_mass, &scale})
                        piece->move_to(at, count);
// The outputs may be the inputs: the same element, never a neighbour.
#pragma GCC ivdep
                      for (std::int64_t k = 0; k < count; ++k) {
                        const PhasePoint<A> next = sghmc_element<A>(
                            {load(x[at + k]), load(momentum[at + k])}, load(grad[at + k]), noise[k],
                            {step[k], friction[k], inverse_mass[k], scale[k]});
                        x_out[at + k] = store<T>(next.position);
                        momentum_out[at + k] = store<T>(next.momentum);
                      }
                    });
}

template <class T>
void riemannian_langevin_step_range(const RiemannianLangevinStep& args, std::int64_t begin,
                                    std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientPiece<A> step(args.step_size);
  const T* x = static_cast<const T*>(args.x);
  const T* grad = static_cast<const T*>(args.grad);
  const T* metric = static_cast<const T*>(args.metric);
  T* out = static_cast<T*>(args.out);
  alignas(64) A correction[kBlock] = {};
  for_each_piece<T>(args.noise, args.has_noise(), begin, end,
                    [&](std::int64_t at, std::int64_t count, const A* noise) {
                      step.move_to(at, count);
                      if (args.correction != nullptr)
                        load_block<T>(args.correction, at, count, correction);
// `out` may be `x`: the same element, never a neighbour.
#pragma GCC ivdep
                      for (std::int64_t k = 0; k < count; ++k)
                        out[at + k] = store<T>(riemannian_langevin_element<A>(
                            load(x[at + k]), load(grad[at + k]), load(metric[at + k]),
                            correction[k], noise[k], step[k], square_root(A(2) * step[k])));
                    });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
