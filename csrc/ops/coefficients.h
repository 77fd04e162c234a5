// What the steps of the samplers take beside their states: coefficients and noise, checked.
#pragma once

#include <limits>

#include "tensors.h"

// What a leapfrog step needs beside its tensors: step sizes [N], inverse masses [1 or N, 1 or D],
// and the numbers in force where they are missing.
#define GENCORE_LEAPFROG_COEFFICIENTS \
  "Tensor? step_sizes, Tensor? inverse_masses, float step_size, float inverse_mass"

namespace gencore {

// The rows of x.
struct Chains {
  std::int64_t count;
  std::int64_t size;

  Chains(const char* op, const Tensor& x) {
    STD_TORCH_CHECK(x.dim() > 0, op, ": there is no dimension of chains");
    count = x.size(0);
    size = count > 0 ? x.numel() / count : 0;
  }
};

// `values` is [1 or N, 1 or D], or shorter by trailing ones.
inline Coefficient coefficient(const char* op, const std::optional<Tensor>& values, double number,
                               const Tensor& x, std::int64_t chains, std::int64_t chain_size) {
  if (!values || x.numel() == 0) return {nullptr, number, 0, 0};
  STD_TORCH_CHECK(values->scalar_type() == accumulation_type(x) && values->is_contiguous(), op,
                  ": coefficients must be contiguous and of the accumulation dtype");
  STD_TORCH_CHECK(same_device(*values, x), op, ": coefficients and x are on different devices");
  STD_TORCH_CHECK(values->dim() <= 2, op, ": coefficients must have at most two dimensions");
  const std::int64_t rows = values->dim() > 0 ? values->size(0) : 1;
  const std::int64_t columns = values->dim() > 1 ? values->size(1) : 1;
  STD_TORCH_CHECK((rows == 1 || rows == chains) && (columns == 1 || columns == chain_size), op,
                  ": coefficients do not fit the chains of x");
  return {values->const_data_ptr(), number, rows == 1 ? 0 : columns, columns == 1 ? 0 : 1};
}

// `noise` is contiguous. One of the two is needed unless nothing is drawn.
inline NoiseSource noise_source(const char* op, const std::optional<Tensor>& noise,
                                const std::optional<Tensor>& key, std::int64_t first_element,
                                bool needed, const Tensor& x) {
  STD_TORCH_CHECK(!needed || noise || key, op, ": noise or key is needed");
  STD_TORCH_CHECK(first_element >= 0, op, ": first_element must not be negative");
  STD_TORCH_CHECK(x.numel() <= std::numeric_limits<std::int64_t>::max() - first_element, op,
                  ": first_element is too large");
  if (noise) check_matches(*noise, x, op, "noise");
  if (key) check_key(*key, x, op);
  return {data(noise), static_cast<const std::int64_t*>(data(key)), first_element};
}

}  // namespace gencore
