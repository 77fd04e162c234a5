// A sum in double that vectorises and has one order of its terms, wherever its pieces are cut.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../math/macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Term k of the sum is added to lane k mod kLanes.
class LaneSum {
 public:
  // The next `count` terms.
  template <class A>
  void add(const A* terms, std::int64_t count) {
    std::int64_t k = 0;
    for (; next_ != 0 && k < count; ++k) add_one(terms[k]);
    // In registers: through memory, every addition would wait for the last one's store.
    typedef A Terms __attribute__((vector_size(kLanes * sizeof(A))));
    typedef double Sums __attribute__((vector_size(kLanes * sizeof(double))));
    Sums sums;
    __builtin_memcpy(&sums, lanes_, sizeof(sums));
    for (; k + kLanes <= count; k += kLanes) {
      Terms group;
      __builtin_memcpy(&group, terms + k, sizeof(group));
      sums += __builtin_convertvector(group, Sums);
    }
    __builtin_memcpy(lanes_, &sums, sizeof(sums));
    for (; k < count; ++k) add_one(terms[k]);
  }

  double total() const {
    return ((lanes_[0] + lanes_[1]) + (lanes_[2] + lanes_[3])) +
           ((lanes_[4] + lanes_[5]) + (lanes_[6] + lanes_[7]));
  }

  void clear() {
    std::fill_n(lanes_, kLanes, 0.0);
    next_ = 0;
  }

 private:
  static constexpr int kLanes = 8;

  void add_one(double term) {
    lanes_[next_] += term;
    next_ = (next_ + 1) % kLanes;
  }

  alignas(64) double lanes_[kLanes] = {};
  int next_ = 0;
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
