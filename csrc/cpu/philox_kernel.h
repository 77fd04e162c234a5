// Filling a tensor with normals or with raw words. Writes each element once, reads nothing.
#pragma once

#include "../arguments/philox.h"
#include "traverse.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void philox_normal_range(const PhiloxFill& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  T* out = static_cast<T*>(args.out);
  for_each_piece<T>({nullptr, args.key, args.first}, true, begin, end,
                    [&](std::int64_t at, std::int64_t count, const A* noise) {
                      for (std::int64_t k = 0; k < count; ++k) out[at + k] = store<T>(noise[k]);
                    });
}

inline void philox_word_range(const PhiloxFill& args, std::int64_t begin, std::int64_t end) {
  const PhiloxStream stream = stream_of(args.key);
  std::int64_t* out = static_cast<std::int64_t*>(args.out);
  PhiloxWords words;
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t element = args.first + at;
    const std::int64_t skipped = element % 4;
    const std::int64_t count = std::min<std::int64_t>(kBlock - skipped, end - at);
    philox_words(stream, static_cast<std::uint64_t>(element / 4), false, words);
    for (std::int64_t k = 0; k < count; ++k)
      out[at + k] = words.word[(skipped + k) % 4][(skipped + k) / 4];
    at += count;
  }
}

template <class T>
void philox_fill_range(const PhiloxFill& args, std::int64_t begin, std::int64_t end) {
  if (args.words) return philox_word_range(args, begin, end);
  philox_normal_range<T>(args, begin, end);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
