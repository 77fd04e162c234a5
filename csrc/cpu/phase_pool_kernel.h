// Phase pooling. The pools of a row are made in two steps: first every column of the map is summed
// over the features and rows of the pools, relative to the column's largest element; then every
// pool combines its columns, relative to the largest of them. So each element needs one exponential
// for all pools that overlap along a row, and no exponential overflows.
//
// Bytes per element, for pools of k elements of stride s along features and rows: reads z (b) k / s
// times, mostly from the cache; the gradient writes as often what it adds to (4). What belongs to
// pools is read and written once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/phase_pool.h"
#include "../math/activation.h"
#include "../math/phase_pool.h"
#include "../math/storage.h"
#include "lanes.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A row of pools: those of one image, one group of features and some rows of the map.
struct PoolRow {
  std::int64_t image;
  std::int64_t group;  // of its image
  std::int64_t row;    // of pools
  std::int64_t at;     // of its first pool among all magnitudes

  PoolRow(const PhasePools& args, std::int64_t image_, std::int64_t group_, std::int64_t row_)
      : image(image_),
        group(group_),
        row(row_),
        at(((image * args.pools[0] + group) * args.pools[1] + row) * args.pools[2]) {}
  PoolRow(const PhasePools& args, std::int64_t item)
      : PoolRow(args, item / args.pools[1] / args.pools[0], item / args.pools[1] % args.pools[0],
                item % args.pools[1]) {}

  std::int64_t phase_at(const PhasePools& args, int axis) const {
    return args.phase_at(image * args.pools[0] + group, axis, row * args.pools[2]);
  }
};

// Calls body(element along the axis of features, element along that of rows, offset in the image)
// for the rows of the map that the pools hold.
template <class Body>
void for_each_map_row(const PhasePools& args, const PoolRow& pools, const Body& body) {
  const std::int64_t top = pools.row * args.stride[1] - args.padding[1];
  const std::int64_t first = std::max<std::int64_t>(-top, 0);
  const std::int64_t last = std::min(args.kernel[1], args.size[1] - top);
  for (std::int64_t i = 0; i < args.kernel[0]; ++i) {
    const std::int64_t offset = args.feature(pools.group, i) * args.plane();
    for (std::int64_t j = first; j < last; ++j) body(i, j, offset + (top + j) * args.size[2]);
  }
}

// Calls body(column of the map, pool) for each pool of a row of which element `at` along the
// columns is in the map. No two pools have one column.
template <class Body>
void for_each_pool(const PhasePools& args, std::int64_t at, const Body& body) {
  const std::int64_t stride = args.stride[2], shift = at - args.padding[2];
  const std::int64_t room = args.size[2] - 1 - shift;
  const std::int64_t first = shift < 0 ? (-shift + stride - 1) / stride : 0;
  const std::int64_t end = room < 0 ? 0 : std::min(args.pools[2], room / stride + 1);
  if (stride == 1) {
#pragma GCC ivdep
    for (std::int64_t k = first; k < end; ++k) body(k + shift, k);
  } else if (stride == 2) {
#pragma GCC ivdep
    for (std::int64_t k = first; k < end; ++k) body(2 * k + shift, k);
  } else {
#pragma GCC ivdep
    for (std::int64_t k = first; k < end; ++k) body(stride * k + shift, k);
  }
}

// The sums over the features and rows of each column, weighted by exp(beta (z - largest)).
template <class A>
class PoolColumns {
 public:
  PoolColumns(Scratch& scratch, std::int64_t columns)
      : largest(scratch.take<A>(columns)),
        weight(scratch.take<A>(columns)),
        below(scratch.take<A>(columns)),
        across_features(scratch.take<A>(columns)),
        across_rows(scratch.take<A>(columns)) {}
  static std::size_t bytes(std::int64_t columns) { return 5 * Scratch::size<A>(columns); }

  template <class T>
  void sum(const PhasePoolArguments& args, const PoolRow& pools, A beta) const {
    const T* __restrict z =
        static_cast<const T*>(args.z) + pools.image * args.size[0] * args.plane();
    const std::int64_t columns = args.size[2];
    // Blocks of columns whose sums stay in registers.
    constexpr std::int64_t kBlock = 2 * Lanes<A>::count;
    std::int64_t first = 0;
    for (; first + kBlock <= columns; first += kBlock)
      sum_block<T, kBlock>(args, pools, beta, z, first);
    for (; first < columns; ++first) sum_block<T, 1>(args, pools, beta, z, first);
  }

