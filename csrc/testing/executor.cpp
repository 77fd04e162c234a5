// What the device headers and the test suite call: the launch that runs, seen from inside, and the
// tensors it may touch.
#include "executor.h"

#include <utility>
#include <vector>

#include "exports.h"
#include "launch.h"
#include "shared_segment.h"

namespace host_executor {
namespace {

std::vector<Region> tensors;
std::uint64_t next_seed = 0;
std::string error;

// A call that only a kernel can make.
Launch& here() {
  if (active_launch() == nullptr) std::abort();
  return *active_launch();
}

}  // namespace

bool launch(const LaunchShape& shape, void (*entry)(const void*), const void* call,
            std::size_t bytes) {
  Launch launch(shape, entry, call, bytes, tensors, next_seed++);
  error = launch.run().value_or("");
  return error.empty();
}

const std::string& last_error() { return error; }

void* dynamic_shared_memory() { return here().running().block->dynamic_memory.get(); }

int block_barrier(bool predicate, Site site) {
  here().running().predicate = predicate;
  here().wait(Thread::kAtBlockBarrier, site);
  return here().running().block->predicates;
}

void grid_barrier(Site site) {
  if (!here().shape().cooperative) fail("grid barrier in a launch that is not cooperative");
  here().wait(Thread::kAtGridBarrier, site);
}

void fence() { here().fence(); }

WarpValues warp_exchange(unsigned mask, std::uint64_t value, bool orders_memory, Site site) {
  Thread& thread = here().running();
  if ((mask >> thread.lane() & 1) == 0)
    fail("warp mask without the calling lane " + std::to_string(thread.lane()));
  thread.mask = mask;
  thread.value = value;
  thread.orders_memory = orders_memory;
  here().wait(Thread::kAtWarp, site);
  return thread.received;
}

void fail(std::string message) { here().fail(std::move(message)); }

void before_atomic(const void* address, std::size_t size, const void* code) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (at % size != 0) {
    here().pause_checks();
    fail("misaligned: atomic of " + std::to_string(size) + " bytes" + place(code));
  }
  if (here().flip_coin()) here().wait(Thread::kReady, Site::current());
  here().check(at, size, Access::kAtomic, code);
}

void Head::guard(const Tail& tail) const {
  add_redzone(&tail, this + 1, here().running().block->static_shared);
}

}  // namespace host_executor

extern "C" {

HOST_EXECUTOR_EXPORT void host_executor_seed(std::uint64_t seed) {
  host_executor::next_seed = seed;
}

HOST_EXECUTOR_EXPORT void host_executor_forget_tensors() { host_executor::tensors.clear(); }

// From now on kernels may read [begin, begin + size), and write it where it is `writable`; they
// may read before they write where it is `initialised`.
HOST_EXECUTOR_EXPORT void host_executor_add_tensor(const char* name, const void* begin,
                                                   std::size_t size, bool writable,
                                                   bool initialised) {
  host_executor::tensors.push_back(
      host_executor::tracked_region(name, begin, size, writable, initialised));
}
}
