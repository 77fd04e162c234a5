// Sums over all pairs of two point clouds, without a matrix of them.
//
// Rows lie across the lanes of two vector registers. Columns come in panels, packed once a call so
// that each dimension of a panel's columns is in one place. Costs are sums of squared differences:
// exact for near points, wherever they are. Exponents are those of two.
//
// Of D dimensions a pair takes about 2 D + 16 operations, and for the plan's sums 4 D + 20. A block
// of rows reads the columns once: D numbers for kRows pairs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../arguments/soft_minimum.h"
#include "exponential_lanes.h"
#include "lanes.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

inline constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

// Some rows of a batch beside all of its columns.
template <class A>
class PairBlock {
 public:
  using Vector = typename Lanes<A>::Vector;
  static constexpr int kCount = Lanes<A>::count, kRows = 2 * kCount;
  static constexpr int kColumns = kVectorBytes == 64 ? 8 : 4;  // fill half of the registers

  struct Tile {
    Vector at[kColumns][2];
  };

  static std::size_t scratch_size(const PairSums& args) {
    const std::int64_t columns = panels_of(args) * kColumns;
    return Scratch::size<A>(columns * args.dims) + 2 * Scratch::size<A>(columns) +
           Scratch::size<A>(kRows * args.dims);
  }

  PairBlock(const PairSums& args, Scratch& scratch)
      : panels(panels_of(args)),
        unit(Vector{} - static_cast<A>(kLog2E / args.epsilon)),
        args_(args),
        columns_(scratch.take<A>(panels * kColumns * args.dims)),
        logs_(scratch.take<A>(panels * kColumns)),
        factors_(scratch.take<A>(panels * kColumns)),
        rows_(scratch.take<A>(kRows * args.dims)) {}

  // Packs the rows from `begin` on, of one batch and before `end`, and says how many there are.
  std::int64_t pack(std::int64_t begin, std::int64_t end, const A* factors) {
    const std::int64_t batch = begin / args_.rows;
    if (batch != batch_) pack_columns(batch_ = batch, factors);
    const std::int64_t count =
        std::min({std::int64_t{kRows}, end - begin, (batch + 1) * args_.rows - begin});
    const A* const from = static_cast<const A*>(args_.x) + begin * args_.dims;
    for (int r = 0; r < kRows; ++r)  // beyond the last one, that one again
      for (std::int64_t d = 0; d < args_.dims; ++d)
        rows_[d * kRows + r] = from[std::min<std::int64_t>(r, count - 1) * args_.dims + d];
    return count;
  }

  // Those of a panel: v log2 e, c, and the points, of which row d has one number a column.
  const A* logs(std::int64_t panel) const { return logs_ + panel * kColumns; }
  const A* factors(std::int64_t panel) const { return factors_ + panel * kColumns; }
  const A* points(std::int64_t panel) const { return columns_ + panel * kColumns * args_.dims; }
  const A* rows() const { return rows_; }

  // The costs of a panel's pairs.
  template <int kPower>
  inline Tile costs(std::int64_t panel) const {
    const A *column = points(panel), *row = rows_;
    Tile sums = {};
#pragma GCC unroll 2
    for (std::int64_t d = 0; d < args_.dims; ++d, column += kColumns, row += kRows) {
      const Vector left = Lanes<A>::load(row).value, right = Lanes<A>::load(row + kCount).value;
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        const Vector a = left - column[c], b = right - column[c];
        sums.at[c][0] = fused(a, a, sums.at[c][0]);
        sums.at[c][1] = fused(b, b, sums.at[c][1]);
      }
    }
    if constexpr (kPower == 1) {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        sums.at[c][0] = square_root<A>(sums.at[c][0]);
        sums.at[c][1] = square_root<A>(sums.at[c][1]);
      }
    }
    return sums;
  }

  const std::int64_t panels;
  const Vector unit;  // of costs, in exponents of two

 private:
  static std::int64_t panels_of(const PairSums& args) {
    return (args.columns + kColumns - 1) / kColumns;
  }

  // The columns of a batch, and some that weigh nothing to fill the last panel.
  void pack_columns(std::int64_t batch, const A* factors) {
    const A* const from = static_cast<const A*>(args_.y) + batch * args_.columns * args_.dims;
    const A* const logs = static_cast<const A*>(args_.column_logs) + batch * args_.columns;
    for (std::int64_t j = 0; j < panels * kColumns; ++j) {
      const bool exists = j < args_.columns;
      A* const to = columns_ + j / kColumns * kColumns * args_.dims + j % kColumns;
      for (std::int64_t d = 0; d < args_.dims; ++d)
        to[d * kColumns] = exists ? from[j * args_.dims + d] : A(0);
      logs_[j] = exists ? logs[j] * A(kLog2E) : -std::numeric_limits<A>::infinity();
      factors_[j] = exists && factors != nullptr ? factors[batch * args_.columns + j] : A(1);
    }
  }

  const PairSums& args_;
  std::int64_t batch_ = -1;  // whose columns are packed
  A* const columns_;
  A* const logs_;
  A* const factors_;
  A* const rows_;
};

// log2 of sums of powers of two, one a lane. `most` is the largest exponent; where all exponents
// are minus infinity it stays the lowest number, and the sum is empty.
template <class A>
struct RunningLogs {
  using Vector = typename Lanes<A>::Vector;
  static constexpr A kLowest = std::numeric_limits<A>::lowest();
  Vector most = Vector{} + kLowest;
  Vector sum = Vector{};

