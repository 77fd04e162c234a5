// Memory that a kernel works in.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "../math/macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Aligned memory, taken piece by piece and freed together.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : memory_(static_cast<unsigned char*>(std::aligned_alloc(64, round_up(bytes)))) {
    if (memory_ == nullptr)
      throw std::runtime_error("out of memory: a kernel cannot allocate " + std::to_string(bytes) +
                               " bytes to work in");
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  template <class A>
  A* take(std::int64_t count) {
    A* const piece = reinterpret_cast<A*>(memory_ + used_);
    used_ += size<A>(count);
    return piece;
  }
  // Of the piece that `take` would return.
  template <class A>
  static std::size_t size(std::int64_t count) {
    return round_up(static_cast<std::size_t>(count) * sizeof(A));
  }

 private:
  static std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
  unsigned char* memory_;
  std::size_t used_ = 0;
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
