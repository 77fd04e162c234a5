// A sum in double that vectorises and has one order of its terms, wherever its pieces are cut.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../math/macros.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Term k of the sum is added to lane k mod kLanes. The lanes are a few groups, so that one addition
// need not wait for the last one's end.
class LaneSum {
 public:
  // The next `count` terms.
  template <class A>
  void add(const A* terms, std::int64_t count) {
    std::int64_t k = 0;
    for (; next_ % kGroup != 0 && k < count; ++k) add_one(terms[k]);
    for (; next_ != 0 && k + kGroup <= count; k += kGroup) add_group(terms + k);
    // In registers: through memory, every addition would wait for the last one's store.
    Sums sums[kGroups];
    __builtin_memcpy(sums, lanes_, sizeof(sums));
    for (; next_ == 0 && k + kLanes <= count; k += kLanes)
      for (int i = 0; i < kGroups; ++i) sums[i] += widened(terms + k + i * kGroup);
    __builtin_memcpy(lanes_, sums, sizeof(sums));
    for (; k + kGroup <= count; k += kGroup) add_group(terms + k);
    for (; k < count; ++k) add_one(terms[k]);
  }

  double total() const {
    double folded[kGroup];
    for (int k = 0; k < kGroup; ++k) folded[k] = lanes_[k] + lanes_[kGroup + k];
    return ((folded[0] + folded[1]) + (folded[2] + folded[3])) +
           ((folded[4] + folded[5]) + (folded[6] + folded[7]));
  }

  void clear() {
    std::fill_n(lanes_, kLanes, 0.0);
    next_ = 0;
  }

 private:
  static constexpr int kGroup = 8, kGroups = 2, kLanes = kGroup * kGroups;
  typedef double Sums __attribute__((vector_size(kGroup * sizeof(double))));

  template <class A>
  static Sums widened(const A* terms) {
    typedef A Terms __attribute__((vector_size(kGroup * sizeof(A))));
    Terms group;
    __builtin_memcpy(&group, terms, sizeof(group));
    return __builtin_convertvector(group, Sums);
  }

  template <class A>
  void add_group(const A* terms) {
    Sums sums;
    __builtin_memcpy(&sums, lanes_ + next_, sizeof(sums));
    sums += widened(terms);
    __builtin_memcpy(lanes_ + next_, &sums, sizeof(sums));
    next_ = (next_ + kGroup) % kLanes;
  }

  void add_one(double term) {
    lanes_[next_] += term;
    next_ = (next_ + 1) % kLanes;
  }

  alignas(64) double lanes_[kLanes] = {};
  int next_ = 0;
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
