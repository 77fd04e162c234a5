// langevin_step and its derivatives: checks, layouts and memory; the kernels do the rest.
#include <cstdint>

#include "dispatch.h"
#include "langevin_settings.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

void run_step(const char* op, const Tensor& out, const Tensor& x, const Tensor& grad,
              const OptionalTensor& noise, const LangevinSettings& settings) {
  check_matches(grad, x, op, "grad");
  const auto grad_c = as_contiguous(grad);
  const auto noise_c = as_contiguous(noise);
  auto args = langevin_arguments<LangevinStep>(op, x, x, grad_c, noise_c, settings);
  STD_TORCH_CHECK(!args.has_noise() || noise || settings.key, op, ": noise or key is needed");
  args.out = out.mutable_data_ptr();
  launch(x, args, GENCORE_KERNELS(langevin_step));
}

Tensor langevin_step(Tensor x, Tensor grad, OptionalTensor noise, GENCORE_LANGEVIN_PARAMETERS) {
  const LangevinSettings settings GENCORE_LANGEVIN_GIVEN;
  Tensor out = empty_result(x);
  if (x.is_contiguous() && out.is_contiguous()) {
    run_step("langevin_step", out, x, grad, noise, settings);
    return out;
  }
  const Tensor x_c = torch::stable::contiguous(x);
  const Tensor out_c = empty_result(x_c);
  run_step("langevin_step", out_c, x_c, grad, noise, settings);
  torch::stable::copy_(out, out_c);
  return out;
}

void langevin_step_inplace(Tensor x, Tensor grad, OptionalTensor noise,
                           GENCORE_LANGEVIN_PARAMETERS) {
  const LangevinSettings settings GENCORE_LANGEVIN_GIVEN;
  const bool overwrites_operand =
      overwrites(x, grad) || (noise && overwrites(x, *noise)) || (key && overwrites(x, *key)) ||
      (step_sizes && overwrites(x, *step_sizes)) || (noise_scales && overwrites(x, *noise_scales));
  if (x.is_contiguous() && !overwrites_operand)
    return run_step("langevin_step_", x, x, grad, noise, settings);
  const Tensor x_c = as_contiguous(x);
  const Tensor out = empty_result(x_c);
  run_step("langevin_step_", out, x_c, grad, noise, settings);
  torch::stable::copy_(x, out);
}

// The sampler's call, unboxed by hand: a reference-counted Tensor for each of three operands would
// cost as much as stepping 64 elements does.
void langevin_step_plain(StableIValue* stack, std::uint64_t, std::uint64_t) {
  constexpr double inf = LangevinArguments::kUnbounded;
  const char* op = "langevin_step_";
  Operand x(stack[0]), grad(stack[1]), key(stack[2]);
  const double step_size = torch::stable::detail::to<double>(stack[3]);
  const double noise_scale = torch::stable::detail::to<double>(stack[4]);
  // Whether a view repeats elements, the caller knows.
  STD_TORCH_CHECK(x.is_contiguous(), op, ": the plain call has no views");
  const std::int32_t dtype = x.dtype();
  const bool simple = x.is_cpu() && grad.is_cpu() && key.is_cpu() && x.is_contiguous() &&
                      grad.is_contiguous() && key.is_contiguous() && x.same_shape(grad) &&
                      grad.dtype() == dtype && key.dtype() == aoti_torch_dtype_int64() &&
                      key.dim() == 1 && key.numel() == 2 && dtype == aoti_torch_dtype_float32() &&
                      x.numel() <= kParallelGrain;
  const std::size_t bytes = simple ? static_cast<std::size_t>(x.numel()) * sizeof(float) : 0;
  if (!simple || overwrites(x.const_data(), bytes, grad.const_data(), bytes) ||
      overwrites(x.const_data(), bytes, key.const_data(), 2 * sizeof(std::int64_t)))
    return langevin_step_inplace(x.release(), grad.release(), std::nullopt, key.release(),
                                 std::nullopt, std::nullopt, step_size, noise_scale, 0.0, inf, -inf,
                                 inf, 0);
  check_langevin_scalars(op, step_size, noise_scale);
  LangevinStep args{};
  args.dtype = Dtype::kFloat32;
  args.numel = args.chain_size = x.numel();
  args.out = x.mutable_data();
  args.x = args.out;
  args.grad = grad.const_data();
  args.noise.key = static_cast<const std::int64_t*>(key.const_data());
  args.step_size = step_size;
  args.noise_scale = noise_scale;
  args.grad_clamp = args.clamp_max = inf;
  args.clamp_min = -inf;
  cpu::kernels().langevin_step(args, 0, args.numel);
}

