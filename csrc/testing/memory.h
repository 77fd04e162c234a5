// The memory that a kernel may touch, byte by byte: whose it is, whether it has been written, and
// who touched it last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "order.h"

namespace host_executor {

enum class Access { kRead, kWrite, kAtomic };

struct ByteState {
  Stamp write;
  Stamp reads[2];  // of two threads, where two have read since the last write
  enum : std::uint8_t { kUninitialised, kInitialised, kRedzone } state = kUninitialised;
};

// A range of addresses. Without `bytes` it is constant data: readable, never raced for.
struct Region {
  std::string name;
  std::uintptr_t begin = 0;
  std::size_t size = 0;
  bool writable = false;
  std::vector<ByteState> bytes;

  bool contains(std::uintptr_t at) const { return at - begin < size; }
};

Region constant_region(std::string name, const void* begin, std::size_t size);
Region tracked_region(std::string name, const void* begin, std::size_t size, bool writable,
                      bool initialised);

// Forgets who touched the region, not what was written: a launch follows all earlier ones.
void forget_accesses(Region& region);

// What is wrong with an access of [at, at + size) that `regions` are to allow, or nothing.
std::optional<std::string> check_access(const std::vector<Region*>& regions, std::uintptr_t at,
                                        std::size_t size, Access access, const Observer& observer);

}  // namespace host_executor
