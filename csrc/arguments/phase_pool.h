// What the kernels of phase pooling are called with.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

// Maps [images, features, rows, columns] and the pools over them, [images, groups, h, w] of them
// (`pools`). Feature i of a pool of group g is feature g stride + i of the map, modulo the number
// of features. Sizes, kernels and strides are by axis. There is a pool at least, and an axis along
// which it has more than one element.
struct PhasePools {
  Dtype dtype;
  std::int64_t images;
  std::int64_t size[3];
  std::int64_t kernel[3];
  std::int64_t stride[3];
  std::int64_t padding[3];
  std::int64_t pools[3];

  GENCORE_HD std::int64_t plane() const { return size[1] * size[2]; }
  GENCORE_HD std::int64_t pool_plane() const { return pools[1] * pools[2]; }
  GENCORE_HD std::int64_t dims() const {
    return (kernel[0] > 1 ? 1 : 0) + (kernel[1] > 1 ? 1 : 0) + (kernel[2] > 1 ? 1 : 0);
  }
  // The feature of element `at` of a pool of the group.
  GENCORE_HD std::int64_t feature(std::int64_t group, std::int64_t at) const {
    return (group * stride[0] + at) % size[0];
  }
  // Where in its image element (i, j, k) of a pool is, whose first row and column are given; -1 for
  // what is outside of the pool or of the map.
  GENCORE_HD std::int64_t place(std::int64_t group, std::int64_t top, std::int64_t left,
                                std::int64_t i, std::int64_t j, std::int64_t k) const {
    const std::int64_t y = top + j, x = left + k;
    const bool inside = i >= 0 && i < kernel[0] && j >= 0 && j < kernel[1] && k >= 0 &&
                        k < kernel[2] && y >= 0 && y < size[1] && x >= 0 && x < size[2];
    return inside ? (feature(group, i) * size[1] + y) * size[2] + x : -1;
  }
  // Where the phase of pool `at` (in a plane) along the axis is, of a group of all images; only for
  // axes that have one.
  GENCORE_HD std::int64_t phase_at(std::int64_t group, int axis, std::int64_t at) const {
    std::int64_t dim = 0;
    for (int before = 0; before < axis; ++before) dim += kernel[before] > 1 ? 1 : 0;
    return (group * dims() + dim) * pool_plane() + at;
  }
};

// In pooling magnitudes, phases, entropies, and their gradients, are of the accumulation type.
struct PhasePoolArguments : PhasePools {
  const void* z;
  Coefficient beta;  // a chain is a group

  template <class A>
  GENCORE_HD A beta_of(std::int64_t group) const {
    return beta.values == nullptr ? static_cast<A>(beta.number)
                                  : static_cast<const A*>(beta.values)[group * beta.chain_stride];
  }
};

struct PhasePool : PhasePoolArguments {
  void* magnitude;
  void* phase;
  // The entropy of the weights, up to what rounding the magnitude m costs: the weights are
  // exp(beta (z - m) - entropy), which is exact where one element has all the weight.
  void* entropy;
};

struct PhasePoolBackward : PhasePoolArguments {
  const void* magnitude;
  const void* phase;
  const void* entropy;
  const void* grad_magnitude;
  const void* grad_phase;
  void* z_grad;     // of the accumulation type; for the one kernel
  void* beta_grad;  // [images, groups, h], of the accumulation type; for the other
};

// In unpooling magnitudes, phases, and their gradients, are of the dtype.
struct PhaseUnpool : PhasePools {
  bool clamp;
  const void* magnitude;
  const void* phase;
  void* out;  // of the accumulation type
};

struct PhaseUnpoolBackward : PhasePools {
  bool clamp;
  const void* magnitude;
  const void* phase;
  const void* grad_out;
  void* magnitude_grad;
  void* phase_grad;
};

}  // namespace gencore
