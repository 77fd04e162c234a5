// The energy of a small network and its gradient, for a tile of chains held in shared memory.
//
// Every array of the tile is [units][chains], chains a power of two. A thread owns two neighbouring
// chains and computes four units at a time, so that eight products follow each pair of loads:
// weights come through the cache, four at a time where their rows are aligned, activations from
// shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../arguments/mlp.h"
#include "../math/activation.h"
#include "elementwise.cuh"
#include "launch.cuh"

namespace gencore::cuda {

// Two neighbouring chains' values.
template <class A>
struct alignas(2 * sizeof(A)) Pair {
  A value[2];
};

// Where the network's arrays lie in shared memory, counted in elements. Made by the host and passed
// to the kernel: an array that a thread makes and indexes at run time would be in local memory.
struct TileLayout {
  int chains;
  int widest;
  int slopes[kMaxMlpLayers];
  int buffers[2];
  int free = 0;  // the first element behind

  TileLayout(const Mlp& mlp, int chains) : chains(chains), widest(1) {
    for (int l = 0; l <= mlp.layers; ++l)
      if (mlp.widths[l] > widest) widest = static_cast<int>(mlp.widths[l]);
    buffers[0] = take(widest);
    buffers[1] = take(widest);
    for (int l = 0; l + 1 < mlp.layers; ++l) slopes[l] = take(mlp.widths[l + 1]);
  }

 private:
  int take(std::int64_t units) {
    const int at = free;
    free += static_cast<int>(units) * chains;
    return at;
  }
};

template <class A>
class MlpTile {
 public:
  __device__ MlpTile(const Mlp& mlp, const TileLayout& layout, A* shared)
      : mlp_(mlp),
        layout_(layout),
        shared_(shared),
        chains_(layout.chains),
        chain_(2 * (thread() % (layout.chains / 2))),
        group_(thread() / (layout.chains / 2)),
        groups_(threads() / (layout.chains / 2)) {}

  // grad[d][chain] = dE/dx[d], and E of every chain unless `energy` is null, both in shared memory;
  // the prior is the caller's. All threads of the block call it; x is ready, and the results are
  // when it returns.
  __device__ void gradient(const A* x, A* grad, A* energy) const {
    const int last = mlp_.layers - 1;
    if (last < 0) {
      for (int k = thread(); k < width(0) * chains_; k += threads()) grad[k] = A(0);
      if (energy != nullptr && thread() < chains_) energy[thread()] = A(0);
      __syncthreads();
      return;
    }
    const A negative_slope = static_cast<A>(mlp_.negative_slope);
    const A* in = x;
    for (int l = 0; l < last; ++l) {
      A* const out = shared_ + layout_.buffers[l % 2];
      A* const slopes = shared_ + layout_.slopes[l];
      multiply<true>(weight(l), width(l + 1), width(l), in, bias(l), [&](int at, A z) {
        const Activated<A> unit = activated(z, negative_slope);
        out[at] = unit.value;
        slopes[at] = unit.slope;
      });
      __syncthreads();
      in = out;
    }
    if (energy != nullptr) {
      const A* const top = weight(last);
      sum(width(last), [&](int unit, int c) { return top[unit] * in[unit * chains_ + c]; }, energy);
      if (thread() < chains_) energy[thread()] += bias(last)[0];
      __syncthreads();
    }
    // The gradient in the last hidden layer is the last weight itself.
    A* above = last == 0 ? grad : shared_ + layout_.buffers[last % 2];
    const A* const slopes = last == 0 ? nullptr : shared_ + layout_.slopes[last - 1];
    for (int k = thread(); k < width(last) * chains_; k += threads())
      above[k] =
          slopes == nullptr ? weight(last)[k / chains_] : weight(last)[k / chains_] * slopes[k];
    __syncthreads();
    for (int l = last - 1; l >= 0; --l) {
      A* const out = l == 0 ? grad : shared_ + layout_.buffers[l % 2];
      const A* const below = l == 0 ? nullptr : shared_ + layout_.slopes[l - 1];
      multiply<false>(weight(l), width(l), width(l + 1), above, nullptr,
                      [&](int at, A z) { out[at] = below == nullptr ? z : z * below[at]; });
      __syncthreads();
      above = out;
    }
  }

