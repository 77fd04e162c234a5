// What the kernels of categorical pixels are called with.
#pragma once

#include <cstdint>

#include "pixels.h"

namespace gencore {

// Logits [images, channels levels, plane], those of a channel beside each other. What is not of
// their dtype is of the accumulation type.
struct CategoricalArguments : Pixels {
  std::int64_t levels;
  const void* logits;
};

struct Categorical : CategoricalArguments {
  void* log_prob;        // [images, plane]
  void* log_normalizer;  // [images, channels, plane]
};

struct CategoricalBackward : CategoricalArguments {
  const void* grad;             // of log_prob
  const void* normalizer_grad;  // of log_normalizer
  const void* log_normalizer;
  void* logits_grad;  // as the logits
};

}  // namespace gencore
