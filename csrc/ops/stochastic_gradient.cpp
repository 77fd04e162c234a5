// sghmc_step and riemannian_langevin_step: checks, layouts and memory; the kernels do the rest.
#include <cmath>
#include <cstdint>
#include <tuple>

#include "coefficients.h"
#include "dispatch.h"
#include "registration.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;

void check_number(const char* op, double value) {
  STD_TORCH_CHECK(value >= 0.0 && std::isfinite(value), op,
                  ": a coefficient must be finite and not negative");
}

// The arguments that the schemas of SGHMC share, in their order there.
struct SghmcSettings {
  Tensor grad;
  OptionalTensor noise;
  OptionalTensor key;
  OptionalTensor step_sizes;
  OptionalTensor frictions;
  OptionalTensor inverse_masses;
  OptionalTensor noise_scales;
  double step_size;
  double friction;
  double inverse_mass;
  double noise_scale;
  std::int64_t first_element;
};

// Steps the states; the two results are contiguous, and may be the states themselves.
void run_sghmc(const char* op, const Tensor& x, const Tensor& momentum, const SghmcSettings& s,
               void* new_position, void* new_momentum) {
  for (const double value : {s.step_size, s.friction, s.inverse_mass, s.noise_scale})
    check_number(op, value);
  check_matches(momentum, x, op, "momentum");
  check_matches(s.grad, x, op, "grad");
  const Tensor x_c = as_contiguous(x), momentum_c = as_contiguous(momentum);
  const Tensor grad_c = as_contiguous(s.grad);
  const OptionalTensor noise_c = as_contiguous(s.noise);
  const Chains chains(op, x);
  SghmcStep args{};
  args.dtype = dtype_of(x, op);
  args.numel = x.numel();
  args.chain_size = chains.size;
  args.x = x_c.const_data_ptr();
  args.momentum = momentum_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.step_size = coefficient(op, s.step_sizes, s.step_size, x, chains.count, chains.size);
  args.friction = coefficient(op, s.frictions, s.friction, x, chains.count, chains.size);
  args.inverse_mass =
      coefficient(op, s.inverse_masses, s.inverse_mass, x, chains.count, chains.size);
  args.noise_scale = coefficient(op, s.noise_scales, s.noise_scale, x, chains.count, chains.size);
  args.noise = noise_source(op, noise_c, s.key, s.first_element, !args.noise_scale.is_zero(), x);
  args.new_position = new_position;
  args.new_momentum = new_momentum;
  launch(x, args, GENCORE_KERNELS(sghmc_step));
}

std::tuple<Tensor, Tensor> sghmc_step(Tensor x, Tensor momentum, Tensor grad, OptionalTensor noise,
                                      OptionalTensor key, OptionalTensor step_sizes,
                                      OptionalTensor frictions, OptionalTensor inverse_masses,
                                      OptionalTensor noise_scales, double step_size,
                                      double friction, double inverse_mass, double noise_scale,
                                      std::int64_t first_element) {
  const SghmcSettings settings{grad,      noise,          key,          step_sizes,
                               frictions, inverse_masses, noise_scales, step_size,
                               friction,  inverse_mass,   noise_scale,  first_element};
  Result new_position(x), new_momentum(momentum);
  run_sghmc("sghmc_step", x, momentum, settings, new_position.data(), new_momentum.data());
  return {new_position.finish(), new_momentum.finish()};
}

void sghmc_step_inplace(Tensor x, Tensor momentum, Tensor grad, OptionalTensor noise,
                        OptionalTensor key, OptionalTensor step_sizes, OptionalTensor frictions,
                        OptionalTensor inverse_masses, OptionalTensor noise_scales,
                        double step_size, double friction, double inverse_mass, double noise_scale,
                        std::int64_t first_element) {
  const SghmcSettings settings{grad,      noise,          key,          step_sizes,
                               frictions, inverse_masses, noise_scales, step_size,
                               friction,  inverse_mass,   noise_scale,  first_element};
  const auto clobbers = [&](const Tensor& out, const Tensor& other) {
    return !out.is_contiguous() || overwrites(out, other) ||
           overwrites_any(out,
                          {grad, noise, key, step_sizes, frictions, inverse_masses, noise_scales});
  };
  if (!clobbers(x, momentum) && !clobbers(momentum, x))
    return run_sghmc("sghmc_step_", x, momentum, settings, x.mutable_data_ptr(),
                     momentum.mutable_data_ptr());
  Result new_position(x), new_momentum(momentum);
  run_sghmc("sghmc_step_", x, momentum, settings, new_position.data(), new_momentum.data());
  torch::stable::copy_(x, new_position.finish());
  torch::stable::copy_(momentum, new_momentum.finish());
}

