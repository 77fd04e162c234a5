// Blocks of normals on the CPU: math/philox.h for many blocks at once.
#pragma once

#include <cstdint>

#include "../math/normal.h"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

namespace gencore {
inline namespace GENCORE_LEVEL {

// Philox words kept one to a 64-bit lane. The x86 widening multiply reads the low half of each lane
// and writes the full product, so a round needs no shuffles and the stale high halves are never
// masked off: 2.5 times the speed of what compilers make of 32-bit lanes.
#if defined(__AVX512F__)
struct WordLanes {
  static constexpr int count = 8;
  __m512i lanes;
  static WordLanes fill(std::uint64_t value) {
    return {_mm512_set1_epi64(static_cast<long long>(value))};
  }
  static WordLanes iota(std::uint64_t first) {
    return {_mm512_add_epi64(fill(first).lanes, _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0))};
  }
  WordLanes multiply(WordLanes other) const { return {_mm512_mul_epu32(lanes, other.lanes)}; }
  WordLanes high() const { return {_mm512_srli_epi64(lanes, 32)}; }
  static WordLanes xor3(WordLanes a, WordLanes b, WordLanes c) {
    return {_mm512_ternarylogic_epi64(a.lanes, b.lanes, c.lanes, 0x96)};
  }
  void store_low(std::uint32_t* out) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi64_epi32(lanes));
  }
};
#elif defined(__AVX2__)
struct WordLanes {
  static constexpr int count = 4;
  __m256i lanes;
  static WordLanes fill(std::uint64_t value) {
    return {_mm256_set1_epi64x(static_cast<long long>(value))};
  }
  static WordLanes iota(std::uint64_t first) {
    return {_mm256_add_epi64(fill(first).lanes, _mm256_set_epi64x(3, 2, 1, 0))};
  }
  WordLanes multiply(WordLanes other) const { return {_mm256_mul_epu32(lanes, other.lanes)}; }
  WordLanes high() const { return {_mm256_srli_epi64(lanes, 32)}; }
  static WordLanes xor3(WordLanes a, WordLanes b, WordLanes c) {
    return {_mm256_xor_si256(_mm256_xor_si256(a.lanes, b.lanes), c.lanes)};
  }
  void store_low(std::uint32_t* out) const {
    const __m256i even = _mm256_set_epi32(0, 0, 0, 0, 6, 4, 2, 0);
    const __m256i packed = _mm256_permutevar8x32_epi32(lanes, even);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
  }
};
#elif defined(__SSE2__)
struct WordLanes {
  static constexpr int count = 2;
  __m128i lanes;
  static WordLanes fill(std::uint64_t value) {
    return {_mm_set1_epi64x(static_cast<long long>(value))};
  }
  static WordLanes iota(std::uint64_t first) {
    return {_mm_add_epi64(fill(first).lanes, _mm_set_epi64x(1, 0))};
  }
  WordLanes multiply(WordLanes other) const { return {_mm_mul_epu32(lanes, other.lanes)}; }
  WordLanes high() const { return {_mm_srli_epi64(lanes, 32)}; }
  static WordLanes xor3(WordLanes a, WordLanes b, WordLanes c) {
    return {_mm_xor_si128(_mm_xor_si128(a.lanes, b.lanes), c.lanes)};
  }
  void store_low(std::uint32_t* out) const {
    const __m128i packed = _mm_shuffle_epi32(lanes, 0x08);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), packed);
  }
};
#else
struct WordLanes {
  static constexpr int count = 1;
  std::uint64_t lanes;
  static WordLanes fill(std::uint64_t value) { return {value}; }
  static WordLanes iota(std::uint64_t first) { return {first}; }
  WordLanes multiply(WordLanes other) const {
    return {(lanes & 0xFFFFFFFFu) * (other.lanes & 0xFFFFFFFFu)};
  }
  WordLanes high() const { return {lanes >> 32}; }
  static WordLanes xor3(WordLanes a, WordLanes b, WordLanes c) {
    return {a.lanes ^ b.lanes ^ c.lanes};
  }
  void store_low(std::uint32_t* out) const { *out = static_cast<std::uint32_t>(lanes); }
};
#endif

inline constexpr int kPhiloxBlocks = 16;
inline constexpr int kBlock = 4 * kPhiloxBlocks;  // elements a call produces

struct PhiloxWords {
  std::uint32_t word[4][kPhiloxBlocks];
};

// The words of the Philox blocks `first`, `first + 1`, ...
inline void philox_words(const PhiloxStream& stream, std::uint64_t first, bool refine,
                         PhiloxWords& out) {
  constexpr int kUnroll = WordLanes::count < 8 ? 4 : 2;  // hides the multiply's latency
  constexpr int kStride = kUnroll * WordLanes::count;
  static_assert(kPhiloxBlocks % kStride == 0);
  const std::uint64_t flag = refine ? 0x80000000u : 0u;
  const WordLanes multiplier0 = WordLanes::fill(0xD2511F53u);
  const WordLanes multiplier1 = WordLanes::fill(0xCD9E8D57u);
  for (int start = 0; start < kPhiloxBlocks; start += kStride) {
    WordLanes c0[kUnroll], c1[kUnroll], c2[kUnroll], c3[kUnroll];
    for (int i = 0; i < kUnroll; ++i) {
      c0[i] = WordLanes::iota(first + static_cast<std::uint64_t>(start + i * WordLanes::count));
      c1[i] = c0[i].high();
      c2[i] = WordLanes::fill(stream.offset);
      c3[i] = WordLanes::fill((stream.offset >> 32) | flag);
    }
    std::uint32_t key0 = static_cast<std::uint32_t>(stream.seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(stream.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const WordLanes k0 = WordLanes::fill(key0);
      const WordLanes k1 = WordLanes::fill(key1);
      for (int i = 0; i < kUnroll; ++i) {
        const WordLanes product0 = c0[i].multiply(multiplier0);
        const WordLanes product1 = c2[i].multiply(multiplier1);
        c0[i] = WordLanes::xor3(product1.high(), c1[i], k0);
        c1[i] = product1;
        c2[i] = WordLanes::xor3(product0.high(), c3[i], k1);
        c3[i] = product0;
      }
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    for (int i = 0; i < kUnroll; ++i) {
      const int lane = start + i * WordLanes::count;
      c0[i].store_low(out.word[0] + lane);
      c1[i].store_low(out.word[1] + lane);
      c2[i].store_low(out.word[2] + lane);
      c3[i].store_low(out.word[3] + lane);
    }
  }
}

// kBlock normals, starting with the first of Philox block `first`. Always whole blocks through one
// vector loop, so an element's value does not depend on where its thread's range begins.
inline void normal_block(const PhiloxStream& stream, std::uint64_t first, float* out) {
  PhiloxWords r;
  philox_words(stream, first, false, r);
  float n[4][kPhiloxBlocks];
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    box_muller(r.word[0][i], r.word[1][i], n[0][i], n[1][i]);
    box_muller(r.word[2][i], r.word[3][i], n[2][i], n[3][i]);
  }
  for (int i = 0; i < kPhiloxBlocks; ++i)
    for (int j = 0; j < 4; ++j) out[4 * i + j] = n[j][i];
}
inline void normal_block(const PhiloxStream& stream, std::uint64_t first, double* out) {
  PhiloxWords r, s;
  philox_words(stream, first, false, r);
  philox_words(stream, first, true, s);
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    for (int j = 0; j < 4; j += 2)
      box_muller(r.word[j][i], r.word[j + 1][i], s.word[j][i], s.word[j + 1][i], out[4 * i + j],
                 out[4 * i + j + 1]);
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
