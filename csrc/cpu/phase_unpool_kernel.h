// Phase unpooling. A pool's magnitude goes to two elements along each axis: reads what belongs to
// the pool and adds to at most eight elements, or reads their gradients.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../arguments/phase_pool.h"
#include "../math/phase_pool.h"
#include "../math/storage.h"
#include "phase_pool_kernel.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// Where a pool's phase is, along all axes.
template <class A>
struct PoolCells {
  PhaseCell<A> cell[3];

  template <class T>
  PoolCells(const PhasePools& args, const T* phase, bool clamp, const PoolRow& row,
            std::int64_t k) {
    for (int axis = 0; axis < 3; ++axis)
      cell[axis] = args.kernel[axis] == 1 ? PhaseCell<A>{0, A(0), A(0)}
                                          : phase_cell<A>(load(phase[row.phase_at(args, axis) + k]),
                                                          args.kernel[axis], clamp);
  }

  bool is_nan() const {
    const A any = cell[0].fraction + cell[1].fraction + cell[2].fraction;
    return any != any;
  }
};

// Items are planes of features, which one thread fills: an element's magnitudes are added up in the
// order of their pools.
template <class T>
void phase_unpool_range(const PhaseUnpool& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t plane = args.plane(), features = args.size[0];
  const T* const magnitude = static_cast<const T*>(args.magnitude);
  const T* const phase = static_cast<const T*>(args.phase);
  A* const out = static_cast<A*>(args.out);
  Scratch scratch(Scratch::size<A*>(args.kernel[0]));
  A** const planes = scratch.take<A*>(args.kernel[0]);  // of a group; null where not in the range
  std::fill(out + begin * plane, out + end * plane, A(0));
  for (std::int64_t first = begin; first < end;) {  // the planes of one image
    const std::int64_t image = first / features;
    const std::int64_t last = std::min(end, (image + 1) * features);
    for (std::int64_t group = 0; group < args.pools[0]; ++group) {
      bool any = false;
      for (std::int64_t i = 0; i < args.kernel[0]; ++i) {
        const std::int64_t feature = image * features + args.feature(group, i);
        const bool held = feature >= first && feature < last;
        planes[i] = held ? out + feature * plane : nullptr;
        any = any || held;
      }
      if (!any) continue;
      for (std::int64_t h = 0; h < args.pools[1]; ++h) {
        const PoolRow row(args, image, group, h);
        const std::int64_t top = h * args.stride[1] - args.padding[1];
        for (std::int64_t k = 0; k < args.pools[2]; ++k) {
          const PoolCells<A> cells(args, phase, args.clamp, row, k);
          const A value = load(magnitude[row.at + k]);
          const std::int64_t left = k * args.stride[2] - args.padding[2];
          const auto add = [&](std::int64_t i, std::int64_t j, std::int64_t l, A share) {
            const std::int64_t y = top + j, x = left + l;
            if (i >= 0 && i < args.kernel[0] && j >= 0 && j < args.kernel[1] && l >= 0 &&
                l < args.kernel[2] && y >= 0 && y < args.size[1] && x >= 0 && x < args.size[2] &&
                planes[i] != nullptr)
              planes[i][y * args.size[2] + x] += share;
          };
          if (cells.is_nan()) {
            for (std::int64_t i = 0; i < args.kernel[0]; ++i)
              for (std::int64_t j = 0; j < args.kernel[1]; ++j)
                for (std::int64_t l = 0; l < args.kernel[2]; ++l)
                  add(i, j, l, std::numeric_limits<A>::quiet_NaN());
            continue;
          }
          const PhaseCell<A>* c = cells.cell;
          for (int i = 0; i < (args.kernel[0] > 1 ? 2 : 1); ++i) {
            const A of_feature = value * (i == 0 ? A(1) - c[0].fraction : c[0].fraction);
            for (int j = 0; j < (args.kernel[1] > 1 ? 2 : 1); ++j) {
              const A of_row = of_feature * (j == 0 ? A(1) - c[1].fraction : c[1].fraction);
              for (int l = 0; l < (args.kernel[2] > 1 ? 2 : 1); ++l)
                add(c[0].near + i, c[1].near + j, c[2].near + l,
                    of_row * (l == 0 ? A(1) - c[2].fraction : c[2].fraction));
            }
          }
        }
      }
    }
    first = last;
  }
}

// Items are the rows of pools of all images.
template <class T>
void phase_unpool_backward_range(const PhaseUnpoolBackward& args, std::int64_t begin,
                                 std::int64_t end) {
  using A = accumulate_t<T>;
  const T* const magnitude = static_cast<const T*>(args.magnitude);
  const T* const phase = static_cast<const T*>(args.phase);
  for (std::int64_t item = begin; item < end; ++item) {
    const PoolRow row(args, item);
    const T* const grad =
        static_cast<const T*>(args.grad_out) + row.image * args.size[0] * args.plane();
    const std::int64_t top = row.row * args.stride[1] - args.padding[1];
    for (std::int64_t k = 0; k < args.pools[2]; ++k) {
      const PoolCells<A> cells(args, phase, args.clamp, row, k);
      const PhaseCell<A>* c = cells.cell;
      const std::int64_t left = k * args.stride[2] - args.padding[2];
      A corner[2][2][2];
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j)
          for (int l = 0; l < 2; ++l) {
            const std::int64_t place =
                args.place(row.group, top, left, c[0].near + i, c[1].near + j, c[2].near + l);
            corner[i][j][l] = place < 0 ? A(0) : load(grad[place]);
          }
      A slope[3];
      const A share = phase_cell_gradient(corner, c, slope);
      static_cast<T*>(args.magnitude_grad)[row.at + k] = store<T>(share);
      const A value = load(magnitude[row.at + k]);
      for (int axis = 0; axis < 3; ++axis)
        if (args.kernel[axis] > 1)
          static_cast<T*>(args.phase_grad)[row.phase_at(args, axis) + k] =
              store<T>(value * slope[axis]);
    }
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
