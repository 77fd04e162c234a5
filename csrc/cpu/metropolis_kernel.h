// The Metropolis decision and its consequence over a range of chains. Bytes per element of b bytes:
// reads the proposal and its gradient (2b), which stay in the cache for the copy; writes both where
// they are accepted (2b); a rejected chain is copied (4b) unless it stays in its place.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/metropolis.h"
#include "../math/metropolis.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
inline bool all_finite(const T* values, std::int64_t count) {
  constexpr std::int64_t kChunk = 1024;  // a proposal that diverged is not read to its end
  for (std::int64_t at = 0; at < count; at += kChunk) {
    const std::int64_t end = std::min(count, at + kChunk);
    unsigned others = 0;
    for (std::int64_t k = at; k < end; ++k) others |= is_finite(values[k]) ? 0u : 1u;
    if (others != 0) return false;
  }
  return true;
}

template <class T>
inline void take(const void* source, std::int64_t at, std::int64_t count, void* target) {
  if (source == target) return;
  const T* from = static_cast<const T*>(source) + at;
  T* to = static_cast<T*>(target) + at;
// The compiler may take the two for disjoint: equal pointers have returned above.
#pragma GCC ivdep
  for (std::int64_t k = 0; k < count; ++k) to[k] = from[k];
}

// The uniform numbers of successive chains, four to a Philox block.
template <class A>
class Uniforms {
 public:
  explicit Uniforms(const NoiseSource& source) : source_(source) {}

  double operator()(std::int64_t chain) {
    if (source_.tensor != nullptr) return static_cast<const A*>(source_.tensor)[chain];
    const std::int64_t element = source_.first + chain;
    if (element / 4 != block_) {
      block_ = element / 4;
      words_ = stream_of(source_.key)(static_cast<std::uint64_t>(block_));
    }
    return uniform_from_word(word_of_element(words_, element));
  }

 private:
  const NoiseSource& source_;
  std::int64_t block_ = -1;
  Philox4 words_ = {};
};

template <class T>
void metropolis_accept_range(const MetropolisAccept& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const auto entry = [](const void* values, std::int64_t chain) {
    return static_cast<double>(static_cast<const A*>(values)[chain]);
  };
  Uniforms<A> uniforms(args.uniform);
  for (std::int64_t chain = begin; chain < end; ++chain) {
    const std::int64_t at = chain * args.chain_size, count = args.chain_size;
    const bool usable = all_finite(static_cast<const T*>(args.proposal) + at, count) &&
                        all_finite(static_cast<const T*>(args.proposal_grad) + at, count);
    const MetropolisDecision decision =
        metropolis_decide({entry(args.energy, chain), entry(args.kinetic, chain)},
                          {entry(args.proposal_energy, chain), entry(args.proposal_kinetic, chain)},
                          usable, uniforms(chain), args.max_energy_error);
    const bool accepted = decision.is_accepted;
    take<T>(accepted ? args.proposal : args.x, at, count, args.new_x);
    take<T>(accepted ? args.proposal_grad : args.grad, at, count, args.new_grad);
    const void* energy = accepted ? args.proposal_energy : args.energy;
    static_cast<A*>(args.new_energy)[chain] = static_cast<const A*>(energy)[chain];
    args.is_accepted[chain] = accepted;
    static_cast<A*>(args.acceptance_rate)[chain] = static_cast<A>(decision.acceptance_rate);
    args.is_divergent[chain] = decision.is_divergent;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
