// Standard normals from Philox words by the Box-Muller transform.
//
// fp32 uses polynomials and integer range reduction only, so that the loop over elements vectorises
// and the CPU (with FMA) and CUDA evaluate the same sequence of roundings. Absolute error against
// the exact transform of the same words is below 1e-6; |value| <= 6.66.
#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"
#include "philox.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// a * b + c, fused wherever the target has the instruction.
GENCORE_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
GENCORE_HD double multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class To, class From>
GENCORE_HD To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(To));
  return result;
}

// log of a normal positive float: u = m 2^e with m in [sqrt(1/2), sqrt(2)), then the degree-8
// minimax polynomial of Cephes' logf on m - 1.
GENCORE_HD float log_positive(float u) {
  const std::int32_t bits = bit_cast<std::int32_t>(u);
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float f = bit_cast<float>(bits - (exponent << 23)) - 1.0f;
  const float e = static_cast<float>(exponent);
  float p = 7.0376836292e-2f;
  p = multiply_add(p, f, -1.1514610310e-1f);
  p = multiply_add(p, f, 1.1676998740e-1f);
  p = multiply_add(p, f, -1.2420140846e-1f);
  p = multiply_add(p, f, 1.4249322787e-1f);
  p = multiply_add(p, f, -1.6668057665e-1f);
  p = multiply_add(p, f, 2.0000714765e-1f);
  p = multiply_add(p, f, -2.4999993993e-1f);
  p = multiply_add(p, f, 3.3333331174e-1f);
  const float square = f * f;
  float tail = multiply_add(e, -2.12194440e-4f, p * f * square);  // ln 2 in two parts
  tail = multiply_add(-0.5f, square, tail);
  return multiply_add(e, 0.693359375f, f + tail);
}

struct SinCos {
  float sin, cos;
};

// sin and cos of 2 pi word / 2^32. The quadrant is the nearest multiple of a quarter turn, found
// exactly in integers; Cephes' polynomials cover the remaining [-pi/4, pi/4].
GENCORE_HD SinCos sincos_turns(std::uint32_t word) {
  const std::uint32_t quadrant = (word + 0x20000000u) >> 30;
  const std::int32_t remainder = static_cast<std::int32_t>(word - (quadrant << 30));
  const float angle = static_cast<float>(remainder) * 1.4629180792671596e-9f;  // 2 pi / 2^32
  const float square = angle * angle;
  float s = -1.9515295891e-4f;
  s = multiply_add(s, square, 8.3321608736e-3f);
  s = multiply_add(s, square, -1.6666654611e-1f);
  s = multiply_add(s * square, angle, angle);
  float c = 2.443315711809948e-5f;
  c = multiply_add(c, square, -1.388731625493765e-3f);
  c = multiply_add(c, square, 4.166664568298827e-2f);
  c = multiply_add(c, square * square, multiply_add(-0.5f, square, 1.0f));
  const bool odd = (quadrant & 1u) != 0;
  const float sin_magnitude = odd ? c : s;
  const float cos_magnitude = odd ? s : c;
  const std::uint32_t sin_sign = (quadrant & 2u) << 30;
  const std::uint32_t cos_sign = ((quadrant + 1u) & 2u) << 30;
  return {bit_cast<float>(bit_cast<std::uint32_t>(sin_magnitude) ^ sin_sign),
          bit_cast<float>(bit_cast<std::uint32_t>(cos_magnitude) ^ cos_sign)};
}

// Two normals from two words. The radius takes the top 31 bits of its word, as the midpoint of its
// bin, so that the signed conversion every instruction set has is enough.
GENCORE_HD void box_muller(std::uint32_t radius_word, std::uint32_t angle_word, float& n0,
                           float& n1) {
  const float u = multiply_add(static_cast<float>(static_cast<std::int32_t>(radius_word >> 1)),
                               4.656612873077393e-10f, 2.3283064365386963e-10f);
  const float radius = sqrtf(-2.0f * log_positive(u));
  const SinCos turn = sincos_turns(angle_word);
  n0 = radius * turn.cos;
  n1 = radius * turn.sin;
}

// fp64: the refining words place the uniforms inside the fp32 version's bins, so that both
// precisions see the same noise.
GENCORE_HD void box_muller(std::uint32_t radius_word, std::uint32_t angle_word,
                           std::uint32_t radius_refine, std::uint32_t angle_refine, double& n0,
                           double& n1) {
  const double bin = 2.3283064365386963e-10;  // 2^-32
  const double u = ((radius_word >> 1) + (radius_refine + 0.5) * bin) * (2.0 * bin);
  const double turns = (angle_word + (angle_refine + 0.5) * bin) * bin;
  const double radius = sqrt(-2.0 * log(u));
  double sine, cosine;
#if defined(__CUDA_ARCH__)
  sincospi(2.0 * turns, &sine, &cosine);  // sincos would reserve local memory for huge angles
#else
  sine = sin(6.283185307179586 * turns);
  cosine = cos(6.283185307179586 * turns);
#endif
  n0 = radius * cosine;
  n1 = radius * sine;
}

// The four normals of one Philox block.
GENCORE_HD void normal4(const PhiloxStream& stream, std::uint64_t block, float out[4]) {
  const Philox4 r = stream(block);
  box_muller(r.word[0], r.word[1], out[0], out[1]);
  box_muller(r.word[2], r.word[3], out[2], out[3]);
}
GENCORE_HD void normal4(const PhiloxStream& stream, std::uint64_t block, double out[4]) {
  const Philox4 r = stream(block);
  const Philox4 s = stream(block, /*refine=*/true);
  box_muller(r.word[0], r.word[1], s.word[0], s.word[1], out[0], out[1]);
  box_muller(r.word[2], r.word[3], s.word[2], s.word[3], out[2], out[3]);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