  inline void raise(Vector to) {
    sum *= power_of_two<A>(most - to);
    most = to;
  }
  void add(RunningLogs other) {
    const Vector both = larger<A>(most, other.most);
    raise(both);
    other.raise(both);
    sum += other.sum;
  }
  A log(int lane) const {
    if (most[lane] == kLowest && sum[lane] == sum[lane]) return -std::numeric_limits<A>::infinity();
    return most[lane] + std::log2(sum[lane]);
  }
};

// Items are rows, of all batches.
template <int kPower, class A>
void soft_minimum_rows(const SoftMinimum& args, std::int64_t begin, std::int64_t end) {
  using Block = PairBlock<A>;
  using Vector = typename Block::Vector;
  constexpr std::int64_t kStretch = 64;  // panels that are added up before they join the sum
  const A unit = static_cast<A>(-args.epsilon * kLn2);
  Scratch scratch(Block::scratch_size(args));
  Block block(args, scratch);
  for (std::int64_t row = begin, count; row < end; row += count) {
    count = block.pack(row, end, nullptr);
    RunningLogs<A> logs[2];
    for (std::int64_t start = 0; start < block.panels; start += kStretch) {
      RunningLogs<A> part[2];
      for (std::int64_t p = start; p < std::min(start + kStretch, block.panels); ++p) {
        typename Block::Tile tile = block.template costs<kPower>(p);
        const A* const column_logs = block.logs(p);
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
          Vector most = part[k].most, sum = {};
#pragma GCC unroll 8
          for (int c = 0; c < Block::kColumns; ++c) {
            tile.at[c][k] = fused(tile.at[c][k], block.unit, Vector{} + column_logs[c]);
            most = larger<A>(most, tile.at[c][k]);
          }
#pragma GCC unroll 8
          for (int c = 0; c < Block::kColumns; ++c) sum += power_of_two<A>(tile.at[c][k] - most);
          part[k].raise(most);
          part[k].sum += sum;
        }
      }
      for (int k = 0; k < 2; ++k) logs[k].add(part[k]);
    }
    A* const out = static_cast<A*>(args.minimum) + row;
    for (std::int64_t r = 0; r < count; ++r)
      out[r] = unit * logs[r / Block::kCount].log(static_cast<int>(r % Block::kCount));
  }
}

template <class A>
void soft_minimum_range(const SoftMinimum& args, std::int64_t begin, std::int64_t end) {
  args.power == 2 ? soft_minimum_rows<2, A>(args, begin, end)
                  : soft_minimum_rows<1, A>(args, begin, end);
}

// Items are rows, of all batches.
template <int kPower, class A>
void plan_sums_rows(const PlanSums& args, std::int64_t begin, std::int64_t end) {
  using Block = PairBlock<A>;
  using Vector = typename Block::Vector;
  constexpr int kRows = Block::kRows, kCount = Block::kCount;
  const std::int64_t terms = args.dims + 1;  // the slopes and the mass
  Scratch scratch(Block::scratch_size(args) + Scratch::size<A>(terms * kRows));
  Block block(args, scratch);
  A* const sums = scratch.take<A>(terms * kRows);
  for (std::int64_t first = begin, count; first < end; first += count) {
    count = block.pack(first, end, static_cast<const A*>(args.factors));
    const A* const from = static_cast<const A*>(args.row_logs) + first;
    Vector row_logs[2] = {};
    for (std::int64_t r = 0; r < count; ++r) row_logs[r / kCount][r % kCount] = from[r] * A(kLog2E);
    std::fill_n(sums, terms * kRows, A(0));
    for (std::int64_t p = 0; p < block.panels; ++p) {
      typename Block::Tile tile = block.template costs<kPower>(p);
      const A *const column_logs = block.logs(p), *const factors = block.factors(p);
      const A *column = block.points(p), *row = block.rows();
      Vector mass[2] = {};
#pragma GCC unroll 8
      for (int c = 0; c < Block::kColumns; ++c)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
          const Vector cost = tile.at[c][k],
                       log = fused(cost, block.unit, Vector{} + column_logs[c]),
                       sum = row_logs[k] + log,
                       exponent = sum > -kLeastExponent<A> ? Vector{} - kLeastExponent<A> : sum;
          const Vector share = exponent < kLeastExponent<A> ? Vector{} : power_of_two<A>(exponent);
          const Vector plan = factors[c] * share;
          mass[k] += plan;
          // The slope of a distance of 0 is 0.
          tile.at[c][k] = kPower == 2 ? plan : cost > A(0) ? plan / cost : Vector{};
        }
      A* sum = sums;
      const auto add = [](A* to, Vector term) {
        Lanes<A>{Lanes<A>::load(to).value + term}.store(to);
      };
#pragma GCC unroll 2
      for (std::int64_t d = 0; d < args.dims; ++d, column += Block::kColumns, row += kRows)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k, sum += kCount) {
          const Vector x = Lanes<A>::load(row + k * kCount).value;
          Vector term = {};
#pragma GCC unroll 8
          for (int c = 0; c < Block::kColumns; ++c)
            term = fused(tile.at[c][k], x - column[c], term);
          add(sum, term);
        }
      add(sum, mass[0]);
      add(sum + kCount, mass[1]);
    }
    A* const slopes = static_cast<A*>(args.slopes) + first * args.dims;
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t d = 0; d < args.dims; ++d)
        slopes[r * args.dims + d] = kPower * sums[d * kRows + r];
    std::copy_n(sums + args.dims * kRows, count, static_cast<A*>(args.masses) + first);
  }
}

template <class A>
void plan_sums_range(const PlanSums& args, std::int64_t begin, std::int64_t end) {
  args.power == 2 ? plan_sums_rows<2, A>(args, begin, end) : plan_sums_rows<1, A>(args, begin, end);
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
