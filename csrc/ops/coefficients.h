// What the steps of the samplers take beside their states: coefficients and noise, checked.
#pragma once

#include <cmath>
#include <limits>

#include "tensors.h"

namespace gencore {

inline void check_coefficient(const Tensor& values, const Tensor& like, const char* op) {
  const ScalarType wanted =
      like.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(values.scalar_type() == wanted && values.is_contiguous(), op,
                  ": coefficients must be contiguous and of the accumulation dtype");
  STD_TORCH_CHECK(same_device(values, like), op, ": coefficients and x are on different devices");
  STD_TORCH_CHECK(values.numel() > 0 && like.numel() % values.numel() == 0, op,
                  ": coefficients do not divide x");
}

// `run` consecutive elements share an entry; 0 stands for those of a chain, one chain an entry.
inline Coefficient coefficient(const std::optional<Tensor>& values, double number, const Tensor& x,
                               const char* op, std::int64_t run = 0) {
  STD_TORCH_CHECK(number >= 0.0 && std::isfinite(number), op,
                  ": a coefficient must be finite and not negative");
  if (!values || x.numel() == 0) return {nullptr, 1, 1, number};
  check_coefficient(*values, x, op);
  if (run == 0) run = x.numel() / values->numel();
  STD_TORCH_CHECK(run > 0 && x.numel() / values->numel() % run == 0, op,
                  ": the coefficients' runs do not divide x");
  return {values->const_data_ptr(), values->numel(), run, number};
}

// `noise` is contiguous. One of the two is needed unless `unused`.
inline NoiseSource noise_source(const std::optional<Tensor>& noise,
                                const std::optional<Tensor>& key, std::int64_t first_element,
                                bool unused, const Tensor& x, const char* op) {
  STD_TORCH_CHECK(unused || noise || key, op, ": noise or key is needed");
  STD_TORCH_CHECK(first_element >= 0, op, ": first_element must not be negative");
  STD_TORCH_CHECK(x.numel() <= std::numeric_limits<std::int64_t>::max() - first_element, op,
                  ": first_element is too large");
  if (noise) check_matches(*noise, x, op, "noise");
  if (key) check_key(*key, x, op);
  return {data(noise), static_cast<const std::int64_t*>(data(key)), first_element};
}

}  // namespace gencore
