// Coefficients spread to one entry an element, so that a loop is the same for a number, one value a
// chain and one value an element.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../ops/arguments.h"
#include "philox_block.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// out[k] = values[((at + k) / run) % period] for k in [0, count).
template <class A>
inline void spread_runs(const A* values, std::int64_t period, std::int64_t run, std::int64_t at,
                        std::int64_t count, A* out) {
  std::int64_t entry = at / run % period;
  std::int64_t left = run - at % run;
  for (std::int64_t k = 0; k < count; ++k, --left) {
    if (left == 0) {
      left = run;
      entry = entry + 1 == period ? 0 : entry + 1;
    }
    out[k] = values[entry];
  }
}

// One coefficient over a piece of at most kBlock elements.
template <class A>
class CoefficientPiece {
 public:
  explicit CoefficientPiece(const Coefficient& coefficient) : coefficient_(coefficient) {
    std::fill_n(values_, kBlock, static_cast<A>(coefficient.number));
  }

  void move_to(std::int64_t at, std::int64_t count) {
    if (coefficient_.values == nullptr) return;
    spread_runs(static_cast<const A*>(coefficient_.values), coefficient_.count, coefficient_.run,
                at, count, values_);
  }

  GENCORE_HD A operator[](std::int64_t k) const { return values_[k]; }

 private:
  const Coefficient& coefficient_;
  alignas(64) A values_[kBlock];
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
