// Whole Markov chains on small networks: a block of threads keeps its chains in shared memory from
// their first step to their last. Global memory sees the starts, the kept states and, through the
// caches, the weights once a block and step.
#include <algorithm>
#include <string>

#include "../math/langevin.h"
#include "../math/metropolis.h"
#include "kernels.h"
#include "mlp_tile.cuh"

namespace gencore::cuda {
namespace {

// Double precision needs more registers a thread.
template <class A>
constexpr int kMaxThreads = sizeof(A) == 8 ? 256 : 512;
constexpr int kMaxChains = 16;

// The dtype is told apart at run time: a chain reads its start and writes its kept states only.
template <class A>
__device__ __forceinline__ A read_element(Dtype dtype, const void* tensor, std::int64_t at) {
  switch (dtype) {
    case Dtype::kBFloat16:
      return load(static_cast<const BFloat16*>(tensor)[at]);
    case Dtype::kFloat16:
      return load(static_cast<const Float16*>(tensor)[at]);
    default:
      return static_cast<const A*>(tensor)[at];
  }
}
template <class A>
__device__ __forceinline__ void write_element(Dtype dtype, void* tensor, std::int64_t at, A value) {
  switch (dtype) {
    case Dtype::kBFloat16:
      static_cast<BFloat16*>(tensor)[at] = store<BFloat16>(static_cast<float>(value));
      return;
    case Dtype::kFloat16:
      static_cast<Float16*>(tensor)[at] = store<Float16>(static_cast<float>(value));
      return;
    default:
      static_cast<A*>(tensor)[at] = value;
  }
}

// The rows of memory that a block's chains occupy. Indices within a tile are 32-bit: a division of
// 64-bit ones is a function call.
struct TileRows {
  Dtype dtype;
  std::int64_t first;  // chain
  int count;
  int dims;
  int chains;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int threads() { return static_cast<int>(blockDim.x); }

  template <class A>
  __device__ void read(const void* rows, A* x) const {
    for (int k = thread(); k < dims * chains; k += threads()) {
      const int c = k / dims, d = k % dims;
      x[d * chains + c] = c < count ? read_element<A>(dtype, rows, (first + c) * dims + d) : A(0);
    }
  }
  template <class A>
  __device__ void write(const A* x, std::int64_t at, void* rows) const {
    for (int k = thread(); k < dims * count; k += threads())
      write_element(dtype, rows, at + first * dims + k, x[k % dims * chains + k / dims]);
  }
  // Calls body(d * chains + c, c, normal) for every element of the chains; element `origin` of the
  // stream is dimension 0 of chain 0 of the whole.
  template <class A, class Body>
  __device__ void for_each_normal(const PhiloxStream& stream, std::int64_t origin,
                                  Body body) const {
    const std::int64_t begin = origin + first * dims, end = begin + count * dims;
    for (std::int64_t block = begin / 4 + thread(); 4 * block < end; block += threads()) {
      A normals[4];
      normal4(stream, static_cast<std::uint64_t>(block), normals);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int element = static_cast<int>(4 * block + k - begin);
        if (element < 0 || element >= count * dims) continue;
        const int c = element / dims;
        body(element % dims * chains + c, c, normals[k]);
      }
    }
  }
};

__device__ __forceinline__ TileRows rows_of(Dtype dtype, std::int64_t all, int dims, int chains) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * chains;
  const int count = all - first < chains ? static_cast<int>(all - first) : chains;
  return {dtype, first, count, dims, chains};
}

__device__ __forceinline__ PhiloxStream stream_of(const std::int64_t* key, std::int64_t offset) {
  return {static_cast<std::uint64_t>(key[0]), static_cast<std::uint64_t>(key[1] + offset)};
}

template <class A>
__device__ __forceinline__ A coefficient(const void* per_chain, double number, std::int64_t chain) {
  return per_chain == nullptr ? static_cast<A>(number) : static_cast<const A*>(per_chain)[chain];
}

