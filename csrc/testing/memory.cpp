#include "memory.h"

#include <utility>

namespace host_executor {
namespace {

std::string thread_name(std::uint32_t thread, unsigned threads_per_block) {
  return "block " + std::to_string(thread / threads_per_block) + " thread " +
         std::to_string(thread % threads_per_block);
}

const char* verb(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
}

std::string bytes_of(std::size_t size) {
  return std::to_string(size) + (size == 1 ? " byte" : " bytes");
}

std::string out_of_bounds(const std::vector<Region*>& regions, std::uintptr_t at, std::size_t size,
                          Access access) {
  std::string message = std::string("out of bounds: ") + verb(access) + " of " + bytes_of(size);
  const Region* nearest = nullptr;
  std::uintptr_t distance = 1 << 16;  // farther than this, the neighbour explains nothing
  for (const Region* region : regions) {
    if (region->size == 0) continue;
    const std::uintptr_t end = region->begin + region->size;
    const std::uintptr_t gap = at < region->begin ? region->begin - at : at < end ? 0 : at - end;
    if (gap < distance) {
      distance = gap;
      nearest = region;
    }
  }
  if (nearest == nullptr) return message + " far from any memory of the kernel";
  const auto offset = static_cast<std::intptr_t>(at - nearest->begin);
  return message + " at byte " + std::to_string(offset) + " of " + nearest->name + ", which has " +
         std::to_string(nearest->size);
}

std::string race(const Region& region, std::size_t offset, Access access, const Stamp& earlier,
                 const char* earlier_verb, const Observer& observer) {
  return "race: " + thread_name(observer.now.thread, observer.threads_per_block) + " " +
         verb(access) + "s byte " + std::to_string(offset) + " of " + region.name + ", which " +
         thread_name(earlier.thread, observer.threads_per_block) + " " + earlier_verb +
         " with no barrier between the two";
}

// A slot for a read: its thread's own, or one whose reader the running thread follows; the second
// otherwise, so that a later writer meets at least one reader other than itself.
void remember_read(ByteState& byte, const Observer& observer) {
  const bool first = !byte.reads[0].exists() || observer.follows(byte.reads[0]);
  byte.reads[first ? 0 : 1] = observer.now;
}

std::optional<std::string> check_byte(Region& region, std::size_t offset, Access access,
                                      const Observer& observer) {
  ByteState& byte = region.bytes[offset];
  if (byte.state == ByteState::kRedzone)
    return std::string("out of bounds: ") + verb(access) + " beside a __shared__ variable";
  if (access != Access::kWrite && byte.state != ByteState::kInitialised)
    return std::string("uninitialised: ") + verb(access) + " of byte " + std::to_string(offset) +
           " of " + region.name + ", which nothing has written";
  const bool both_atomic = access == Access::kAtomic && byte.write.atomic;
  if (byte.write.exists() && !both_atomic && !observer.follows(byte.write))
    return race(region, offset, access, byte.write, "wrote", observer);
  if (access == Access::kRead) {
    remember_read(byte, observer);
    return std::nullopt;
  }
  for (Stamp& read : byte.reads) {
    if (read.exists() && !observer.follows(read))
      return race(region, offset, access, read, "read", observer);
    read = Stamp();
  }
  byte.write = observer.now;
  byte.write.atomic = access == Access::kAtomic;
  byte.state = ByteState::kInitialised;
  return std::nullopt;
}

}  // namespace

Region constant_region(std::string name, const void* begin, std::size_t size) {
  return {std::move(name), reinterpret_cast<std::uintptr_t>(begin), size, false, {}};
}

Region tracked_region(std::string name, const void* begin, std::size_t size, bool writable,
                      bool initialised) {
  Region region = constant_region(std::move(name), begin, size);
  region.writable = writable;
  ByteState byte;
  byte.state = initialised ? ByteState::kInitialised : ByteState::kUninitialised;
  region.bytes.assign(size, byte);
  return region;
}

void forget_accesses(Region& region) {
  for (ByteState& byte : region.bytes) {
    byte.write = Stamp();
    for (Stamp& read : byte.reads) read = Stamp();
  }
}

std::optional<std::string> check_access(const std::vector<Region*>& regions, std::uintptr_t at,
                                        std::size_t size, Access access, const Observer& observer) {
  Region* region = nullptr;
  for (Region* candidate : regions)
    if (candidate->contains(at)) region = candidate;
  if (region == nullptr || size > region->size - (at - region->begin))
    return out_of_bounds(regions, at, size, access);
  if (access != Access::kRead && !region->writable)
    return std::string("read-only: ") + verb(access) + " to " + region->name;
  if (region->bytes.empty()) return std::nullopt;
  const std::size_t offset = at - region->begin;
  for (std::size_t k = offset; k < offset + size; ++k)
    if (auto error = check_byte(*region, k, access, observer)) return error;
  return std::nullopt;
}

}  // namespace host_executor
