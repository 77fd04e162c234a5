// Which accesses of one launch its barriers put in an order; two conflicting ones without are a
// race, whatever order they happened to run in.
#pragma once

#include <cstdint>
#include <vector>

namespace host_executor {

inline constexpr unsigned kWarpSize = 32;

// When a thread touched a byte: the barriers of the grid and of its block that it had passed, its
// own count of __syncwarp, and its fences.
struct Stamp {
  static constexpr std::uint32_t kNobody = 0xFFFFFFFFu;

  std::uint32_t thread = kNobody;  // index in the grid
  std::uint16_t grid_epoch = 0;
  std::uint16_t block_epoch = 0;
  std::uint16_t clock = 0;
  std::uint16_t fences : 15 = 0;
  std::uint16_t atomic : 1 = 0;

  bool exists() const { return thread != kNobody; }
};

// What a launch's threads have published with __threadfence.
struct Fences {
  std::vector<std::uint16_t> of_thread;
  std::vector<std::uint16_t> epoch_of_block;  // the last barrier interval with a fence
};

// The running thread's view of the others.
struct Observer {
  Stamp now;
  unsigned threads_per_block;
  const std::uint16_t* clocks;  // of the lanes of its warp, as of the last common __syncwarp
  const Fences* fences;

  // Whether everything before this moment includes `earlier`. Between blocks, a fence after the
  // access counts: how its reader came to know of it (an atomic counter, say) is not followed.
  bool follows(const Stamp& earlier) const {
    if (earlier.thread == now.thread || earlier.grid_epoch < now.grid_epoch) return true;
    const unsigned block = earlier.thread / threads_per_block;
    if (block != now.thread / threads_per_block)
      return fences->of_thread[earlier.thread] > earlier.fences ||
             fences->epoch_of_block[block] > earlier.block_epoch;
    if (earlier.block_epoch < now.block_epoch) return true;
    const unsigned theirs = earlier.thread % threads_per_block;
    const unsigned ours = now.thread % threads_per_block;
    return theirs / kWarpSize == ours / kWarpSize && clocks[theirs % kWarpSize] >= earlier.clock;
  }
};

}  // namespace host_executor
