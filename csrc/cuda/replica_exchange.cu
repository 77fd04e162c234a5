// Exchanges between neighbouring replicas on CUDA: a warp decides a pair of one chain and swaps its
// two rows, or a thread where the rows are short. Bytes per pair: two energies read, two flags
// written; where the swap is accepted, both rows of x and of grad read and written.
#include <cuda_runtime.h>

#include <cstdint>

#include "../arguments/replica_exchange.h"
#include "../math/metropolis.h"
#include "../math/replica_exchange.h"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// Decides a pair and swaps its energies.
template <class E>
__device__ bool decide(const ReplicaSwap& args, std::int64_t replica, std::int64_t chain) {
  const std::int64_t low = replica * args.chains + chain, high = low + args.chains;
  E* energy = static_cast<E*>(args.energy);
  const E e_low = energy[low], e_high = energy[high];
  double uniform;
  if (args.uniform != nullptr) {
    uniform = args.uniform[low];
  } else {
    const PhiloxStream stream{static_cast<std::uint64_t>(args.key[0]),
                              static_cast<std::uint64_t>(args.key[1])};
    const std::int64_t element = args.first + chain * (args.replicas - 1) + replica;
    const Philox4 block = stream(static_cast<std::uint64_t>(element / 4));
    uniform = uniform_from_word(word_of_element(block, element));
  }
  if (!swap_is_accepted(args.inverse_temperature[replica], args.inverse_temperature[replica + 1],
                        e_low, e_high, uniform))
    return false;
  args.is_accepted[low] = args.is_accepted[high] = true;
  energy[low] = e_high;
  energy[high] = e_low;
  return true;
}

template <class Word>
__device__ void swap_rows(void* rows, std::int64_t low, std::int64_t high, std::int64_t words,
                          int first, int step) {
  Word* a = static_cast<Word*>(rows) + low * words;
  Word* b = static_cast<Word*>(rows) + high * words;
// Unrolled further, the kernel spills on sm_90.
#pragma unroll 2
  for (std::int64_t k = first; k < words; k += step) {
    const Word kept = a[k];
    a[k] = b[k];
    b[k] = kept;
  }
}

// kLanes threads, one or a whole warp, own a chain's pair; a row of the grid has one pair of every
// chain.
template <class E, class Word, int kLanes>
__global__ void __launch_bounds__(kThreads) replica_swap_kernel(ReplicaSwap args) {
  const std::int64_t replica = args.parity + 2 * static_cast<std::int64_t>(blockIdx.y);
  const std::int64_t chain =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (chain >= args.chains) return;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  int accepted = 0;
  if (lane == 0) accepted = decide<E>(args, replica, chain) ? 1 : 0;
  if constexpr (kLanes > 1) accepted = __shfl_sync(kAllLanes, accepted, 0);
  if (accepted == 0) return;
  const std::int64_t low = replica * args.chains + chain, high = low + args.chains;
  const std::int64_t words = args.row_bytes / static_cast<std::int64_t>(sizeof(Word));
  swap_rows<Word>(args.x, low, high, words, lane, kLanes);
  if (args.grad != nullptr) swap_rows<Word>(args.grad, low, high, words, lane, kLanes);
}

template <class E, class Word>
void launch_swap(const ReplicaSwap& args, void* stream) {
  constexpr std::int64_t kShort = 4;  // words a thread moves by itself
  const bool is_short = args.row_bytes <= kShort * static_cast<std::int64_t>(sizeof(Word));
  const std::int64_t threads = args.chains * (is_short ? 1 : 32);
  const dim3 blocks(static_cast<unsigned>((threads + kThreads - 1) / kThreads),
                    static_cast<unsigned>(args.pairs / args.chains));
  if (is_short)
    launch_kernel(replica_swap_kernel<E, Word, 1>, {blocks, kThreads}, stream, args);
  else
    launch_kernel(replica_swap_kernel<E, Word, 32>, {blocks, kThreads}, stream, args);
}

// Rows are moved as the widest words that every row begins and ends with.
template <class E>
void launch_swap(const ReplicaSwap& args, void* stream) {
  const auto fits = [&](std::uintptr_t bytes) {
    return static_cast<std::uintptr_t>(args.row_bytes) % bytes == 0 &&
           reinterpret_cast<std::uintptr_t>(args.x) % bytes == 0 &&
           reinterpret_cast<std::uintptr_t>(args.grad) % bytes == 0;
  };
  if (fits(16)) return launch_swap<E, uint4>(args, stream);
  if (fits(4)) return launch_swap<E, unsigned>(args, stream);
  launch_swap<E, unsigned short>(args, stream);
}

}  // namespace

void replica_swap(const ReplicaSwap& args, void* stream) {
  if (args.pairs == 0) return;  // a grid without blocks is an error
  if (args.dtype == Dtype::kFloat64) return launch_swap<double>(args, stream);
  launch_swap<float>(args, stream);
}

}  // namespace gencore::cuda
