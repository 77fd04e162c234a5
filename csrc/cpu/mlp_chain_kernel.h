// Whole Markov chains on small networks: a block of chains stays in cache from its first step to
// its last. Memory traffic is the network's weights, once a block and step, from the second-level
// cache.
#pragma once

#include "../arguments/mlp_chain.h"
#include "../math/langevin.h"
#include "../math/metropolis.h"
#include "mlp_block.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Positions of a block of chains, [dims][kChains], from and to rows of memory. Lanes without a
// chain hold zeros and are computed like the others.
template <class T, int kChains>
struct ChainRows {
  using A = accumulate_t<T>;
  std::int64_t first;
  std::int64_t count;
  std::int64_t dims;

  void read(const void* rows, A* x) const {
    const T* from = static_cast<const T*>(rows) + first * dims;
    for (std::int64_t d = 0; d < dims; ++d)
      for (int c = 0; c < kChains; ++c)
        x[d * kChains + c] = c < count ? load(from[c * dims + d]) : A(0);
  }
  void write(const A* x, std::int64_t at, void* rows) const {
    T* to = static_cast<T*>(rows) + at + first * dims;
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t d = 0; d < dims; ++d) to[c * dims + d] = store<T>(x[d * kChains + c]);
  }
  // Standard normals: chain c and dimension d have element `origin` + (first + c) dims + d of a
  // stream.
  void normals(const PhiloxStream& stream, std::int64_t origin, A* buffer, A* out) const {
    const std::int64_t begin = origin + first * dims;
    const std::int64_t skipped = begin % 4;
    for (std::int64_t k = 0; k < skipped + count * dims; k += kBlock)
      normal_block(stream, static_cast<std::uint64_t>((begin - skipped + k) / 4), buffer + k);
    const A* from = buffer + skipped;
    for (std::int64_t d = 0; d < dims; ++d)
      for (std::int64_t c = 0; c < count; ++c) out[d * kChains + c] = from[c * dims + d];
  }
  static std::int64_t buffer_size(std::int64_t dims) { return kChains * dims + 3 + kBlock; }
};

// One coefficient a lane.
template <class A, int kChains>
inline void spread(const void* per_chain, double number, std::int64_t first, std::int64_t count,
                   A* out) {
  const A* values = static_cast<const A*>(per_chain);
  for (int c = 0; c < kChains; ++c)
    out[c] = values == nullptr ? static_cast<A>(number) : c < count ? values[first + c] : A(0);
}

template <class T>
void mlp_langevin_chain_range(const MlpLangevinChain& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  using Block = MlpBlock<A>;
  constexpr int kChains = Block::kChains;
  using Rows = ChainRows<T, kChains>;
  const std::int64_t dims = args.chain_size, size = dims * kChains;
  Scratch scratch(Block::scratch_size(args.mlp) + 3 * Scratch::size<A>(size) +
                  Scratch::size<A>(Rows::buffer_size(dims)) + 2 * Scratch::size<A>(kChains));
  const Block block(args.mlp, scratch);
  A* const x = scratch.take<A>(size);
  A* const grad = scratch.take<A>(size);
  A* const noise = scratch.take<A>(size);
  A* const buffer = scratch.take<A>(Rows::buffer_size(dims));
  A* const step_sizes = scratch.take<A>(kChains);
  A* const noise_scales = scratch.take<A>(kChains);
  for (std::int64_t k = 0; k < size; ++k) noise[k] = A(0);
  const A prior = static_cast<A>(args.prior_precision), clip = static_cast<A>(args.grad_clamp);
  const A low = static_cast<A>(args.clamp_min), high = static_cast<A>(args.clamp_max);

  for (std::int64_t first = begin; first < end; first += kChains) {
    const Rows rows{first, end - first < kChains ? end - first : kChains, dims};
    rows.read(args.x, x);
    spread<A, kChains>(args.step_sizes, args.step_size, first, rows.count, step_sizes);
    spread<A, kChains>(args.noise_scales, args.noise_scale, first, rows.count, noise_scales);
    for (std::int64_t step = 0; step < args.num_steps; ++step) {
      block.gradient(x, grad, nullptr);
      if (args.noise.tensor != nullptr) {
        rows.read(static_cast<const T*>(args.noise.tensor) + step * args.numel, noise);
      } else if (args.has_noise()) {
        PhiloxStream stream = stream_of(args.noise.key);
        stream.offset += static_cast<std::uint64_t>(step);
        rows.normals(stream, args.noise.first, buffer, noise);
      }
      for (std::int64_t d = 0; d < dims; ++d)
        for (int c = 0; c < kChains; ++c) {
          const std::int64_t k = d * kChains + c;
          const LangevinCoefficients<A> coefficients{
              step_sizes[c], noise_scales[c], prior, clip, low, high};
          x[k] = langevin_element(x[k], grad[k], noise[k], coefficients);
        }
      if ((step + 1) % args.thin == 0) rows.write(x, step / args.thin * args.numel, args.out);
    }
  }
}

