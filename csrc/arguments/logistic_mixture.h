// What the kernels of pixels in bins of a mixture of logistic distributions are called with.
#pragma once

#include <cstdint>

#include "pixels.h"

namespace gencore {

// Parameters [images, per_pixel(), plane], in blocks of `components`: logits if `weighted`; a mean
// for each channel; a log-scale for each, unless `log_scale` has them; and if `coupled` a
// coefficient for each pair of channels. What is not of their dtype is of the accumulation type.
struct LogisticMixtureArguments : Pixels {
  std::int64_t levels;
  std::int64_t components;
  bool weighted;
  bool coupled;
  std::int64_t bin_size;
  double first_edge;
  double min_log_scale;
  const void* parameters;
  const void* log_scale;  // [channels], or null

  // Where the blocks begin.
  GENCORE_HD std::int64_t mean_at(std::int64_t channel) const {
    return ((weighted ? 1 : 0) + channel) * components;
  }
  GENCORE_HD std::int64_t log_scale_at(std::int64_t channel) const {
    return mean_at(channels + channel);
  }
  // Of channel `channel` after channel `earlier`.
  GENCORE_HD std::int64_t coefficient_at(std::int64_t channel, std::int64_t earlier) const {
    const std::int64_t first = log_scale == nullptr ? 2 * channels : channels;
    return mean_at(first + channel * (channel - 1) / 2 + earlier);
  }
  GENCORE_HD std::int64_t pairs() const { return coupled ? channels * (channels - 1) / 2 : 0; }
  GENCORE_HD std::int64_t per_pixel() const {
    return mean_at((log_scale == nullptr ? 2 : 1) * channels + pairs());
  }
};

struct LogisticMixture : LogisticMixtureArguments {
  void* log_prob;  // [images, plane]
};

struct LogisticMixtureBackward : LogisticMixtureArguments {
  const void* grad;       // of log_prob
  void* parameters_grad;  // as the parameters
  void* log_scale_grad;   // [images, channels, plane], to be added up, or null
};

}  // namespace gencore