void run_riemannian_langevin(const char* op, const Tensor& x, const Tensor& grad,
                             const Tensor& metric, const OptionalTensor& correction,
                             const OptionalTensor& noise, const OptionalTensor& key,
                             const OptionalTensor& step_sizes, double step_size,
                             std::int64_t first_element, void* out) {
  check_number(op, step_size);
  check_matches(grad, x, op, "grad");
  check_matches(metric, x, op, "metric");
  if (correction) check_matches(*correction, x, op, "correction");
  const Tensor x_c = as_contiguous(x), grad_c = as_contiguous(grad);
  const Tensor metric_c = as_contiguous(metric);
  const OptionalTensor correction_c = as_contiguous(correction), noise_c = as_contiguous(noise);
  const Chains chains(op, x);
  RiemannianLangevinStep args{};
  args.dtype = dtype_of(x, op);
  args.numel = x.numel();
  args.chain_size = chains.size;
  args.x = x_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.metric = metric_c.const_data_ptr();
  args.correction = data(correction_c);
  args.step_size = coefficient(op, step_sizes, step_size, x, chains.count, chains.size);
  args.noise = noise_source(op, noise_c, key, first_element, !args.step_size.is_zero(), x);
  args.out = out;
  launch(x, args, GENCORE_KERNELS(riemannian_langevin_step));
}

Tensor riemannian_langevin_step(Tensor x, Tensor grad, Tensor metric, OptionalTensor correction,
                                OptionalTensor noise, OptionalTensor key, OptionalTensor step_sizes,
                                double step_size, std::int64_t first_element) {
  Result out(x);
  run_riemannian_langevin("riemannian_langevin_step", x, grad, metric, correction, noise, key,
                          step_sizes, step_size, first_element, out.data());
  return out.finish();
}

void riemannian_langevin_step_inplace(Tensor x, Tensor grad, Tensor metric,
                                      OptionalTensor correction, OptionalTensor noise,
                                      OptionalTensor key, OptionalTensor step_sizes,
                                      double step_size, std::int64_t first_element) {
  const auto run = [&](void* out) {
    run_riemannian_langevin("riemannian_langevin_step_", x, grad, metric, correction, noise, key,
                            step_sizes, step_size, first_element, out);
  };
  if (x.is_contiguous() && !overwrites_any(x, {grad, metric, correction, noise, key, step_sizes}))
    return run(x.mutable_data_ptr());
  Result out(x);
  run(out.data());
  torch::stable::copy_(x, out.finish());
}

}  // namespace

// A coefficient is a tensor or, where that is missing, the number of the same name.
#define GENCORE_SGHMC_SETTINGS                                                       \
  "Tensor grad, Tensor? noise, Tensor? key, Tensor? step_sizes, Tensor? frictions, " \
  "Tensor? inverse_masses, Tensor? noise_scales, float step_size, float friction, "  \
  "float inverse_mass, float noise_scale, int first_element"
#define GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS                                     \
  "Tensor grad, Tensor metric, Tensor? correction, Tensor? noise, Tensor? key, " \
  "Tensor? step_sizes, float step_size, int first_element"

GENCORE_OPERATORS(
    {"sghmc_step(Tensor x, Tensor momentum, " GENCORE_SGHMC_SETTINGS ") -> (Tensor, Tensor)",
     TORCH_BOX(&sghmc_step)},
    {"sghmc_step_(Tensor(a!) x, Tensor(b!) momentum, " GENCORE_SGHMC_SETTINGS ") -> ()",
     TORCH_BOX(&sghmc_step_inplace)},
    {"riemannian_langevin_step(Tensor x, " GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS ") -> Tensor",
     TORCH_BOX(&riemannian_langevin_step)},
    {"riemannian_langevin_step_(Tensor(a!) x, " GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS ") -> ()",
     TORCH_BOX(&riemannian_langevin_step_inplace)});

}  // namespace gencore
