// The Metropolis decision and its consequence on CUDA. Bytes per element of b bytes: reads the
// proposal and its gradient (2b), a second time from the cache; writes both where they are accepted
// (2b); a rejected chain is copied (4b) unless it stays in its place.
#include "../math/metropolis.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct AcceptBody {
  MetropolisAccept args;
  using A = accumulate_t<T>;

  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    bool others = false;
    for_each_span(place, shape, [&](const Span& span) {
      A proposal[4], grad[4];  // zero outside the span
      read<T>(args.proposal, span, proposal);
      read<T>(args.proposal_grad, span, grad);
#pragma unroll
      for (int k = 0; k < 4; ++k) others = others || !is_finite(proposal[k]) || !is_finite(grad[k]);
    });
    const bool usable = !chain_any(place, others);
    bool accepts = false;
    if (place.present && place.rank == 0) accepts = decide(place.chain, usable);
    const bool accepted = chain_any(place, accepts);
    take(place, shape, accepted ? args.proposal : args.x, args.new_x);
    take(place, shape, accepted ? args.proposal_grad : args.grad, args.new_grad);
  }

 private:
  // Judges the chain's proposal and writes what it has one of.
  __device__ bool decide(std::int64_t chain, bool usable) const {
    const auto entry = [chain](const void* values) {
      return static_cast<double>(static_cast<const A*>(values)[chain]);
    };
    const MetropolisDecision decision =
        metropolis_decide({entry(args.energy), entry(args.kinetic)},
                          {entry(args.proposal_energy), entry(args.proposal_kinetic)}, usable,
                          uniform(chain), args.max_energy_error);
    const void* energy = decision.is_accepted ? args.proposal_energy : args.energy;
    static_cast<A*>(args.new_energy)[chain] = static_cast<const A*>(energy)[chain];
    args.is_accepted[chain] = decision.is_accepted;
    static_cast<A*>(args.acceptance_rate)[chain] = static_cast<A>(decision.acceptance_rate);
    args.is_divergent[chain] = decision.is_divergent;
    return decision.is_accepted;
  }

  __device__ double uniform(std::int64_t chain) const {
    if (args.uniform.tensor != nullptr) return static_cast<const A*>(args.uniform.tensor)[chain];
    const PhiloxStream stream{static_cast<std::uint64_t>(args.uniform.key[0]),
                              static_cast<std::uint64_t>(args.uniform.key[1])};
    const std::int64_t element = args.uniform.first + chain;
    const Philox4 block = stream(static_cast<std::uint64_t>(element / 4));
    return uniform_from_word(word_of_element(block, element));
  }

  __device__ void take(const Place& place, const ChainShape& shape, const void* source,
                       void* target) const {
    if (source == target) return;
    for_each_span(place, shape, [&](const Span& span) {
      A values[4];
      read<T>(source, span, values);
      write<T>(target, span, values);
    });
  }
};

}  // namespace

void metropolis_accept(const MetropolisAccept& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(
        AcceptBody<T>{args}, args.chains, args.chain_size, 0,
        {args.x, args.grad, args.proposal, args.proposal_grad, args.new_x, args.new_grad}, stream);
  });
}

}  // namespace gencore::cuda
