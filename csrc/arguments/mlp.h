// A fully connected network, as the kernels that evaluate one take it.
#pragma once

#include <cstdint>

#include "../math/activation.h"

namespace gencore {

// f(x) of a fully connected network, of one output where it is an energy: layer l maps widths[l] to
// widths[l + 1] and all but the last are followed by the activation. Weights are [out, in] and of
// the accumulation dtype. No layers: f = 0, with widths[0] inputs.
inline constexpr int kMaxMlpLayers = 5;
struct Mlp {
  int layers;
  std::int64_t widths[kMaxMlpLayers + 1];
  const void* weights[kMaxMlpLayers];
  const void* biases[kMaxMlpLayers];
  Activation activation;
  double negative_slope;
};

}  // namespace gencore
