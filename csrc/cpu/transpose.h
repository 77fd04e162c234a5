// Matrices turned round, in vector registers: rows of pixels of one channel into pixels of all
// channels, and back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "lanes.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// kSide rows of a vector each.
template <int kSide, class A>
struct Square {
  typedef A Vector __attribute__((vector_size(kSide * sizeof(A))));

  void transpose() { exchange<1>(std::make_integer_sequence<int, kSide>{}); }

  Vector rows[kSide];

 private:
  // Exchanges blocks of kStep elements across the diagonal of blocks twice as large, for each
  // power of two.
  template <int kStep, int... j>
  void exchange(std::integer_sequence<int, j...> lanes) {
    for (int i = 0; i < kSide; ++i) {
      if (i & kStep) continue;
      const Vector a = rows[i], b = rows[i + kStep];
      rows[i] = __builtin_shufflevector(a, b, (j & kStep ? kSide + j - kStep : j)...);
      rows[i + kStep] = __builtin_shufflevector(a, b, (j & kStep ? kSide + j : j + kStep)...);
    }
    if constexpr (2 * kStep < kSide) exchange<2 * kStep>(lanes);
  }
};

// to[c * to_stride + r] = from[r * from_stride + c]. The two do not overlap.
template <class A, int kSide = Lanes<A>::count>
void transpose(const A* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns,
               A* to, std::int64_t to_stride) {
  if (rows < kSide || columns < kSide) {
    if constexpr (kSide > 2)
      return transpose<A, kSide / 2>(from, from_stride, rows, columns, to, to_stride);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
    return;
  }
  // The last squares overlap with those before, and write the same again.
  for (std::int64_t row = 0; row < rows; row += kSide) {
    const std::int64_t r = std::min(row, rows - kSide);
    for (std::int64_t column = 0; column < columns; column += kSide) {
      const std::int64_t c = std::min(column, columns - kSide);
      Square<kSide, A> square;
      for (int k = 0; k < kSide; ++k)
        __builtin_memcpy(&square.rows[k], from + (r + k) * from_stride + c, sizeof(square.rows[k]));
      square.transpose();
      for (int k = 0; k < kSide; ++k)
        __builtin_memcpy(to + (c + k) * to_stride + r, &square.rows[k], sizeof(square.rows[k]));
    }
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
