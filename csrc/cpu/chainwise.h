// The walk of kernels that add up something over each chain: blocks of elements, as many chains to
// a block as it holds, and a sum for each chain.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lane_sum.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The sums of successive chains whose terms come in pieces. A chain's sum does not depend on where
// they were cut, which the number of threads decides.
class ChainSums {
 public:
  ChainSums(std::int64_t first_chain, std::int64_t chain_size)
      : chain_(first_chain), chain_size_(chain_size) {}

  // The next `count` terms; calls finish(chain, sum) for every chain that they complete.
  template <class A, class Finish>
  void add(const A* terms, std::int64_t count, Finish finish) {
    while (count > 0) {
      const std::int64_t run = std::min(count, chain_size_ - position_);
      sum_.add(terms, run);
      terms += run;
      count -= run;
      position_ += run;
      if (position_ < chain_size_) return;
      finish(chain_, sum_.total());
      ++chain_;
      position_ = 0;
      sum_.clear();
    }
  }

 private:
  std::int64_t chain_;
  const std::int64_t chain_size_;
  std::int64_t position_ = 0;
  LaneSum sum_;
};

// Calls body(at, count, noise, terms) for the pieces of the chains [begin, end), which leaves a
// term for each element, and finish(chain, sum of its terms) for each chain.
template <class T, class Body, class Finish>
inline void sum_over_chains(const NoiseSource& noise, bool has_noise, std::int64_t chain_size,
                            std::int64_t begin, std::int64_t end, Body body, Finish finish) {
  using A = accumulate_t<T>;
  if (chain_size == 0) {
    for (std::int64_t chain = begin; chain < end; ++chain) finish(chain, 0.0);
    return;
  }
  ChainSums sums(begin, chain_size);
  alignas(64) A terms[kBlock];
  for_each_piece<T>(noise, has_noise, begin * chain_size, end * chain_size,
                    [&](std::int64_t at, std::int64_t count, const A* piece) {
                      body(at, count, piece, terms);
                      sums.add(terms, count, finish);
                    });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
