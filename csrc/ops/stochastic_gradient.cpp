// sghmc_step and riemannian_langevin_step: checks, layouts and memory; the kernels do the rest.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <tuple>

#include "coefficients.h"
#include "dispatch.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;

// The arguments that the schemas of each operator share, in their order there.
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
  std::int64_t inverse_mass_run;
  std::int64_t first_element;
};

void run_sghmc(const char* op, Target& x_out, Target& momentum_out, const Tensor& x,
               const Tensor& momentum, const SghmcSettings& s) {
  check_matches(momentum, x, op, "momentum");
  check_matches(s.grad, x, op, "grad");
  const Tensor x_c = as_contiguous(x), momentum_c = as_contiguous(momentum);
  const Tensor grad_c = as_contiguous(s.grad);
  const auto noise_c = as_contiguous(s.noise);
  SghmcStep args{};
  args.dtype = dtype_of(x, op);
  args.numel = x.numel();
  args.x = x_c.const_data_ptr();
  args.momentum = momentum_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.step_size = coefficient(s.step_sizes, s.step_size, x, op);
  args.friction = coefficient(s.frictions, s.friction, x, op);
  args.inverse_mass = coefficient(s.inverse_masses, s.inverse_mass, x, op, s.inverse_mass_run);
  args.noise_scale = coefficient(s.noise_scales, s.noise_scale, x, op);
  args.noise = noise_source(noise_c, s.key, s.first_element, args.noise_scale.is_zero(), x, op);
  args.x_out = x_out.data();
  args.momentum_out = momentum_out.data();
  launch(x, args, GENCORE_KERNELS(sghmc_step));
}

std::tuple<Tensor, Tensor> sghmc_step(Tensor x, Tensor momentum, Tensor grad, OptionalTensor noise,
                                      OptionalTensor key, OptionalTensor step_sizes,
                                      OptionalTensor frictions, OptionalTensor inverse_masses,
                                      OptionalTensor noise_scales, double step_size,
                                      double friction, double inverse_mass, double noise_scale,
                                      std::int64_t inverse_mass_run, std::int64_t first_element) {
  const SghmcSettings settings{grad,         noise,          key,          step_sizes,
                               frictions,    inverse_masses, noise_scales, step_size,
                               friction,     inverse_mass,   noise_scale,  inverse_mass_run,
                               first_element};
  Target x_out(empty_result(x)), momentum_out(empty_result(momentum));
  run_sghmc("sghmc_step", x_out, momentum_out, x, momentum, settings);
  return {x_out.finish(), momentum_out.finish()};
}

void sghmc_step_inplace(Tensor x, Tensor momentum, Tensor grad, OptionalTensor noise,
                        OptionalTensor key, OptionalTensor step_sizes, OptionalTensor frictions,
                        OptionalTensor inverse_masses, OptionalTensor noise_scales,
                        double step_size, double friction, double inverse_mass, double noise_scale,
                        std::int64_t inverse_mass_run, std::int64_t first_element) {
  const SghmcSettings settings{grad,         noise,          key,          step_sizes,
                               frictions,    inverse_masses, noise_scales, step_size,
                               friction,     inverse_mass,   noise_scale,  inverse_mass_run,
                               first_element};
  const auto is_apart = [&](const Tensor& out) {
    return !(overwrites(out, grad) || overwrites(out, noise) || overwrites(out, key) ||
             overwrites(out, step_sizes) || overwrites(out, frictions) ||
             overwrites(out, inverse_masses) || overwrites(out, noise_scales));
  };
  const bool apart =
      is_apart(x) && is_apart(momentum) && !overwrites(x, momentum) && !overwrites(momentum, x);
  Target x_out(x, apart), momentum_out(momentum, apart);
  run_sghmc("sghmc_step_", x_out, momentum_out, x, momentum, settings);
  x_out.finish();
  momentum_out.finish();
}

void run_riemannian_langevin(const char* op, Target& out, const Tensor& x, const Tensor& grad,
                             const Tensor& metric, const OptionalTensor& correction,
                             const OptionalTensor& noise, const OptionalTensor& key,
                             const OptionalTensor& step_sizes, double step_size,
                             std::int64_t first_element) {
  check_matches(grad, x, op, "grad");
  check_matches(metric, x, op, "metric");
  if (correction) check_matches(*correction, x, op, "correction");
  const Tensor x_c = as_contiguous(x), grad_c = as_contiguous(grad);
  const Tensor metric_c = as_contiguous(metric);
  const auto correction_c = as_contiguous(correction), noise_c = as_contiguous(noise);
  RiemannianLangevinStep args{};
  args.dtype = dtype_of(x, op);
  args.numel = x.numel();
  args.x = x_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.metric = metric_c.const_data_ptr();
  args.correction = data(correction_c);
  args.step_size = coefficient(step_sizes, step_size, x, op);
  args.noise = noise_source(noise_c, key, first_element, args.step_size.is_zero(), x, op);
  args.out = out.data();
  launch(x, args, GENCORE_KERNELS(riemannian_langevin_step));
}

Tensor riemannian_langevin_step(Tensor x, Tensor grad, Tensor metric, OptionalTensor correction,
                                OptionalTensor noise, OptionalTensor key, OptionalTensor step_sizes,
                                double step_size, std::int64_t first_element) {
  Target out(empty_result(x));
  run_riemannian_langevin("riemannian_langevin_step", out, x, grad, metric, correction, noise, key,
                          step_sizes, step_size, first_element);
  return out.finish();
}

void riemannian_langevin_step_inplace(Tensor x, Tensor grad, Tensor metric,
                                      OptionalTensor correction, OptionalTensor noise,
                                      OptionalTensor key, OptionalTensor step_sizes,
                                      double step_size, std::int64_t first_element) {
  const bool apart = !(overwrites(x, grad) || overwrites(x, metric) || overwrites(x, correction) ||
                       overwrites(x, noise) || overwrites(x, key) || overwrites(x, step_sizes));
  Target out(x, apart);
  run_riemannian_langevin("riemannian_langevin_step_", out, x, grad, metric, correction, noise, key,
                          step_sizes, step_size, first_element);
  out.finish();
}

void register_stochastic_gradient(torch::stable::detail::StableLibrary& m) {
  m.impl("sghmc_step", TORCH_BOX(&sghmc_step));
  m.impl("sghmc_step.no_autograd", TORCH_BOX(&sghmc_step));
  m.impl("sghmc_step_", TORCH_BOX(&sghmc_step_inplace));
  m.impl("riemannian_langevin_step", TORCH_BOX(&riemannian_langevin_step));
  m.impl("riemannian_langevin_step.no_autograd", TORCH_BOX(&riemannian_langevin_step));
  m.impl("riemannian_langevin_step_", TORCH_BOX(&riemannian_langevin_step_inplace));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(gencore, CPU, m) { register_stochastic_gradient(m); }
#ifdef GENCORE_CUDA
STABLE_TORCH_LIBRARY_IMPL(gencore, CUDA, m) { register_stochastic_gradient(m); }
#endif

}  // namespace gencore
