// Loading and storing the four floating dtypes. Sums and products are done in fp32 for the half
// types and in the type itself otherwise.
#pragma once

#include <cstdint>

#include "macros.h"
#include "normal.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

GENCORE_HD float load(float value) { return value; }
GENCORE_HD double load(double value) { return value; }
GENCORE_HD float load(BFloat16 value) {
  return bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
// The exponent is rebiased by a multiplication, which also normalises subnormals; infinities and
// NaNs then need their exponent back.
GENCORE_HD float load(Float16 value) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFFu) << 13;
  const float scaled = bit_cast<float>(magnitude) * bit_cast<float>(0x77800000u);  // 2^112
  const std::uint32_t special = magnitude >= 0x0F800000u ? 0x7F800000u : 0u;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  return bit_cast<float>(bit_cast<std::uint32_t>(scaled) | special | sign);
}

// Neither infinite nor NaN: an exponent that is not all ones.
GENCORE_HD bool is_finite(float value) {
  return (bit_cast<std::uint32_t>(value) & 0x7F800000u) != 0x7F800000u;
}
GENCORE_HD bool is_finite(double value) {
  constexpr std::uint64_t kExponent = 0x7FF0000000000000u;
  return (bit_cast<std::uint64_t>(value) & kExponent) != kExponent;
}
GENCORE_HD bool is_finite(BFloat16 value) { return (value.bits & 0x7F80u) != 0x7F80u; }
GENCORE_HD bool is_finite(Float16 value) { return (value.bits & 0x7C00u) != 0x7C00u; }

template <class T>
GENCORE_HD T store(accumulate_t<T> value);
template <>
GENCORE_HD float store<float>(float value) {
  return value;
}
template <>
GENCORE_HD double store<double>(double value) {
  return value;
}
// Both round to nearest, ties to even, and keep NaN a NaN.
template <>
GENCORE_HD BFloat16 store<BFloat16>(float value) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return {static_cast<std::uint16_t>(is_nan ? 0x7FC0u : rounded)};
}
template <>
GENCORE_HD Float16 store<Float16>(float value) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Adding a number whose last place is the half type's last place does the rounding, for normal
  // and subnormal results alike.
  const std::uint32_t exponent = magnitude & 0x7F800000u;
  const std::uint32_t floor = exponent < 0x38800000u ? 0x38800000u : exponent;
  const float shift = bit_cast<float>(floor + 0x06800000u);  // 2^13 times the binade
  const float aligned = bit_cast<float>(magnitude) + shift;
  const float rounded = aligned - shift;
  const std::uint32_t normal = (bit_cast<std::uint32_t>(rounded) - 0x38000000u) >> 13;
  // Below 2^-14 `shift` is 1/2, whose last place is the subnormals' unit.
  const std::uint32_t subnormal = bit_cast<std::uint32_t>(aligned) - 0x3F000000u;
  std::uint32_t half = rounded < 6.103515625e-5f ? subnormal : normal;
  half = magnitude >= 0x477FF000u ? 0x7C00u : half;  // 65520 and above round to infinity
  half = magnitude > 0x7F800000u ? 0x7E00u : half;
  return {static_cast<std::uint16_t>(half | sign)};
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
