// The logarithm of any number that is not negative, in either accumulation type.
#pragma once

#include <cmath>

#include "macros.h"
#include "normal.h"
#include "storage.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// What is not finite stays what it is.
GENCORE_HD float logarithm(float x) {
  const float log = x > 0.0f ? log_positive(x) : -__builtin_huge_valf();
  return is_finite(x) ? log : x;
}
GENCORE_HD double logarithm(double x) { return log(x); }

}  // namespace GENCORE_LEVEL
}  // namespace gencore