  A* const largest;
  A* const weight;
  A* const below;  // of z - largest
  A* const across_features;
  A* const across_rows;

 private:
  template <class T, std::int64_t kBlock>
  void sum_block(const PhasePoolArguments& args, const PoolRow& pools, A beta, const T* z,
                 std::int64_t first) const {
    A most[kBlock], total[kBlock] = {}, lower[kBlock] = {}, features[kBlock] = {},
                    rows[kBlock] = {};
    std::fill_n(most, kBlock, -std::numeric_limits<A>::infinity());
    for_each_map_row(args, pools, [&](std::int64_t, std::int64_t, std::int64_t offset) {
      const T* row = z + offset + first;
      for (std::int64_t k = 0; k < kBlock; ++k) {
        const A value = load(row[k]);
        most[k] = value > most[k] ? value : most[k];
      }
    });
    for_each_map_row(args, pools, [&](std::int64_t i, std::int64_t j, std::int64_t offset) {
      const T* row = z + offset + first;
      const A feature = phase_coordinate<A>(i, args.kernel[0]);
      const A line = phase_coordinate<A>(j, args.kernel[1]);
      for (std::int64_t k = 0; k < kBlock; ++k) {
        const A difference = load(row[k]) - most[k];
        const A e = exp_negative(beta * difference);
        total[k] += e;
        lower[k] = multiply_add(e, difference, lower[k]);
        features[k] = multiply_add(e, feature, features[k]);
        rows[k] = multiply_add(e, line, rows[k]);
      }
    });
    std::copy_n(most, kBlock, largest + first);
    std::copy_n(total, kBlock, weight + first);
    std::copy_n(lower, kBlock, below + first);
    std::copy_n(features, kBlock, across_features + first);
    std::copy_n(rows, kBlock, across_rows + first);
  }
};

// Items are the rows of pools of all images.
template <class T>
void phase_pool_range(const PhasePool& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t columns = args.size[2], pools = args.pools[2];
  Scratch scratch(PoolColumns<A>::bytes(columns) + 5 * Scratch::size<A>(pools));
  const PoolColumns<A> column(scratch, columns);
  A* const largest = scratch.take<A>(pools);
  A* const weight = scratch.take<A>(pools);
  A* const sums[3] = {scratch.take<A>(pools), scratch.take<A>(pools), scratch.take<A>(pools)};
  for (std::int64_t item = begin; item < end; ++item) {
    const PoolRow row(args, item);
    const A beta = args.template beta_of<A>(row.group);
    column.template sum<T>(args, row, beta);
    std::fill_n(largest, pools, -std::numeric_limits<A>::infinity());
    for (std::int64_t at = 0; at < args.kernel[2]; ++at)
      for_each_pool(args, at, [&](std::int64_t x, std::int64_t k) {
        const A most = column.largest[x];
        largest[k] = most > largest[k] ? most : largest[k];
      });
    A* const magnitude = static_cast<A*>(args.magnitude) + row.at;
    A* const entropy = static_cast<A*>(args.entropy) + row.at;
    std::fill_n(weight, pools, A(0));
    std::fill_n(magnitude, pools, A(0));
    for (A* sum : sums) std::fill_n(sum, pools, A(0));
    for (std::int64_t at = 0; at < args.kernel[2]; ++at) {
      const A coordinate = phase_coordinate<A>(at, args.kernel[2]);
      for_each_pool(args, at, [&](std::int64_t x, std::int64_t k) {
        const A difference = column.largest[x] - largest[k];
        const A e = exp_negative(beta * difference);
        const A share = e * column.weight[x];
        weight[k] += share;
        magnitude[k] += multiply_add(difference, share, e * column.below[x]);
        sums[0][k] = multiply_add(e, column.across_features[x], sums[0][k]);
        sums[1][k] = multiply_add(e, column.across_rows[x], sums[1][k]);
        sums[2][k] = multiply_add(share, coordinate, sums[2][k]);
      });
    }
    for (std::int64_t k = 0; k < pools; ++k) {
      magnitude[k] = largest[k] + magnitude[k] / weight[k];
      entropy[k] = multiply_add(beta, largest[k] - magnitude[k], natural_logarithm(weight[k]));
    }
    for (int axis = 0; axis < 3; ++axis) {
      if (args.kernel[axis] == 1) continue;
      A* const phase = static_cast<A*>(args.phase) + row.phase_at(args, axis);
      for (std::int64_t k = 0; k < pools; ++k) phase[k] = sums[axis][k] / weight[k];
    }
  }
}