template <class A>
__global__ void __launch_bounds__(kMaxThreads<A>, 1)
    mlp_langevin_kernel(const __grid_constant__ MlpLangevinChain args,
                        const __grid_constant__ TileLayout layout) {
  const int chains = layout.chains;
  const int dims = static_cast<int>(args.mlp.widths[0]), size = dims * chains;
  A* const shared = dynamic_shared<A>();
  A* const x = shared + layout.free;
  A* const grad = x + size;
  const MlpTile<A> tile(args.mlp, layout, shared);
  const TileRows rows = rows_of(args.dtype, args.numel / dims, dims, chains);
  const auto move = [&](int k, int c, A noise) {
    const LangevinCoefficients<A> coefficients{
        coefficient<A>(args.step_sizes, args.step_size, rows.first + c),
        coefficient<A>(args.noise_scales, args.noise_scale, rows.first + c),
        static_cast<A>(args.prior_precision),
        static_cast<A>(args.grad_clamp),
        static_cast<A>(args.clamp_min),
        static_cast<A>(args.clamp_max)};
    x[k] = langevin_element(x[k], grad[k], noise, coefficients);
  };
  rows.read(args.x, x);
  __syncthreads();
  for (std::int64_t step = 0; step < args.num_steps; ++step) {
    tile.gradient(x, grad, nullptr);
    if (args.noise.tensor == nullptr && args.has_noise()) {
      rows.for_each_normal<A>(stream_of(args.noise.key, step), args.noise.first, move);
    } else {
      for (int k = TileRows::thread(); k < rows.count * dims; k += TileRows::threads()) {
        const std::int64_t at = step * args.numel + rows.first * dims + k;
        const A noise = args.noise.tensor == nullptr
                            ? A(0)
                            : read_element<A>(args.dtype, args.noise.tensor, at);
        move(k % dims * chains + k / dims, k / dims, noise);
      }
    }
    __syncthreads();
    if ((step + 1) % args.thin == 0) rows.write(x, step / args.thin * args.numel, args.out);
  }
}

template <class A>
__global__ void __launch_bounds__(kMaxThreads<A>, 1)
    mlp_hmc_kernel(const __grid_constant__ MlpHmcChain args,
                   const __grid_constant__ TileLayout layout) {
  const int chains = layout.chains;
  const int dims = static_cast<int>(args.mlp.widths[0]), size = dims * chains;
  A* const shared = dynamic_shared<A>();
  A* const x = shared + layout.free;
  A* const grad = x + size;
  A* const proposal = grad + size;
  A* const slope = proposal + size;
  A* const momentum = slope + size;
  A* const energy = momentum + size;
  A* const value = energy + chains;
  A* const kinetic = value + chains;
  A* const change = kinetic + chains;
  A* const take = change + chains;
  const MlpTile<A> tile(args.mlp, layout, shared);
  const TileRows rows = rows_of(args.dtype, args.chains, dims, chains);
  const int thread = TileRows::thread(), threads = TileRows::threads();
  const A prior = static_cast<A>(args.prior_precision);
  const auto inverse_mass = [&](int d) {
    return coefficient<A>(args.inverse_masses, args.inverse_mass, d);
  };
  const auto step_size = [&](int c) {
    return c < rows.count ? coefficient<A>(args.step_sizes, args.step_size, rows.first + c) : A(0);
  };
  // All threads call these; what they write is ready when they return.
  const auto evaluate = [&](const A* at, A* to, A* energies) {
    tile.gradient(at, to, energies);
    if (prior == A(0)) return;
    tile.sum(
        dims,
        [&](int d, int c) {
          const A position = at[d * chains + c];
          return A(0.5) * prior * position * position;
        },
        change);
    if (thread < chains) energies[thread] += change[thread];
    for (int k = thread; k < size; k += threads) to[k] = multiply_add(prior, at[k], to[k]);
    __syncthreads();
  };
  const auto sum_kinetic = [&](A* energies) {
    tile.sum(
        dims,
        [&](int d, int c) {
          const A p = momentum[d * chains + c];
          return A(0.5) * inverse_mass(d) * p * p;
        },
        energies);
  };
  const auto kick = [&](A part) {
    for (int k = thread; k < size; k += threads)
      momentum[k] = multiply_add(-part * step_size(k % chains), slope[k], momentum[k]);
  };

  rows.read(args.x, x);
  for (int k = thread; k < size; k += threads) momentum[k] = A(0);
  __syncthreads();
  evaluate(x, grad, energy);
  A rate = A(0), accepted = A(0), divergent = A(0);  // of the thread's chain
  for (std::int64_t step = 0; step < args.num_steps; ++step) {
    rows.for_each_normal<A>(stream_of(args.key, step), args.first_chain * dims,
                            [&](int k, int, A normal) {
                              momentum[k] = normal * (A(1) / sqrt(inverse_mass(k / chains)));
                            });
    for (int k = thread; k < size; k += threads) {
      proposal[k] = x[k];
      slope[k] = grad[k];
    }
    __syncthreads();
    sum_kinetic(kinetic);
    kick(A(0.5));
    __syncthreads();
    for (std::int64_t leap = 1; leap <= args.num_leapfrog; ++leap) {
      for (int k = thread; k < size; k += threads)
        proposal[k] = multiply_add(step_size(k % chains) * inverse_mass(k / chains), momentum[k],
                                   proposal[k]);
      __syncthreads();
      evaluate(proposal, slope, value);
      kick(leap < args.num_leapfrog ? A(1) : A(0.5));
      __syncthreads();
    }
    sum_kinetic(take);  // of the proposal, until it is decided on
    if (thread < chains) {
      const std::int64_t element = args.first_uniform + rows.first + thread;
      const Philox4 words = stream_of(args.key, step)(static_cast<std::uint64_t>(element / 4));
      const MetropolisDecision decision = metropolis_decide(
          {energy[thread], kinetic[thread]}, {value[thread], take[thread]}, true,
          uniform_from_word(word_of_element(words, element)), args.max_energy_error);
      rate += static_cast<A>(decision.acceptance_rate);
      accepted += decision.is_accepted ? A(1) : A(0);
      divergent += decision.is_divergent ? A(1) : A(0);
      take[thread] = decision.is_accepted ? A(1) : A(0);
      if (decision.is_accepted) energy[thread] = value[thread];
    }
    __syncthreads();
    for (int k = thread; k < size; k += threads) {
      if (take[k % chains] == A(0)) continue;
      x[k] = proposal[k];
      grad[k] = slope[k];
    }
    __syncthreads();
    if ((step + 1) % args.thin == 0) rows.write(x, step / args.thin * args.chains * dims, args.out);
  }
  if (thread < rows.count) {
    const std::int64_t chain = rows.first + thread;
    static_cast<A*>(args.energy)[chain] = energy[thread];
    static_cast<A*>(args.acceptance_rate)[chain] = rate / static_cast<A>(args.num_steps);
    static_cast<A*>(args.num_accepted)[chain] = accepted;
    static_cast<A*>(args.num_divergent)[chain] = divergent;
  }
}

