// The energy of a small network and its gradient, for a block of chains held in cache.
//
// Chains lie across the lanes of vector registers: every array of the block is [units][kChains], so
// a layer is a loop of broadcast weights times vectors of chains, and a chain's arithmetic does not
// depend on which block it is in. Weights are repacked once a call, so that the rows of a panel,
// which stay in registers, are neighbours in memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../arguments/mlp.h"
#include "../math/activation.h"
#include "lanes.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A>
class MlpBlock {
 public:
  static constexpr int kChains = 2 * Lanes<A>::count;

  static std::size_t scratch_size(const Mlp& mlp) {
    std::size_t bytes = 2 * Scratch::size<A>(widest(mlp) * kChains);
    for (int l = 0; l < mlp.layers; ++l) {
      bytes += 2 * Scratch::size<A>(mlp.widths[l] * mlp.widths[l + 1]);
      bytes += Scratch::size<A>(mlp.widths[l + 1] * kChains);
    }
    return bytes;
  }

  MlpBlock(const Mlp& mlp, Scratch& scratch) : mlp_(mlp) {
    for (A*& buffer : buffers_) buffer = scratch.take<A>(widest(mlp) * kChains);
    for (int l = 0; l < mlp.layers; ++l) {
      const std::int64_t in = mlp.widths[l], out = mlp.widths[l + 1];
      slopes_[l] = scratch.take<A>(out * kChains);
      forward_[l] = scratch.take<A>(in * out);
      backward_[l] = scratch.take<A>(in * out);
      const A* weight = static_cast<const A*>(mlp.weights[l]);
      pack(weight, out, in, in, 1, forward_[l]);
      pack(weight, in, out, 1, in, backward_[l]);
    }
  }

  // grad[d][chain] = dE/dx[d], and E of every chain unless `energy` is null. The prior is the
  // caller's.
  void gradient(const A* x, A* grad, A* energy) const {
    if (mlp_.layers == 0) {
      for (std::int64_t k = 0; k < mlp_.widths[0] * kChains; ++k) grad[k] = A(0);
      for (int k = 0; k < kChains && energy != nullptr; ++k) energy[k] = A(0);
      return;
    }
    switch (mlp_.activation) {
      case Activation::kSilu:
        return evaluate<Activation::kSilu>(x, grad, energy);
      case Activation::kSoftplus:
        return evaluate<Activation::kSoftplus>(x, grad, energy);
      case Activation::kTanh:
        return evaluate<Activation::kTanh>(x, grad, energy);
      case Activation::kLeakyRelu:
        return evaluate<Activation::kLeakyRelu>(x, grad, energy);
    }
  }

 private:
  using Vector = Lanes<A>;
  // Rows of a panel: with two vectors of chains to a row, its sums fill half the registers.
  static constexpr int kRows = kVectorBytes == 64 ? 8 : 4;

  static std::int64_t widest(const Mlp& mlp) {
    std::int64_t widest = 1;
    for (int l = 0; l <= mlp.layers; ++l)
      if (mlp.widths[l] > widest) widest = mlp.widths[l];
    return widest;
  }

  // Panels of [columns][width] one after the other, of the matrix with the given strides.
  static void pack(const A* matrix, std::int64_t rows, std::int64_t columns,
                   std::int64_t row_stride, std::int64_t column_stride, A* out) {
    for_each_panel<kRows>(rows, [&](auto width, std::int64_t first) {
      for (std::int64_t j = 0; j < columns; ++j)
        for (int r = 0; r < width; ++r)
          *out++ = matrix[(first + r) * row_stride + j * column_stride];
    });
  }

  // out[r] = bias[r] + sum_j panel[j][r] in[j]
  template <int kWidth>
  static void multiply_panel(const A* panel, std::int64_t columns, const A* in, const A* bias,
                             A* out) {
    Vector sums[kWidth][2];
    for (int r = 0; r < kWidth; ++r)
      sums[r][0] = sums[r][1] = Vector::fill(bias == nullptr ? A(0) : bias[r]);
    for (std::int64_t j = 0; j < columns; ++j, panel += kWidth, in += kChains) {
      const Vector left = Vector::load(in), right = Vector::load(in + Vector::count);
#pragma GCC unroll 8
      for (int r = 0; r < kWidth; ++r) {
        const Vector weight = Vector::fill(panel[r]);
        sums[r][0] = Vector::multiply_add(weight, left, sums[r][0]);
        sums[r][1] = Vector::multiply_add(weight, right, sums[r][1]);
      }
    }
    for (int r = 0; r < kWidth; ++r, out += kChains) {
      sums[r][0].store(out);
      sums[r][1].store(out + Vector::count);
    }
  }

  // Calls then(first element, number of elements) for each panel of the product as it is ready.
  template <class Then>
  static void multiply(const A* packed, std::int64_t rows, std::int64_t columns, const A* in,
                       const A* bias, A* out, Then then) {
    for_each_panel<kRows>(rows, [&](auto width, std::int64_t first) {
      multiply_panel<width>(packed + first * columns, columns, in,
                            bias == nullptr ? nullptr : bias + first, out + first * kChains);
      then(first * kChains, width * kChains);
    });
  }

  template <Activation kind>
  void evaluate(const A* x, A* grad, A* energy) const {
    const int last = mlp_.layers - 1;
    const A negative_slope = static_cast<A>(mlp_.negative_slope);
    const A* in = x;
    for (int l = 0; l < last; ++l) {
      A* const out = buffers_[l % 2];
      A* const slope = slopes_[l];
      multiply(forward_[l], mlp_.widths[l + 1], mlp_.widths[l], in,
               static_cast<const A*>(mlp_.biases[l]), out, [=](std::int64_t from, int count) {
                 A* const __restrict values = out + from;
                 A* const __restrict slopes = slope + from;
                 for (int k = 0; k < count; ++k) {
                   const Activated<A> unit = activate<kind>(values[k], negative_slope);
                   values[k] = unit.value;
                   slopes[k] = unit.slope;
                 }
               });
      in = out;
    }
    if (energy != nullptr)
      multiply(forward_[last], 1, mlp_.widths[last], in, static_cast<const A*>(mlp_.biases[last]),
               energy, [](std::int64_t, int) {});

    // The gradient in the last hidden layer is the last weight itself.
    const A* const weight = static_cast<const A*>(mlp_.weights[last]);
    A* const top = last == 0 ? grad : buffers_[last % 2];
    for (std::int64_t unit = 0; unit < mlp_.widths[last]; ++unit)
      for (int k = 0; k < kChains; ++k) {
        const std::int64_t at = unit * kChains + k;
        top[at] = last == 0 ? weight[unit] : weight[unit] * slopes_[last - 1][at];
      }
    const A* above = top;
    for (int l = last - 1; l >= 0; --l) {
      A* const out = l == 0 ? grad : buffers_[l % 2];
      const A* const slope = l == 0 ? nullptr : slopes_[l - 1];
      multiply(backward_[l], mlp_.widths[l], mlp_.widths[l + 1], above, nullptr, out,
               [=](std::int64_t from, int count) {
                 if (slope == nullptr) return;
                 for (int k = 0; k < count; ++k) out[from + k] *= slope[from + k];
               });
      above = out;
    }
  }

  const Mlp& mlp_;
  A* buffers_[2];
  A* slopes_[kMaxMlpLayers];
  A* forward_[kMaxMlpLayers];
  A* backward_[kMaxMlpLayers];
};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