std::tuple<Tensor, Tensor, Tensor> langevin_step_backward(Tensor grad_out, OptionalTensor x,
                                                          OptionalTensor grad, OptionalTensor noise,
                                                          GENCORE_LANGEVIN_PARAMETERS, bool needs_x,
                                                          bool needs_grad, bool needs_noise) {
  const char* op = "langevin_step_backward";
  const LangevinSettings settings GENCORE_LANGEVIN_GIVEN;
  const auto grad_out_c = as_contiguous(grad_out);
  const auto x_c = as_contiguous(x), grad_c = as_contiguous(grad), noise_c = as_contiguous(noise);
  auto args = langevin_arguments<LangevinBackward>(op, grad_out_c, x_c, grad_c, noise_c, settings);
  STD_TORCH_CHECK(!args.clamps_state() || x, op, ": x is needed to differentiate the clamp");
  STD_TORCH_CHECK(!(args.clamps_state() || args.clips_grad()) || grad, op,
                  ": grad is needed to differentiate the clamps");
  const auto output = [&](bool wanted, void*& pointer) {
    if (!wanted) return torch::stable::new_empty(grad_out_c, {0});
    Tensor tensor = empty_result(grad_out_c);
    pointer = tensor.mutable_data_ptr();
    return tensor;
  };
  args.grad_out = grad_out_c.const_data_ptr();
  Tensor x_grad = output(needs_x, args.x_grad);
  Tensor grad_grad = output(needs_grad, args.grad_grad);
  Tensor noise_grad = output(needs_noise, args.noise_grad);
  launch(grad_out_c, args, GENCORE_KERNELS(langevin_backward));
  return {x_grad, grad_grad, noise_grad};
}

Tensor langevin_step_tangent(Tensor like, OptionalTensor x_tangent, OptionalTensor grad_tangent,
                             OptionalTensor noise_tangent, OptionalTensor x, OptionalTensor grad,
                             OptionalTensor noise, GENCORE_LANGEVIN_PARAMETERS) {
  const char* op = "langevin_step_tangent";
  const LangevinSettings settings GENCORE_LANGEVIN_GIVEN;
  const Tensor like_c = as_contiguous(like);
  const auto x_c = as_contiguous(x), grad_c = as_contiguous(grad), noise_c = as_contiguous(noise);
  const auto dx = as_contiguous(x_tangent), dgrad = as_contiguous(grad_tangent),
             dnoise = as_contiguous(noise_tangent);
  for (const auto* tangent : {&dx, &dgrad, &dnoise})
    if (*tangent) check_matches(**tangent, like_c, op, "tangent");
  auto args = langevin_arguments<LangevinTangent>(op, like_c, x_c, grad_c, noise_c, settings);
  args.x_tangent = data(dx);
  args.grad_tangent = data(dgrad);
  args.noise_tangent = data(dnoise);
  Tensor out = empty_result(like_c);
  args.out = out.mutable_data_ptr();
  launch(like_c, args, GENCORE_KERNELS(langevin_tangent));
  return out;
}

}  // namespace

GENCORE_OPERATORS(
    {"langevin_step(Tensor x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS ") -> Tensor",
     TORCH_BOX(&langevin_step)},
    {"langevin_step_(Tensor(a!) x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
     ") -> ()",
     TORCH_BOX(&langevin_step_inplace)},
    {"langevin_step_.plain(Tensor(a!) x, Tensor grad, Tensor key, float step_size, "
     "float noise_scale) -> ()",
     langevin_step_plain},
    {"langevin_step_backward(Tensor grad_out, Tensor? x, Tensor? grad, Tensor? "
     "noise, " GENCORE_LANGEVIN_SETTINGS
     ", bool needs_x, bool needs_grad, bool needs_noise) -> (Tensor, Tensor, Tensor)",
     TORCH_BOX(&langevin_step_backward)},
    {"langevin_step_tangent(Tensor like, Tensor? x_tangent, Tensor? grad_tangent, "
     "Tensor? noise_tangent, Tensor? x, Tensor? grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
     ") -> Tensor",
     TORCH_BOX(&langevin_step_tangent)});

}  // namespace gencore