// Launches a kernel with as many chains a block as fit into shared memory, `states` positions and
// `numbers` single values a chain beside the network's own arrays.
template <class A, class Arguments>
void launch_tiles(void (*kernel)(Arguments, TileLayout), const Arguments& args, std::int64_t all,
                  int states, int numbers, void* stream) {
  int device = 0, limit = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "shared memory");
  for (int chains = kMaxChains; chains >= 2; chains /= 2) {
    const TileLayout layout(args.mlp, chains);
    const std::int64_t a_chain = states * args.mlp.widths[0] + numbers;
    const std::size_t bytes = static_cast<std::size_t>(layout.free + a_chain * chains) * sizeof(A);
    if (bytes > static_cast<std::size_t>(limit)) continue;
    const std::int64_t groups =
        std::clamp<std::int64_t>((layout.widest + 3) / 4, 64 / chains, 2 * kMaxThreads<A> / chains);
    const auto threads = static_cast<unsigned>(groups * chains / 2);
    const auto blocks = static_cast<unsigned>((all + chains - 1) / chains);
    return launch_kernel(kernel, {blocks, threads, bytes}, stream, args, layout);
  }
  throw std::runtime_error(
      "gencore: two chains on this network do not fit into this GPU's shared memory of " +
      std::to_string(limit) + " bytes a block; use narrower layers, float32, or gencore.samplers");
}

}  // namespace

void mlp_langevin_chain(const MlpLangevinChain& args, void* stream) {
  if (args.dtype == Dtype::kFloat64)
    launch_tiles<double>(mlp_langevin_kernel<double>, args, args.chains(), 2, 0, stream);
  else
    launch_tiles<float>(mlp_langevin_kernel<float>, args, args.chains(), 2, 0, stream);
}

void mlp_hmc_chain(const MlpHmcChain& args, void* stream) {
  if (args.dtype == Dtype::kFloat64)
    launch_tiles<double>(mlp_hmc_kernel<double>, args, args.chains, 5, 5, stream);
  else
    launch_tiles<float>(mlp_hmc_kernel<float>, args, args.chains, 5, 5, stream);
}

}  // namespace gencore::cuda
