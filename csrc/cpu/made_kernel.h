// The inverse of an autoregressive layer: coordinates one after the other, for a block of
// samples that lie across the lanes of vector registers.
//
// Every array of the block is [units][samples]. Hidden units are in the order of their degrees, so
// that those which a new coordinate completes are neighbours: each is computed once, from the units
// that are known by then, and what a mask would remove is not read. A sample costs about half the
// network's products, a block half of its weights from the second-level cache. A sample's
// arithmetic does not depend on the block it is in.
#pragma once

#include <algorithm>

#include "../arguments/made.h"
#include "../math/made.h"
#include "../math/storage.h"
#include "lanes.h"
#include "mlp_block.h"
#include "spline_block.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// kVectors registers of samples.
template <class A, int kVectors>
class MadeBlock {
 public:
  static constexpr int kSamples = kVectors * Lanes<A>::count;

  static std::size_t scratch_size(const MadeInverse& args) {
    std::size_t bytes = Scratch::size<A>(args.features() * kSamples);
    for (int l = 0; l < args.hidden_layers(); ++l)
      bytes += Scratch::size<A>(args.mlp.widths[l + 1] * kSamples);
    return bytes + Scratch::size<A>(args.outputs() * kSamples);
  }

  MadeBlock(const MadeInverse& args, Scratch& scratch, SplineBlock<A>& splines)
      : args_(args), splines_(splines) {
    for (int l = 0; l <= args.hidden_layers(); ++l)
      values_[l] = scratch.take<A>(args.mlp.widths[l] * kSamples);
    outputs_ = scratch.take<A>(args.outputs() * kSamples);
  }

