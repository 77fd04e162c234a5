// Leapfrog steps: the step itself over a range of elements, its start and end over one of chains.
// Bytes per element of b bytes: start reads x, grad and writes position, momentum (4b, noise made
// in registers); step reads x, momentum, grad and writes two (5b); end reads momentum, grad and
// writes one (3b). The kinetic energies are made on the way.
#pragma once

#include "../arguments/leapfrog.h"
#include "../math/leapfrog.h"
#include "chainwise.h"
#include "coefficient.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void leapfrog_step_range(const LeapfrogStep& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientBlock<A> step(args.step_size, args.chain_size);
  CoefficientBlock<A> inverse_mass(args.inverse_mass, args.chain_size);
  const T* x = static_cast<const T*>(args.x);
  const T* momentum = static_cast<const T*>(args.momentum);
  const T* grad = static_cast<const T*>(args.grad);
  T* new_position = static_cast<T*>(args.new_position);
  T* new_momentum = static_cast<T*>(args.new_momentum);
  for_each_piece<T>({}, false, begin, end, [&](std::int64_t at, std::int64_t count, const A*) {
    step.move_to(at, count);
    inverse_mass.move_to(at, count);
// The results may be the operands: the same element, never a neighbour.
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const A p = leapfrog_kick<A>(load(momentum[at + k]), load(grad[at + k]), step[k]);
      new_position[at + k] =
          store<T>(leapfrog_drift<A>(load(x[at + k]), p, inverse_mass[k], step[k]));
      new_momentum[at + k] = store<T>(p);
    }
  });
}

template <class T>
void leapfrog_start_range(const LeapfrogStart& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientBlock<A> step(args.step_size, args.chain_size);
  CoefficientBlock<A> inverse_mass(args.inverse_mass, args.chain_size);
  alignas(64) A scale[kBlock];
  std::fill_n(scale, kBlock, momentum_scale(inverse_mass[0]));
  const T* x = static_cast<const T*>(args.x);
  const T* grad = static_cast<const T*>(args.grad);
  T* position = static_cast<T*>(args.position);
  T* momentum = static_cast<T*>(args.momentum);
  A* kinetic = static_cast<A*>(args.kinetic);
  sum_over_chains<T>(
      args.noise, true, args.chain_size, begin, end,
      [&](std::int64_t at, std::int64_t count, const A* noise, A* terms) {
        step.move_to(at, count);
        inverse_mass.move_to(at, count);
        if (inverse_mass.varies())
          for (std::int64_t k = 0; k < count; ++k) scale[k] = momentum_scale(inverse_mass[k]);
        for (std::int64_t k = 0; k < count; ++k) {
          const A eps = noise[k];
          terms[k] = eps * eps;  // p^2 / m
          const A p = leapfrog_kick<A>(scale[k] * eps, load(grad[at + k]), A(0.5) * step[k]);
          position[at + k] =
              store<T>(leapfrog_drift<A>(load(x[at + k]), p, inverse_mass[k], step[k]));
          momentum[at + k] = store<T>(p);
        }
      },
      [&](std::int64_t chain, double sum) { kinetic[chain] = static_cast<A>(0.5 * sum); });
}

template <class T>
void leapfrog_end_range(const LeapfrogEnd& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  CoefficientBlock<A> step(args.step_size, args.chain_size);
  CoefficientBlock<A> inverse_mass(args.inverse_mass, args.chain_size);
  const T* momentum = static_cast<const T*>(args.momentum);
  const T* grad = static_cast<const T*>(args.grad);
  T* new_momentum = static_cast<T*>(args.new_momentum);
  A* kinetic = static_cast<A*>(args.kinetic);
  sum_over_chains<T>(
      {}, false, args.chain_size, begin, end,
      [&](std::int64_t at, std::int64_t count, const A*, A* terms) {
        step.move_to(at, count);
        inverse_mass.move_to(at, count);
        for (std::int64_t k = 0; k < count; ++k) {
          const A p =
              leapfrog_kick<A>(load(momentum[at + k]), load(grad[at + k]), A(0.5) * step[k]);
          terms[k] = inverse_mass[k] * p * p;
          new_momentum[at + k] = store<T>(p);
        }
      },
      [&](std::int64_t chain, double sum) { kinetic[chain] = static_cast<A>(0.5 * sum); });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
