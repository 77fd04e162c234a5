// The settings that every Langevin schema shares, checked and in the kernels' form.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "../arguments/langevin.h"
#include "tensors.h"

// What a Langevin step needs beside its tensors, in the order of every schema of the family.
#define GENCORE_LANGEVIN_SETTINGS                                                 \
  "Tensor? key, Tensor? step_sizes, Tensor? noise_scales, float step_size, "      \
  "float noise_scale, float prior_precision, float grad_clamp, float clamp_min, " \
  "float clamp_max, int first_element"

// The same as the parameters of an implementation, and the struct made of them.
#define GENCORE_LANGEVIN_PARAMETERS                                                             \
  OptionalTensor key, OptionalTensor step_sizes, OptionalTensor noise_scales, double step_size, \
      double noise_scale, double prior_precision, double grad_clamp, double clamp_min,          \
      double clamp_max, std::int64_t first_element
#define GENCORE_LANGEVIN_GIVEN                                                       \
  {key,        step_sizes, noise_scales, step_size,    noise_scale, prior_precision, \
   grad_clamp, clamp_min,  clamp_max,    first_element}

namespace gencore {

// The arguments that the schemas of the family share, in their order there.
struct LangevinSettings {
  OptionalTensor key;
  OptionalTensor step_sizes;
  OptionalTensor noise_scales;
  double step_size;
  double noise_scale;
  double prior_precision;
  double grad_clamp;
  double clamp_min;
  double clamp_max;
  std::int64_t first_element;
};

inline void check_langevin_scalars(const char* op, double step_size, double noise_scale) {
  STD_TORCH_CHECK(step_size >= 0.0 && std::isfinite(step_size), op,
                  ": step_size must be finite and not negative");
  STD_TORCH_CHECK(noise_scale >= 0.0 && std::isfinite(noise_scale), op,
                  ": noise_scale must be finite and not negative");
}

inline const void* per_chain(const OptionalTensor& values, const Tensor& like, const char* op) {
  if (!values) return nullptr;
  const ScalarType wanted =
      like.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(values->scalar_type() == wanted && values->is_contiguous(), op,
                  ": per-chain coefficients must be contiguous and of the accumulation dtype");
  STD_TORCH_CHECK(same_device(*values, like), op,
                  ": per-chain coefficients and x are on different devices");
  STD_TORCH_CHECK(values->numel() > 0 && like.numel() % values->numel() == 0, op,
                  ": per-chain coefficients do not divide x into chains");
  return values->const_data_ptr();
}

// `like` stands for x where x itself is not needed.
template <class Arguments>
Arguments langevin_arguments(const char* op, const Tensor& like, const OptionalTensor& x,
                             const OptionalTensor& grad, const OptionalTensor& noise,
                             const LangevinSettings& s) {
  check_langevin_scalars(op, s.step_size, s.noise_scale);
  STD_TORCH_CHECK(s.first_element >= 0, op, ": first_element must not be negative");
  STD_TORCH_CHECK(like.numel() <= std::numeric_limits<std::int64_t>::max() - s.first_element, op,
                  ": first_element is too large");
  if (x) check_matches(*x, like, op, "x");
  if (grad) check_matches(*grad, like, op, "grad");
  if (noise) check_matches(*noise, like, op, "noise");
  if (s.key) check_key(*s.key, like, op);
  Arguments args{};
  args.dtype = dtype_of(like, op);
  args.numel = like.numel();
  args.x = data(x);
  args.grad = data(grad);
  args.noise = {data(noise),
                s.key ? static_cast<const std::int64_t*>(s.key->const_data_ptr()) : nullptr,
                s.first_element};
  args.step_sizes = args.numel > 0 ? per_chain(s.step_sizes, like, op) : nullptr;
  args.noise_scales = args.numel > 0 ? per_chain(s.noise_scales, like, op) : nullptr;
  const OptionalTensor& chains = s.step_sizes ? s.step_sizes : s.noise_scales;
  STD_TORCH_CHECK(
      !s.step_sizes || !s.noise_scales || s.step_sizes->numel() == s.noise_scales->numel(), op,
      ": step_size and noise_scale name different numbers of chains");
  args.chain_size = chains && args.numel > 0 ? args.numel / chains->numel() : args.numel;
  args.step_size = s.step_size;
  args.noise_scale = s.noise_scale;
  args.prior_precision = s.prior_precision;
  args.grad_clamp = s.grad_clamp;
  args.clamp_min = s.clamp_min;
  args.clamp_max = s.clamp_max;
  return args;
}

}  // namespace gencore
