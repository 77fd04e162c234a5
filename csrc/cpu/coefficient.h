// A coefficient that may differ from chain to chain and from element to element, spread to one
// entry an element of a block, so that the loops over it are the same in all cases.
#pragma once

#include <algorithm>
#include <cstdint>

#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
class CoefficientBlock {
 public:
  CoefficientBlock(const Coefficient& source, std::int64_t chain_size)
      : source_(source), chain_size_(chain_size) {
    std::fill_n(values_, kBlock, static_cast<A>(source.number));
  }

  bool varies() const { return source_.values != nullptr; }

  // To the elements [at, at + count) of the tensor.
  void move_to(std::int64_t at, std::int64_t count) {
    if (!varies()) return;
    const A* values = static_cast<const A*>(source_.values);
    std::int64_t chain = at / chain_size_, position = at % chain_size_;
    for (std::int64_t k = 0; k < count; ++chain, position = 0) {
      const std::int64_t run = std::min(count - k, chain_size_ - position);
      const A* from = values + chain * source_.chain_stride + position * source_.element_stride;
      for (std::int64_t j = 0; j < run; ++j) values_[k + j] = from[j * source_.element_stride];
      k += run;
    }
  }

  A operator[](std::int64_t k) const { return values_[k]; }

 private:
  const Coefficient source_;
  const std::int64_t chain_size_;
  alignas(64) A values_[kBlock];
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