// What the gradient of a row's elements is made of, for each column x. A pool k has the weights
// exp(beta (z - m_k) - H_k). Of the pools with the column, the one with the smallest sum of
// exponentials has magnitude m and entropy H; with E = exp(beta (z - m) - H), which is at most 1,
// all of them together contribute
//     E (slope + beta B),   B = constant + slope (z - m) + features c_f + rows c_r
// to the gradient of an element, where slope is the sum over k of u_k dL/dm_k,
// u_k = exp(beta (m - m_k) + H - H_k), and so on. The gradient of beta is the sum of E z B over all
// elements, with any origin of z.
template <class A>
class PoolSlopes {
 public:
  PoolSlopes(Scratch& scratch, std::int64_t columns, std::int64_t pools)
      : magnitude(scratch.take<A>(columns)),
        entropy(scratch.take<A>(columns)),
        slope(scratch.take<A>(columns)),
        constant(scratch.take<A>(columns)),
        features(scratch.take<A>(columns)),
        rows(scratch.take<A>(columns)),
        of_pool_{scratch.take<A>(pools), scratch.take<A>(pools), scratch.take<A>(pools)},
        constant_(scratch.take<A>(pools)) {}
  static std::size_t bytes(std::int64_t columns, std::int64_t pools) {
    return 6 * Scratch::size<A>(columns) + 4 * Scratch::size<A>(pools);
  }

  void find(const PhasePoolBackward& args, const PoolRow& row, A beta) {
    const std::int64_t columns = args.size[2], pools = args.pools[2];
    const A* const of_pool = static_cast<const A*>(args.magnitude) + row.at;
    const A* const grad = static_cast<const A*>(args.grad_magnitude) + row.at;
    const A* const entropy_of_pool = static_cast<const A*>(args.entropy) + row.at;
    std::fill_n(constant_, pools, A(0));
    for (int axis = 0; axis < 3; ++axis) {
      if (args.kernel[axis] == 1) {
        std::fill_n(of_pool_[axis], pools, A(0));
        continue;
      }
      const std::int64_t at = row.phase_at(args, axis);
      const A* phase = static_cast<const A*>(args.phase) + at;
      const A* phase_grad = static_cast<const A*>(args.grad_phase) + at;
      for (std::int64_t k = 0; k < pools; ++k) {
        of_pool_[axis][k] = phase_grad[k];
        constant_[k] = multiply_add(-phase_grad[k], phase[k], constant_[k]);
      }
    }
    // A column that no pool has: E is zero.
    std::fill_n(entropy, columns, std::numeric_limits<A>::max());
    for (A* values : {magnitude, slope, constant, features, rows})
      std::fill_n(values, columns, A(0));
    for (std::int64_t at = 0; at < args.kernel[2]; ++at)
      for_each_pool(args, at, [&](std::int64_t x, std::int64_t k) {
        magnitude[x] = of_pool[k];
        entropy[x] = entropy_of_pool[k];
      });
    for (std::int64_t at = 0; at < args.kernel[2]; ++at)
      for_each_pool(args, at, [&](std::int64_t x, std::int64_t k) {
        const bool less =
            multiply_add(beta, of_pool[k] - magnitude[x], entropy_of_pool[k] - entropy[x]) < A(0);
        magnitude[x] = less ? of_pool[k] : magnitude[x];
        entropy[x] = less ? entropy_of_pool[k] : entropy[x];
      });
    for (std::int64_t at = 0; at < args.kernel[2]; ++at) {
      const A coordinate = phase_coordinate<A>(at, args.kernel[2]);
      for_each_pool(args, at, [&](std::int64_t x, std::int64_t k) {
        const A difference = magnitude[x] - of_pool[k];
        const A u = exp_negative(multiply_add(beta, difference, entropy[x] - entropy_of_pool[k]));
        const A here = multiply_add(of_pool_[2][k], coordinate,
                                    multiply_add(grad[k], difference, constant_[k]));
        slope[x] = multiply_add(u, grad[k], slope[x]);
        constant[x] = multiply_add(u, here, constant[x]);
        features[x] = multiply_add(u, of_pool_[0][k], features[x]);
        rows[x] = multiply_add(u, of_pool_[1][k], rows[x]);
      });
    }
  }

  // Whether any pool has the column. What stands in others concerns no gradient, NaN neither.
  bool is_held(std::int64_t x) const { return entropy[x] != std::numeric_limits<A>::max(); }