  // result[chain] = sum over units of term(unit, chain), by all threads of the block, through the
  // buffer that holds no activations of the last hidden layer. The order is fixed by the shape of
  // the block.
  template <class Term>
  __device__ void sum(int units, Term term, A* result) const {
    A* const partial = shared_ + layout_.buffers[(mlp_.layers + 1) % 2];
    A first = A(0), second = A(0);
    for (int unit = group_; unit < units; unit += groups_) {
      first += term(unit, chain_);
      second += term(unit, chain_ + 1);
    }
    const bool is_used = group_ < layout_.widest;
    if (is_used) {
      partial[group_ * chains_ + chain_] = first;
      partial[group_ * chains_ + chain_ + 1] = second;
    }
    __syncthreads();
    if (thread() < chains_) {
      const int filled = groups_ < layout_.widest ? groups_ : layout_.widest;
      A total = A(0);
      for (int g = 0; g < filled; ++g) total += partial[g * chains_ + thread()];
      result[thread()] = total;
    }
    __syncthreads();
  }

 private:
  __device__ int width(int l) const { return static_cast<int>(mlp_.widths[l]); }
  __device__ static int threads() { return static_cast<int>(blockDim.x); }
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ const A* weight(int l) const { return static_cast<const A*>(mlp_.weights[l]); }
  __device__ const A* bias(int l) const { return static_cast<const A*>(mlp_.biases[l]); }

  __device__ Activated<A> activated(A z, A negative_slope) const {
    switch (mlp_.activation) {
      case Activation::kSilu:
        return activate<Activation::kSilu>(z, negative_slope);
      case Activation::kSoftplus:
        return activate<Activation::kSoftplus>(z, negative_slope);
      case Activation::kTanh:
        return activate<Activation::kTanh>(z, negative_slope);
      default:
        return activate<Activation::kLeakyRelu>(z, negative_slope);
    }
  }

  // Calls then(row * chains + chain, bias[row] + sum_j m(row, j) in[j][chain]) for every row, where
  // m is the matrix [rows][columns], or the transpose of the matrix [columns][rows].
  template <bool kByRows, class Then>
  __device__ __forceinline__ void multiply(const A* matrix, int rows, int columns, const A* in,
                                           const A* bias, Then then) const {
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(matrix) % alignof(Quad<A>) == 0 &&
                            (kByRows ? columns : rows) % 4 == 0;
    for (int row = 4 * group_; row < rows; row += 4 * groups_) {
      const int used = rows - row < 4 ? static_cast<int>(rows - row) : 4;
      A sums[4][2];
#pragma unroll
      for (int r = 0; r < 4; ++r)
        sums[r][0] = sums[r][1] = bias == nullptr || r >= used ? A(0) : bias[row + r];
      const auto add = [&](const A(&weights)[4], int j) {
        const Pair<A> x = *reinterpret_cast<const Pair<A>*>(in + j * chains_ + chain_);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int c = 0; c < 2; ++c) sums[r][c] = multiply_add(weights[r], x.value[c], sums[r][c]);
      };
      if (kByRows && is_aligned) {
        for (int j = 0; j < columns; j += 4) {
          Quad<A> quads[4];
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            const int source = row + (r < used ? r : 0);
            quads[r] = *reinterpret_cast<const Quad<A>*>(matrix + source * columns + j);
          }
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const A weights[4] = {quads[0].value[k], quads[1].value[k], quads[2].value[k],
                                  quads[3].value[k]};
            add(weights, j + k);
          }
        }
      } else if (!kByRows && is_aligned) {
        for (int j = 0; j < columns; ++j)
          add(reinterpret_cast<const Quad<A>*>(matrix + j * rows + row)->value, j);
      } else {
        for (int j = 0; j < columns; ++j) {
          A weights[4];
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            const int source = row + (r < used ? r : 0);
            weights[r] = matrix[kByRows ? source * columns + j : j * rows + source];
          }
          add(weights, j);
        }
      }
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          if (r < used) then((row + r) * chains_ + chain_ + c, sums[r][c]);
    }
  }

  const Mlp& mlp_;
  const TileLayout& layout_;
  A* shared_;
  int chains_, chain_, group_, groups_;
};

}  // namespace gencore::cuda
