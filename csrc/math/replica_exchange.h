// Whether two neighbouring replicas of a tempered chain change places.
#pragma once

#include <cmath>

#include "storage.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// With probability min(1, exp((beta_low - beta_high) (e_low - e_high))), decided by `uniform` of
// (0, 1); never where an energy is not finite.
GENCORE_HD bool swap_is_accepted(double beta_low, double beta_high, double e_low, double e_high,
                                 double uniform) {
  return is_finite(e_low) && is_finite(e_high) &&
         uniform < exp((beta_low - beta_high) * (e_low - e_high));
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