  template <class T>
  void run(std::int64_t first, std::int64_t count) const {
    for (int l = 0; l <= args_.hidden_layers(); ++l)
      spread(l == 0 ? nullptr : static_cast<const A*>(args_.mlp.biases[l - 1]), args_.mlp.widths[l],
             values_[l]);
    add_rows(static_cast<const T*>(args_.z), args_.features(), first, count, values_[0]);
    if (args_.context_term != nullptr)
      add_rows(static_cast<const A*>(args_.context_term), args_.mlp.widths[1], first, count,
               values_[1]);
    double log_det[kSamples] = {};
    for (std::int64_t i = 0; i < args_.features(); ++i) {
      for (int l = 0; l < args_.hidden_layers(); ++l) complete(l, i);
      solve(i, log_det);
    }
    T* const x = static_cast<T*>(args_.x) + first * args_.features();
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t i = 0; i < args_.features(); ++i)
        x[c * args_.features() + i] = store<T>(values_[0][i * kSamples + c]);
    for (std::int64_t c = 0; c < count; ++c)
      static_cast<A*>(args_.log_det)[first + c] = static_cast<A>(log_det[c]);
  }

 private:
  using Vector = Lanes<A>;
  // Rows of a panel, so that its sums fill half the registers.
  static constexpr int kRegisters = kVectorBytes == 64 ? 32 : 16;
  static constexpr int kRows = kRegisters / 2 / kVectors < 8 ? kRegisters / 2 / kVectors : 8;

  // to[r][c] = values[r], or zero for null.
  static void spread(const A* values, std::int64_t width, A* to) {
    for (std::int64_t r = 0; r < width; ++r)
      for (int c = 0; c < kSamples; ++c)
        to[r * kSamples + c] = values == nullptr ? A(0) : values[r];
  }
  // to[r][c] += rows[first + c][r]
  template <class T>
  static void add_rows(const T* rows, std::int64_t width, std::int64_t first, std::int64_t count,
                       A* to) {
    for (std::int64_t c = 0; c < count; ++c)
      for (std::int64_t r = 0; r < width; ++r)
        to[r * kSamples + c] += load(rows[(first + c) * width + r]);
  }

  // to[r] += sum_j weight[r][j] in[j] for `rows` rows, panel by panel.
  template <int kWidth = kRows>
  static void add_products(const A* weight, std::int64_t stride, std::int64_t rows,
                           std::int64_t columns, const A* in, A* to) {
    for (; rows >= kWidth; rows -= kWidth, weight += kWidth * stride, to += kWidth * kSamples) {
      Vector sums[kWidth][kVectors];
      for (int r = 0; r < kWidth; ++r)
        for (int v = 0; v < kVectors; ++v)
          sums[r][v] = Vector::load(to + r * kSamples + v * Vector::count);
      const A* at = in;
      for (std::int64_t j = 0; j < columns; ++j, at += kSamples) {
        Vector x[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) x[v] = Vector::load(at + v * Vector::count);
#pragma GCC unroll 8
        for (int r = 0; r < kWidth; ++r) {
          const Vector w = Vector::fill(weight[r * stride + j]);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) sums[r][v] = Vector::multiply_add(w, x[v], sums[r][v]);
        }
      }
      for (int r = 0; r < kWidth; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v].store(to + r * kSamples + v * Vector::count);
    }
    if constexpr (kWidth > 1)
      if (rows > 0) add_products<kWidth / 2>(weight, stride, rows, columns, in, to);
  }

  // The units of hidden layer l of degree `degree`, for which `degree` coordinates are known.
  void complete(int l, std::int64_t degree) const {
    const std::int64_t from = args_.units(l, degree - 1), rows = args_.units(l, degree) - from;
    if (rows <= 0) return;
    const std::int64_t inputs = args_.mlp.widths[l];
    A* const to = values_[l + 1] + from * kSamples;
    add_products(static_cast<const A*>(args_.mlp.weights[l]) + from * inputs, inputs, rows,
                 l == 0 ? degree : args_.units(l - 1, degree), values_[l], to);
    switch (args_.mlp.activation) {
      case Activation::kSilu:
        return apply<Activation::kSilu>(to, rows * kSamples);
      case Activation::kSoftplus:
        return apply<Activation::kSoftplus>(to, rows * kSamples);
      case Activation::kTanh:
        return apply<Activation::kTanh>(to, rows * kSamples);
      case Activation::kLeakyRelu:
        return apply<Activation::kLeakyRelu>(to, rows * kSamples);
    }
  }

  template <Activation kind>
  void apply(A* __restrict values, std::int64_t count) const {
    const A negative_slope = static_cast<A>(args_.mlp.negative_slope);
    for (std::int64_t k = 0; k < count; ++k)
      values[k] = activate<kind>(values[k], negative_slope).value;
  }

  void solve(std::int64_t i, double* log_det) const {
    const int last = args_.hidden_layers();
    const std::int64_t inputs = args_.mlp.widths[last], row = args_.first_row(i);
    const std::int64_t outputs = args_.outputs(), stride = args_.row_stride();
    const A* const bias = static_cast<const A*>(args_.mlp.biases[last]) + row;
    for (std::int64_t p = 0; p < outputs; ++p)
      for (int c = 0; c < kSamples; ++c) outputs_[p * kSamples + c] = bias[p * stride];
    add_products(static_cast<const A*>(args_.mlp.weights[last]) + row * inputs, stride * inputs,
                 outputs, args_.units(last - 1, i), values_[last], outputs_);
    A* const x = values_[0] + i * kSamples;
    alignas(64) A slopes[kSamples];  // log dx/dz
    if (args_.is_spline())
      invert_splines(x, slopes);
    else
      invert_affine(x, slopes);
    for (int c = 0; c < kSamples; ++c) log_det[c] += static_cast<double>(slopes[c]);
  }

  void invert_affine(A* x, A* log_slopes) const {
    const A bound = static_cast<A>(args_.bound);
    const bool is_gate = args_.step == AutoregressiveStep::kGate;
    for (int c = 0; c < kSamples; ++c) {
      const A shift = outputs_[c], s = within_bound(outputs_[kSamples + c], bound);
      const SolvedCoordinate<A> solved =
          is_gate ? solve_gate(x[c], shift, s) : solve_exponential(x[c], shift, s);
      x[c] = solved.value;
      log_slopes[c] = solved.log_slope;
    }
  }

  void invert_splines(A* x, A* log_slopes) const {
    const std::int64_t bins = args_.spline.bins;
    for (std::int64_t at = 0; at < kSamples;) {
      const std::int64_t count = std::min<std::int64_t>(splines_.room(), kSamples - at);
      const auto from = [&](std::int64_t row) {
        return RawParameters<A>{outputs_ + row * kSamples + at, 1, kSamples};
      };
      splines_.read(x + at, from(0), from(bins), from(2 * bins), count);
      for (std::int64_t k = 0; k < count; ++k) {
        const SplineValue solved = splines_.template map<true>(k);
        x[at + k] = static_cast<A>(solved.value);
        log_slopes[at + k] = static_cast<A>(solved.slope);
      }
      at += count;
    }
    for (int c = 0; c < kSamples; ++c) log_slopes[c] = -log_slope(log_slopes[c]);
  }

  const MadeInverse& args_;
  SplineBlock<A>& splines_;
  A* values_[kMaxMlpLayers];  // the coordinates, known or to be found, and the hidden units
  A* outputs_;                // of one coordinate
};

// Samples [begin, end). A block of four registers reuses a weight most; one register wastes the
// fewest lanes on a few samples.
template <class T>
void made_inverse_range(const MadeInverse& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  SplineBlock<A> splines(args.spline, true);
  const auto blocks = [&](auto vectors) {
    using Block = MadeBlock<A, vectors>;
    constexpr std::int64_t kFewest = vectors == 1 ? 1 : Block::kSamples / 2 + 1;
    if (end - begin < kFewest) return;
    Scratch scratch(Block::scratch_size(args));
    const Block block(args, scratch, splines);
    while (end - begin >= kFewest) {
      const std::int64_t count = end - begin < Block::kSamples ? end - begin : Block::kSamples;
      block.template run<T>(begin, count);
      begin += count;
    }
  };
  blocks(std::integral_constant<int, 4>{});
  blocks(std::integral_constant<int, 2>{});
  blocks(std::integral_constant<int, 1>{});
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
