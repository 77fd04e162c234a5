// The stochastic-gradient samplers' steps over a range of elements.
// Bytes per element of b bytes, noise and shared coefficients free of charge: SGHMC reads x, p,
// grad and writes x', p' (5b); SGRLD reads x, grad, metric, correction and writes x' (5b).
#pragma once

#include "../arguments/stochastic_gradient.h"
#include "../math/stochastic_gradient.h"
#include "coefficient.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void sghmc_step_range(const SghmcStep& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientBlock<A> step(args.step_size, args.chain_size);
  CoefficientBlock<A> friction(args.friction, args.chain_size);
  CoefficientBlock<A> inverse_mass(args.inverse_mass, args.chain_size);
  CoefficientBlock<A> scale(args.noise_scale, args.chain_size);
  const T* x = static_cast<const T*>(args.x);
  const T* momentum = static_cast<const T*>(args.momentum);
  const T* grad = static_cast<const T*>(args.grad);
  T* new_position = static_cast<T*>(args.new_position);
  T* new_momentum = static_cast<T*>(args.new_momentum);
  for_each_piece<T>(args.noise, args.has_noise(), begin, end,
                    [&](std::int64_t at, std::int64_t count, const A* noise) {
                      for (auto* block : {&step, &friction, &inverse_mass, &scale})
                        block->move_to(at, count);
// The outputs may be the inputs: the same element, never a neighbour.
#pragma GCC ivdep
                      for (std::int64_t k = 0; k < count; ++k) {
                        const PhasePoint<A> next = sghmc_element<A>(
                            {load(x[at + k]), load(momentum[at + k])}, load(grad[at + k]), noise[k],
                            {step[k], friction[k], inverse_mass[k], scale[k]});
                        new_position[at + k] = store<T>(next.position);
                        new_momentum[at + k] = store<T>(next.momentum);
                      }
                    });
}

template <class T>
void riemannian_langevin_step_range(const RiemannianLangevinStep& args, std::int64_t begin,
                                    std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientBlock<A> step(args.step_size, args.chain_size);
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