  // E and B of an element.
  void terms(std::int64_t x, A z, A beta, A feature, A row, A& e, A& b) const {
    const A difference = z - magnitude[x];
    e = exp_negative(multiply_add(beta, difference, -entropy[x]));
    b = multiply_add(slope[x], difference, constant[x]);
    b = multiply_add(features[x], feature, b);
    b = multiply_add(rows[x], row, b);
  }

  A* const __restrict magnitude;
  A* const __restrict entropy;
  A* const __restrict slope;
  A* const __restrict constant;
  A* const __restrict features;
  A* const __restrict rows;

 private:
  A* const of_pool_[3];  // dL/dp
  A* const constant_;
};

// Items are planes of features. What an element gets from the pools is added up in their order, by
// one thread.
template <class T>
void phase_pool_backward_range(const PhasePoolBackward& args, std::int64_t begin,
                               std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t columns = args.size[2], plane = args.plane(), features = args.size[0];
  Scratch scratch(PoolSlopes<A>::bytes(columns, args.pools[2]));
  PoolSlopes<A> slopes(scratch, columns, args.pools[2]);
  A* const z_grad = static_cast<A*>(args.z_grad);
  std::fill(z_grad + begin * plane, z_grad + end * plane, A(0));
  for (std::int64_t first = begin; first < end;) {  // the planes of one image
    const std::int64_t image = first / features;
    const std::int64_t last = std::min(end, (image + 1) * features);
    const std::int64_t start = image * features * plane;
    const std::int64_t from = first * plane - start, to = last * plane - start;
    const T* const z = static_cast<const T*>(args.z) + start;
    for (std::int64_t group = 0; group < args.pools[0]; ++group) {
      bool any = false;
      for (std::int64_t i = 0; i < args.kernel[0]; ++i) {
        const std::int64_t feature = image * features + args.feature(group, i);
        any = any || (feature >= first && feature < last);
      }
      if (!any) continue;
      const A beta = args.template beta_of<A>(group);
      for (std::int64_t h = 0; h < args.pools[1]; ++h) {
        const PoolRow row(args, image, group, h);
        slopes.find(args, row, beta);
        for_each_map_row(args, row, [&](std::int64_t i, std::int64_t j, std::int64_t offset) {
          if (offset < from || offset >= to) return;
          const A feature = phase_coordinate<A>(i, args.kernel[0]);
          const A line = phase_coordinate<A>(j, args.kernel[1]);
          const T* const value = z + offset;
          A* const grad = z_grad + start + offset;
#pragma GCC ivdep
          for (std::int64_t x = 0; x < columns; ++x) {
            A e, b;
            const A here = slopes.is_held(x) ? A(load(value[x])) : A(0);
            slopes.terms(x, here, beta, feature, line, e, b);
            grad[x] = multiply_add(e, multiply_add(beta, b, slopes.slope[x]), grad[x]);
          }
        });
      }
    }
    first = last;
  }
}

// Items are the rows of pools of all images, each of which has a sum.
template <class T>
void phase_pool_beta_backward_range(const PhasePoolBackward& args, std::int64_t begin,
                                    std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t columns = args.size[2];
  Scratch scratch(PoolSlopes<A>::bytes(columns, args.pools[2]) + Scratch::size<A>(columns));
  PoolSlopes<A> slopes(scratch, columns, args.pools[2]);
  A* const sums = scratch.take<A>(columns);
  for (std::int64_t item = begin; item < end; ++item) {
    const PoolRow row(args, item);
    const A beta = args.template beta_of<A>(row.group);
    slopes.find(args, row, beta);
    std::fill_n(sums, columns, A(0));
    // One of the elements' size, so that little cancels.
    const A first = static_cast<const A*>(args.magnitude)[row.at];
    const A origin = is_finite(first) ? first : A(0);
    const T* const z = static_cast<const T*>(args.z) + row.image * args.size[0] * args.plane();
    for_each_map_row(args, row, [&](std::int64_t i, std::int64_t j, std::int64_t offset) {
      const A feature = phase_coordinate<A>(i, args.kernel[0]);
      const A line = phase_coordinate<A>(j, args.kernel[1]);
      const T* const value = z + offset;
#pragma GCC ivdep
      for (std::int64_t x = 0; x < columns; ++x) {
        const A here = slopes.is_held(x) ? A(load(value[x])) : origin;
        A e, b;
        slopes.terms(x, here, beta, feature, line, e, b);
        sums[x] = multiply_add(e * (here - origin), b, sums[x]);
      }
    });
    double total = 0;
    for (std::int64_t x = 0; x < columns; ++x) total += static_cast<double>(sums[x]);
    static_cast<A*>(args.beta_grad)[item] = static_cast<A>(total);
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
