// Functions whose every bit is the same on every machine: what one machine codes, another decodes.
//
// Sums and products alone, in double, never fused (contraction is off, and multiply_add, which is
// fused on some levels, is not used), no tables and no library. Errors are a few last places.
#pragma once

#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// e^x: x = n ln 2 + r, the Taylor series of r, and the power of two in two halves, for the whole
// may be out of a double's range. NaN stays NaN.
GENCORE_HD double portable_exp(double x) {
  x = x < -750.0 ? -750.0 : x;
  x = x > 711.0 ? 711.0 : x;
  const double shifted = x * 1.4426950408889634 + 6755399441055744.0;  // the last place is one
  const double n = shifted - 6755399441055744.0;
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.6059043836821613e-10;  // 1 / 13!
  p = p * r + 2.08767569878681e-09;
  p = p * r + 2.505210838544172e-08;
  p = p * r + 2.755731922398589e-07;
  p = p * r + 2.7557319223985893e-06;
  p = p * r + 2.48015873015873e-05;
  p = p * r + 1.984126984126984e-04;
  p = p * r + 1.388888888888889e-03;
  p = p * r + 8.333333333333333e-03;
  p = p * r + 4.1666666666666664e-02;
  p = p * r + 1.6666666666666666e-01;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const auto power = static_cast<std::int32_t>(bit_cast<std::uint64_t>(shifted));
  const std::int64_t half = power >> 1;
  const std::int64_t rest = power - half;
  return p * bit_cast<double>((half + 1023) << 52) * bit_cast<double>((rest + 1023) << 52);
}

// log of a normal positive double: u = m 2^e, m in [sqrt(1/2), sqrt(2)), and the series of
// log m = 2 artanh((m - 1) / (m + 1)).
GENCORE_HD double portable_log(double u) {
  const auto bits = bit_cast<std::int64_t>(u);
  const std::int64_t e = (bits - 0x3FE6A09E667F3BCD) >> 52;
  const double m = bit_cast<double>(bits - e * (std::int64_t{1} << 52));
  const double f = (m - 1.0) / (m + 1.0), square = f * f;
  double p = 1.0 / 21.0;
  p = p * square + 1.0 / 19.0;
  p = p * square + 1.0 / 17.0;
  p = p * square + 1.0 / 15.0;
  p = p * square + 1.0 / 13.0;
  p = p * square + 1.0 / 11.0;
  p = p * square + 1.0 / 9.0;
  p = p * square + 1.0 / 7.0;
  p = p * square + 1.0 / 5.0;
  p = p * square + 1.0 / 3.0;
  p = p * square + 1.0;
  return static_cast<double>(e) * 0.6931471805599453 + 2.0 * (f * p);
}

GENCORE_HD double portable_sigmoid(double x) {
  const double e = portable_exp(x < 0.0 ? x : -x);
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

GENCORE_HD double portable_tanh(double x) {
  const double e = portable_exp(x < 0.0 ? 2.0 * x : -2.0 * x);
  const double t = (1.0 - e) / (1.0 + e);
  return x < 0.0 ? -t : t;
}

// log sigmoid(x)
GENCORE_HD double portable_log_sigmoid(double x) {
  return (x < 0.0 ? x : 0.0) - portable_log(1.0 + portable_exp(x < 0.0 ? x : -x));
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
