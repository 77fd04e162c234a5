// The levels of a pixel's channel: cumulative probabilities from the network's parameters, in a
// form that is the same on every machine; a draw by inverting them; and the whole numbers that an
// entropy coder takes in their place.
#pragma once

#include <cstdint>

#include "portable.h"

namespace gencore {

enum class PixelDraw { kNone, kCategorical, kLogistic };

inline namespace GENCORE_LEVEL {

// Frequencies of all levels add up to this: the precision of range coders with 32-bit words.
inline constexpr std::int64_t kFrequencyTotal = std::int64_t{1} << 24;

// The network sees and the logistics lie in levels scaled to [-1, 1].
GENCORE_HD double scaled_level(double level, std::int64_t levels) {
  return level * (2.0 / static_cast<double>(levels - 1)) - 1.0;
}

// The first level at which the running sum of `weights` exceeds u times its total.
GENCORE_HD std::int64_t invert_weights(const double* weights, std::int64_t levels, double u) {
  double total = 0.0;
  for (std::int64_t k = 0; k < levels; ++k) total += weights[k];
  const double target = u * total;
  double sum = 0.0;
  std::int64_t last = 0;
  for (std::int64_t k = 0; k < levels; ++k) {
    if (!(weights[k] > 0.0)) continue;
    sum += weights[k];
    last = k;
    if (sum > target) break;
  }
  return last;
}

// Turns cumulative probabilities, times any total, into positive whole numbers of the sum
// kFrequencyTotal. A last place by which they might fall is ignored.
GENCORE_HD void frequencies_of(const double* cumulative, std::int64_t levels,
                               std::int32_t* frequencies) {
  const double total = cumulative[levels - 1];
  const std::int64_t spread = kFrequencyTotal - levels;
  std::int64_t before = 0;
  for (std::int64_t k = 0; k < levels; ++k) {
    std::int64_t until = spread;
    if (k + 1 < levels) {
      const double share = cumulative[k] / total * static_cast<double>(spread);
      // NaN, of a network that has gone astray, counts as nothing.
      until = share > static_cast<double>(before) ? static_cast<std::int64_t>(share) : before;
      until = until > spread ? spread : until;
    }
    frequencies[k] = static_cast<std::int32_t>(until - before + 1);
    before = until;
  }
}

// The parameters of a pixel, of a mixture of discretized logistics: [weight M | mean C M |
// log-scale C M | coefficient C (C - 1) / 2 M] of M components.
template <class A>
struct LogisticPixel {
  const A* parameters;
  const std::int64_t* x;  // the levels of the pixel's channels, those before `channel` known
  std::int64_t x_stride;
  std::int64_t channels;
  std::int64_t components;
  std::int64_t levels;
  bool coupled;
  double lowest;  // log-scale

  GENCORE_HD double at(std::int64_t block, std::int64_t m) const {
    return static_cast<double>(parameters[block * components + m]);
  }
  GENCORE_HD double level(std::int64_t channel) const {
    return scaled_level(static_cast<double>(x[channel * x_stride]), levels);
  }
  GENCORE_HD double mean(std::int64_t channel, std::int64_t m) const {
    double mean = at(1 + channel, m);
    for (std::int64_t j = 0; coupled && j < channel; ++j)
      mean += portable_tanh(at(1 + 2 * channels + channel * (channel - 1) / 2 + j, m)) * level(j);
    return mean;
  }
  GENCORE_HD double log_scale(std::int64_t channel, std::int64_t m) const {
    const double s = at(1 + channels + channel, m);
    return s < lowest ? lowest : s;
  }

  // Where a level ends.
  GENCORE_HD static double edge(std::int64_t level, std::int64_t levels) {
    return scaled_level(static_cast<double>(level) + 0.5, levels);
  }
  // log of the probability of the known level of `channel` in component m.
  GENCORE_HD double log_bin(std::int64_t channel, std::int64_t m) const {
    const std::int64_t level = x[channel * x_stride];
    const double centre = mean(channel, m), precision = portable_exp(-log_scale(channel, m));
    const bool lowest = level <= 0, highest = level >= levels - 1;
    if (lowest && highest) return 0.0;
    const double upper = (edge(level, levels) - centre) * precision;
    const double lower = (edge(level - 1, levels) - centre) * precision;
    if (lowest) return portable_log_sigmoid(upper);
    if (highest) return portable_log_sigmoid(-lower);
    const double width = upper - lower;
    const double part = width < 1e-6 ? width : 1.0 - portable_exp(-width);
    return portable_log_sigmoid(upper) + portable_log_sigmoid(-lower) + portable_log(part);
  }
};

// A component by the first uniform, a place within it by the channel's.
template <class A>
GENCORE_HD std::int64_t draw_logistic(const LogisticPixel<A>& pixel, std::int64_t channel,
                                      double u_component, double u) {
  double largest = pixel.at(0, 0);
  for (std::int64_t m = 1; m < pixel.components; ++m)
    largest = pixel.at(0, m) > largest ? pixel.at(0, m) : largest;
  double total = 0.0;
  for (std::int64_t m = 0; m < pixel.components; ++m)
    total += portable_exp(pixel.at(0, m) - largest);
  const double target = u_component * total;
  double sum = 0.0;
  std::int64_t chosen = 0;
  for (std::int64_t m = 0; m < pixel.components; ++m) {
    const double weight = portable_exp(pixel.at(0, m) - largest);
    if (!(weight > 0.0)) continue;
    sum += weight;
    chosen = m;
    if (sum > target) break;
  }
  const double scale = portable_exp(pixel.log_scale(channel, chosen));
  // The smallest uniform but zero is 2^-24; zero is an end of the line.
  const double inside = u > 2.9802322387695312e-08 ? u : 2.9802322387695312e-08;
  const double place =
      pixel.mean(channel, chosen) + scale * (portable_log(inside) - portable_log(1.0 - inside));
  const double last = static_cast<double>(pixel.levels - 1);
  const double level = (place + 1.0) * 0.5 * last + 0.5;  // rounded to the nearest by its floor
  if (!(level >= 1.0)) return 0;
  return level >= last ? pixel.levels - 1 : static_cast<std::int64_t>(level);
}

// The probability of levels 0 to k of `channel`, given the channels before it. `shares` holds the
// components' weights given these, which add up to one.
template <class A>
GENCORE_HD void logistic_shares(const LogisticPixel<A>& pixel, std::int64_t channel,
                                double* shares) {
  double largest = 0.0, total = 0.0;
  for (std::int64_t m = 0; m < pixel.components; ++m) {
    double log_share = pixel.at(0, m);
    for (std::int64_t j = 0; j < channel; ++j) log_share += pixel.log_bin(j, m);
    shares[m] = log_share;
    largest = m == 0 || log_share > largest ? log_share : largest;
  }
  for (std::int64_t m = 0; m < pixel.components; ++m) {
    shares[m] = portable_exp(shares[m] - largest);
    total += shares[m];
  }
  for (std::int64_t m = 0; m < pixel.components; ++m) shares[m] /= total;
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
