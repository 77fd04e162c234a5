// Runs CUDA kernels on the host: every thread is a fibre, and a seeded generator picks which one
// goes on whenever one waits. This is what the device headers in host_cuda/ are written in.
//
// A launch ends at the first thing that a GPU might have let pass: it then fails with
// cudaErrorLaunchFailure, and last_error() says what happened and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "host_cuda/vector_types.h"

// Of the thread that is running.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace host_executor {

using Site = std::source_location;

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  bool cooperative;
};

// `entry(call)` runs the kernel for one thread; `call` holds its parameters, `bytes` long.
// Returns whether the launch succeeded.
bool launch(const LaunchShape& shape, void (*entry)(const void* call), const void* call,
            std::size_t bytes);
const std::string& last_error();

// The running block's.
void* dynamic_shared_memory();

// Waits for every thread of the block; returns how many of them gave a true predicate.
int block_barrier(bool predicate, Site site);
void grid_barrier(Site site);
void fence();

// What the lanes of `mask` brought to the same call.
struct WarpValues {
  unsigned lane;          // the caller's
  unsigned participants;  // lanes of the mask that have not exited
  std::uint64_t value[32];
};
WarpValues warp_exchange(unsigned mask, std::uint64_t value, bool orders_memory, Site site);

// Ends the launch: something is wrong that the caller has found out.
[[noreturn]] void fail(std::string message);

// Announces an atomic access, and lets another thread run before it now and then.
void before_atomic(const void* address, std::size_t size, const void* code);

// Spaces out __shared__ variables. A Tail sits right behind the variable before, a Head right
// before the next one; all bytes from one to the other are out of bounds.
struct Tail {
  char bytes[64];
};
struct alignas(128) Head {
  char bytes[128];
  void guard(const Tail& tail) const;
};

}  // namespace host_executor
