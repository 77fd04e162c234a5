// The Langevin step and its derivatives over a range of elements.
// Bytes per element, for an element of b bytes: step reads x, grad and writes x' (3b, noise free of
// charge); backward reads grad_out and writes the wanted gradients, and rereads x, grad only where
// a clamp has to be differentiated; tangent likewise.
#pragma once

#include "../arguments/langevin.h"
#include "../math/langevin.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The coefficients of one piece, spread to one entry an element so that the loops below are the
// same for numbers and for per-chain tensors.
template <class A>
class LangevinPiece {
 public:
  explicit LangevinPiece(const LangevinArguments& args) : args_(args) {
    std::fill_n(step_, kBlock, static_cast<A>(args.step_size));
    std::fill_n(noise_, kBlock, static_cast<A>(args.noise_scale));
  }

  void move_to(std::int64_t at, std::int64_t count) {
    spread(args_.step_sizes, at, count, step_);
    spread(args_.noise_scales, at, count, noise_);
  }

  GENCORE_HD LangevinCoefficients<A> operator[](std::int64_t k) const {
    return {step_[k], noise_[k], prior_, clip_, low_, high_};
  }

 private:
  void spread(const void* per_chain, std::int64_t at, std::int64_t count, A* out) const {
    if (per_chain == nullptr) return;
    const A* values = static_cast<const A*>(per_chain);
    std::int64_t chain = at / args_.chain_size;
    std::int64_t left = args_.chain_size - at % args_.chain_size;
    for (std::int64_t k = 0; k < count; ++k, --left) {
      if (left == 0) {
        ++chain;
        left = args_.chain_size;
      }
      out[k] = values[chain];
    }
  }

  const LangevinArguments& args_;
  const A prior_ = static_cast<A>(args_.prior_precision);
  const A clip_ = static_cast<A>(args_.grad_clamp);
  const A low_ = static_cast<A>(args_.clamp_min);
  const A high_ = static_cast<A>(args_.clamp_max);
  alignas(64) A step_[kBlock];
  alignas(64) A noise_[kBlock];
};

template <class T>
void langevin_step_range(const LangevinStep& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  LangevinPiece<A> piece(args);
  const T* x = static_cast<const T*>(args.x);
  const T* grad = static_cast<const T*>(args.grad);
  T* out = static_cast<T*>(args.out);
  for_each_piece<T>(args.noise, args.has_noise(), begin, end,
                    [&](std::int64_t at, std::int64_t count, const A* noise) {
                      piece.move_to(at, count);
// `out` may be `x`: the same element, never a neighbour.
#pragma GCC ivdep
                      for (std::int64_t k = 0; k < count; ++k)
                        out[at + k] = store<T>(langevin_element<A>(
                            load(x[at + k]), load(grad[at + k]), noise[k], piece[k]));
                    });
}

// Calls body(at, count, piece, active), where active(k) says which of an element's clamps let
// derivatives through. The state is recomputed only where it is clamped, which also is the only
// case that needs the noise; without any clamp the test is compiled away.
template <class T, class Body>
inline void for_each_active_piece(const LangevinArguments& args, std::int64_t begin,
                                  std::int64_t end, Body body) {
  using A = accumulate_t<T>;
  LangevinPiece<A> piece(args);
  const bool clamps = args.clamps_state();
  if (!clamps && !args.clips_grad()) {
    return for_each_piece<T>(
        args.noise, false, begin, end, [&](std::int64_t at, std::int64_t count, const A*) {
          piece.move_to(at, count);
          body(at, count, piece, [](std::int64_t) { return LangevinActive<A>{true, true}; });
        });
  }
  alignas(64) A x[kBlock] = {}, grad[kBlock] = {};
  for_each_piece<T>(
      args.noise, clamps && args.has_noise(), begin, end,
      [&](std::int64_t at, std::int64_t count, const A* noise) {
        piece.move_to(at, count);
        if (clamps) load_block<T>(args.x, at, count, x);
        load_block<T>(args.grad, at, count, grad);
        body(at, count, piece, [&](std::int64_t k) {
          LangevinActive<A> active = langevin_active(x[k], grad[k], noise[k], piece[k]);
          active.state = active.state || !clamps;  // an infinite state is active without bounds
          return active;
        });
      });
}

template <class T>
inline void store_block(const accumulate_t<T>* values, std::int64_t at, std::int64_t count,
                        void* target) {
  if (target == nullptr) return;
  T* out = static_cast<T*>(target) + at;
  for (std::int64_t k = 0; k < count; ++k) out[k] = store<T>(values[k]);
}

template <class T>
void langevin_backward_range(const LangevinBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const T* grad_out = static_cast<const T*>(args.grad_out);
  alignas(64) A x[kBlock], grad[kBlock], noise[kBlock];
  for_each_active_piece<T>(
      args, begin, end,
      [&](std::int64_t at, std::int64_t count, const LangevinPiece<A>& piece, auto active) {
        for (std::int64_t k = 0; k < count; ++k) {
          const LangevinGradients<A> gradients =
              langevin_adjoint<A>(load(grad_out[at + k]), active(k), piece[k]);
          x[k] = gradients.x;
          grad[k] = gradients.grad;
          noise[k] = gradients.eps;
        }
        store_block<T>(x, at, count, args.x_grad);
        store_block<T>(grad, at, count, args.grad_grad);
        store_block<T>(noise, at, count, args.noise_grad);
      });
}

template <class T>
void langevin_tangent_range(const LangevinTangent& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  T* out = static_cast<T*>(args.out);
  alignas(64) A dx[kBlock] = {}, dgrad[kBlock] = {}, dnoise[kBlock] = {};
  for_each_active_piece<T>(
      args, begin, end,
      [&](std::int64_t at, std::int64_t count, const LangevinPiece<A>& piece, auto active) {
        if (args.x_tangent != nullptr) load_block<T>(args.x_tangent, at, count, dx);
        if (args.grad_tangent != nullptr) load_block<T>(args.grad_tangent, at, count, dgrad);
        if (args.noise_tangent != nullptr) load_block<T>(args.noise_tangent, at, count, dnoise);
        for (std::int64_t k = 0; k < count; ++k)
          out[at + k] =
              store<T>(langevin_tangent<A>(dx[k], dgrad[k], dnoise[k], active(k), piece[k]));
      });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
