// One kernel launch: its blocks, its threads, and what each of them waits for.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "executor.h"
#include "memory.h"
#include "shared_segment.h"

namespace host_executor {

// The unit of dynamic shared memory: its start is aligned as a GPU's is.
struct alignas(128) SharedLine {
  std::byte bytes[128];
};

// A fibre's stack, with an inaccessible page below it.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  static constexpr std::size_t kSize = std::size_t{1} << 17;
  char* begin() const { return begin_; }
  bool contains(std::uintptr_t at) const {
    return at - reinterpret_cast<std::uintptr_t>(begin_) < kSize;
  }

 private:
  char* begin_;
};

struct Block;

struct Thread {
  enum State { kReady, kAtBlockBarrier, kAtGridBarrier, kAtWarp, kExited };

  ucontext_t context;
  std::unique_ptr<Stack> stack;
  Block* block = nullptr;
  unsigned rank = 0;  // in its block
  State state = kReady;
  Site site;               // of what it waits at
  bool predicate = false;  // brought to a block barrier
  unsigned mask = 0;       // brought to a warp's exchange, as the value is
  std::uint64_t value = 0;
  bool orders_memory = false;
  WarpValues received{};
  std::uint16_t clocks[kWarpSize] = {};
  std::uint16_t fences = 0;

  unsigned lane() const { return rank % kWarpSize; }
};

struct Block {
  unsigned rank = 0;  // in the grid
  std::vector<Thread> threads;
  unsigned exited = 0;
  unsigned waiting = 0;  // at the block's barrier
  int predicates = 0;    // true ones, of the barrier passed last
  std::uint16_t epoch = 0;
  std::vector<std::byte> static_image;  // its static shared memory while another block runs
  Region static_shared;
  std::unique_ptr<SharedLine[]> dynamic_memory;
  Region dynamic_shared;
};

class Launch {
 public:
  Launch(const LaunchShape& shape, void (*entry)(const void*), const void* call, std::size_t bytes,
         std::vector<Region>& tensors, std::uint64_t seed);

  // Runs all blocks to their end; returns what went wrong.
  std::optional<std::string> run();

  // The running thread's side of it.
  Thread& running() { return *running_; }
  const LaunchShape& shape() const { return shape_; }
  // The linker may give the executor the instrumented copies of the standard library's templates:
  // what they access while it works on the running thread's behalf is no access of the kernel's.
  void pause_checks() { checks_paused_ = true; }
  void check(std::uintptr_t at, std::size_t size, Access access, const void* code);
  void wait(Thread::State state, Site site);
  void fence();
  bool flip_coin() { return (random_() & 1) != 0; }
  [[noreturn]] void fail(std::string message);

 private:
  static void start();
  void admit(unsigned rank);
  void resume(Thread& thread);
  void settle(Thread& thread);
  void settle_block(Block& block);
  void settle_grid();
  void settle_warp(Thread& thread);
  void advance(std::uint16_t& count);
  void bring_in(Block& block);
  std::string describe_waiting() const;

  const LaunchShape shape_;
  void (*const entry_)(const void*);
  const void* const call_;
  const unsigned threads_per_block_;
  const SharedSegment segment_ = shared_segment();
  std::vector<Region>& tensors_;
  Region parameters_;
  std::mt19937_64 random_;
  std::uint16_t grid_epoch_ = 0;
  std::size_t at_grid_barrier_ = 0;
  Fences fences_;
  std::vector<std::unique_ptr<Block>> resident_;
  std::vector<Thread*> ready_;
  std::vector<std::unique_ptr<Stack>> spare_stacks_;
  std::vector<Region*> regions_;  // of the running thread
  Block* inside_ = nullptr;       // whose static shared memory is in place
  Thread* running_ = nullptr;
  bool checks_paused_ = false;
  ucontext_t scheduler_;
  std::optional<std::string> error_;
};

// Where `code` lies in this library, for a table of lines to translate: " [+0x1234]".
std::string place(const void* code);

// The launch that is running a thread right now, or null.
Launch* active_launch();

}  // namespace host_executor