template <class T>
void mlp_hmc_chain_range(const MlpHmcChain& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  using Block = MlpBlock<A>;
  constexpr int kChains = Block::kChains;
  using Rows = ChainRows<T, kChains>;
  const std::int64_t dims = args.mlp.widths[0], size = dims * kChains;
  Scratch scratch(Block::scratch_size(args.mlp) + 5 * Scratch::size<A>(size) +
                  Scratch::size<A>(Rows::buffer_size(dims)) + 8 * Scratch::size<A>(kChains) +
                  Scratch::size<A>(dims));
  const Block block(args.mlp, scratch);
  A* const x = scratch.take<A>(size);
  A* const grad = scratch.take<A>(size);
  A* const proposal = scratch.take<A>(size);
  A* const proposal_grad = scratch.take<A>(size);
  A* const momentum = scratch.take<A>(size);
  A* const buffer = scratch.take<A>(Rows::buffer_size(dims));
  A* const step_sizes = scratch.take<A>(kChains);
  A* const energy = scratch.take<A>(kChains);
  A* const proposal_energy = scratch.take<A>(kChains);
  A* const kinetic = scratch.take<A>(kChains);
  A* const proposal_kinetic = scratch.take<A>(kChains);
  A* const rate = scratch.take<A>(kChains);
  A* const accepted = scratch.take<A>(kChains);
  A* const divergent = scratch.take<A>(kChains);
  A* const inverse_mass = scratch.take<A>(dims);
  for (std::int64_t d = 0; d < dims; ++d)
    inverse_mass[d] = args.inverse_masses == nullptr
                          ? static_cast<A>(args.inverse_mass)
                          : static_cast<const A*>(args.inverse_masses)[d];
  for (std::int64_t k = 0; k < size; ++k) momentum[k] = A(0);
  const A prior = static_cast<A>(args.prior_precision);

  const auto evaluate = [&](const A* at, A* slope, A* value) {
    block.gradient(at, slope, value);
    for (std::int64_t d = 0; d < dims; ++d)
      for (int c = 0; c < kChains; ++c) {
        const std::int64_t k = d * kChains + c;
        slope[k] = multiply_add(prior, at[k], slope[k]);
        value[c] = multiply_add(A(0.5) * prior * at[k], at[k], value[c]);
      }
  };
  const auto kick = [&](A part) {
    for (std::int64_t d = 0; d < dims; ++d)
      for (int c = 0; c < kChains; ++c) {
        const std::int64_t k = d * kChains + c;
        momentum[k] = multiply_add(-part * step_sizes[c], proposal_grad[k], momentum[k]);
      }
  };
  const auto sum_kinetic = [&](A* value) {
    for (int c = 0; c < kChains; ++c) value[c] = A(0);
    for (std::int64_t d = 0; d < dims; ++d)
      for (int c = 0; c < kChains; ++c) {
        const A p = momentum[d * kChains + c];
        value[c] = multiply_add(A(0.5) * inverse_mass[d] * p, p, value[c]);
      }
  };

  for (std::int64_t first = begin; first < end; first += kChains) {
    const Rows rows{first, end - first < kChains ? end - first : kChains, dims};
    rows.read(args.x, x);
    spread<A, kChains>(args.step_sizes, args.step_size, first, rows.count, step_sizes);
    evaluate(x, grad, energy);
    for (int c = 0; c < kChains; ++c) rate[c] = accepted[c] = divergent[c] = A(0);
    for (std::int64_t step = 0; step < args.num_steps; ++step) {
      PhiloxStream stream = stream_of(args.key);
      stream.offset += static_cast<std::uint64_t>(step);
      rows.normals(stream, args.first_chain * dims, buffer, momentum);
      for (std::int64_t d = 0; d < dims; ++d) {
        const A scale = A(1) / std::sqrt(inverse_mass[d]);
        for (int c = 0; c < kChains; ++c) momentum[d * kChains + c] *= scale;
      }
      sum_kinetic(kinetic);
      for (std::int64_t k = 0; k < size; ++k) {
        proposal[k] = x[k];
        proposal_grad[k] = grad[k];
      }
      kick(A(0.5));
      for (std::int64_t leap = 1; leap <= args.num_leapfrog; ++leap) {
        for (std::int64_t d = 0; d < dims; ++d)
          for (int c = 0; c < kChains; ++c) {
            const std::int64_t k = d * kChains + c;
            proposal[k] = multiply_add(step_sizes[c] * inverse_mass[d], momentum[k], proposal[k]);
          }
        evaluate(proposal, proposal_grad, proposal_energy);
        kick(leap < args.num_leapfrog ? A(1) : A(0.5));
      }
      sum_kinetic(proposal_kinetic);
      bool take[kChains];
      for (int c = 0; c < kChains; ++c) {
        const std::int64_t element = args.first_uniform + first + c;
        const double uniform = uniform_from_word(
            word_of_element(stream(static_cast<std::uint64_t>(element / 4)), element));
        const MetropolisDecision decision =
            metropolis_decide({energy[c], kinetic[c]}, {proposal_energy[c], proposal_kinetic[c]},
                              true, uniform, args.max_energy_error);
        take[c] = decision.is_accepted;
        rate[c] += static_cast<A>(decision.acceptance_rate);
        accepted[c] += decision.is_accepted ? A(1) : A(0);
        divergent[c] += decision.is_divergent ? A(1) : A(0);
        if (take[c]) energy[c] = proposal_energy[c];
      }
      for (std::int64_t d = 0; d < dims; ++d)
        for (int c = 0; c < kChains; ++c) {
          const std::int64_t k = d * kChains + c;
          x[k] = take[c] ? proposal[k] : x[k];
          grad[k] = take[c] ? proposal_grad[k] : grad[k];
        }
      if ((step + 1) % args.thin == 0)
        rows.write(x, step / args.thin * args.chains * dims, args.out);
    }
    for (std::int64_t c = 0; c < rows.count; ++c) {
      static_cast<A*>(args.energy)[first + c] = energy[c];
      static_cast<A*>(args.acceptance_rate)[first + c] = rate[c] / static_cast<A>(args.num_steps);
      static_cast<A*>(args.num_accepted)[first + c] = accepted[c];
      static_cast<A*>(args.num_divergent)[first + c] = divergent[c];
    }
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
