// The leapfrog integrator's operators: checks, layouts and memory; the kernels do the rest.
#include <cmath>
#include <cstdint>
#include <tuple>

#include "coefficients.h"
#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;

// The arguments that all schemas of the family share, in their order there.
struct Settings {
  OptionalTensor step_sizes;
  OptionalTensor inverse_masses;
  double step_size;
  double inverse_mass;
};

void check_numbers(const char* op, double step_size, double inverse_mass) {
  STD_TORCH_CHECK(step_size >= 0.0 && std::isfinite(step_size), op,
                  ": step_size must be finite and not negative");
  STD_TORCH_CHECK(inverse_mass > 0.0 && std::isfinite(inverse_mass), op,
                  ": inverse_mass must be finite and positive");
}

template <class Arguments>
Arguments arguments(const char* op, const Tensor& x, const Settings& s) {
  check_numbers(op, s.step_size, s.inverse_mass);
  const Chains chains(op, x);
  Arguments args{};
  args.dtype = dtype_of(x, op);
  args.numel = x.numel();
  args.chains = chains.count;
  args.chain_size = chains.size;
  args.step_size = coefficient(op, s.step_sizes, s.step_size, x, args.chains, args.chain_size);
  args.inverse_mass =
      coefficient(op, s.inverse_masses, s.inverse_mass, x, args.chains, args.chain_size);
  return args;
}

std::tuple<Tensor, Tensor, Tensor> leapfrog_start(Tensor x, Tensor grad, OptionalTensor noise,
                                                  OptionalTensor key, OptionalTensor step_sizes,
                                                  OptionalTensor inverse_masses, double step_size,
                                                  double inverse_mass, std::int64_t first_element) {
  const char* op = "leapfrog_start";
  check_matches(grad, x, op, "grad");
  auto args =
      arguments<LeapfrogStart>(op, x, {step_sizes, inverse_masses, step_size, inverse_mass});
  const Tensor x_c = as_contiguous(x), grad_c = as_contiguous(grad);
  const OptionalTensor noise_c = as_contiguous(noise);
  Result position(x), momentum(x);
  const Tensor kinetic = per_chain_result(x);
  args.x = x_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.noise = noise_source(op, noise_c, key, first_element, /*needed=*/true, x);
  args.position = position.data();
  args.momentum = momentum.data();
  args.kinetic = kinetic.mutable_data_ptr();
  launch_chains(x, args, GENCORE_KERNELS(leapfrog_start));
  return {position.finish(), momentum.finish(), kinetic};
}

// Steps contiguous operands, of which the results may be two.
void run_step(const char* op, const Tensor& x, const Tensor& momentum, const Tensor& grad,
              void* new_position, void* new_momentum, const Settings& settings) {
  check_matches(momentum, x, op, "momentum");
  check_matches(grad, x, op, "grad");
  auto args = arguments<LeapfrogStep>(op, x, settings);
  const Tensor x_c = as_contiguous(x), momentum_c = as_contiguous(momentum),
               grad_c = as_contiguous(grad);
  args.x = x_c.const_data_ptr();
  args.momentum = momentum_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.new_position = new_position;
  args.new_momentum = new_momentum;
  launch(x, args, GENCORE_KERNELS(leapfrog_step));
}

std::tuple<Tensor, Tensor> leapfrog_step(Tensor x, Tensor momentum, Tensor grad,
                                         OptionalTensor step_sizes, OptionalTensor inverse_masses,
                                         double step_size, double inverse_mass) {
  Result new_position(x), new_momentum(momentum);
  run_step("leapfrog_step", x, momentum, grad, new_position.data(), new_momentum.data(),
           {step_sizes, inverse_masses, step_size, inverse_mass});
  return {new_position.finish(), new_momentum.finish()};
}

void leapfrog_step_inplace(Tensor x, Tensor momentum, Tensor grad, OptionalTensor step_sizes,
                           OptionalTensor inverse_masses, double step_size, double inverse_mass) {
  const char* op = "leapfrog_step_";
  const Settings settings{step_sizes, inverse_masses, step_size, inverse_mass};
  const auto clobbers = [&](const Tensor& out, const Tensor& other) {
    return !out.is_contiguous() || overwrites(out, other) || overwrites(out, grad) ||
           (step_sizes && overwrites(out, *step_sizes)) ||
           (inverse_masses && overwrites(out, *inverse_masses));
  };
  STD_TORCH_CHECK(x.numel() == 0 ||
                      (x.const_data_ptr() != momentum.const_data_ptr() &&
                       !(x.is_contiguous() && momentum.is_contiguous() && overwrites(x, momentum))),
                  op, ": x and momentum share their memory");
  if (!clobbers(x, momentum) && !clobbers(momentum, x))
    return run_step(op, x, momentum, grad, x.mutable_data_ptr(), momentum.mutable_data_ptr(),
                    settings);
  for (const Tensor* out : {&x, &momentum})  // found out later, one of the two would be changed
    for (std::int64_t k = 0; k < out->dim(); ++k)
      STD_TORCH_CHECK(out->size(k) < 2 || out->stride(k) != 0, op, ": a result repeats elements");
  const auto [position, new_momentum] =
      leapfrog_step(x, momentum, grad, step_sizes, inverse_masses, step_size, inverse_mass);
  torch::stable::copy_(x, position);
  torch::stable::copy_(momentum, new_momentum);
}

// The sampler's call, unboxed by hand: three reference-counted tensors would cost as much as
// stepping a small state does.
void leapfrog_step_plain(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const char* op = "leapfrog_step_";
  Operand x(stack[0]), momentum(stack[1]), grad(stack[2]);
  const double step_size = torch::stable::detail::to<double>(stack[3]);
  const double inverse_mass = torch::stable::detail::to<double>(stack[4]);
  // Whether views share or repeat elements, the caller knows.
  STD_TORCH_CHECK(x.is_contiguous() && momentum.is_contiguous(), op,
                  ": the plain call has no views");
  const auto fits = [&](const Operand& t) {
    return t.is_cpu() && t.is_contiguous() && t.dtype() == aoti_torch_dtype_float32();
  };
  const bool simple = fits(x) && fits(momentum) && fits(grad) && x.same_shape(momentum) &&
                      x.same_shape(grad) && x.dim() > 0 && x.numel() <= kParallelGrain;
  const std::size_t bytes = simple ? static_cast<std::size_t>(x.numel()) * sizeof(float) : 0;
  const auto apart = [&](const Operand& a, const Operand& b) {
    return a.const_data() != b.const_data() &&
           !overwrites(a.const_data(), bytes, b.const_data(), bytes);
  };
  if (!simple || !apart(x, momentum) || !apart(x, grad) || !apart(momentum, grad))
    return leapfrog_step_inplace(x.release(), momentum.release(), grad.release(), std::nullopt,
                                 std::nullopt, step_size, inverse_mass);
  check_numbers(op, step_size, inverse_mass);
  LeapfrogStep args{};
  args.dtype = Dtype::kFloat32;
  args.numel = args.chain_size = x.numel();
  args.chains = 1;
  args.step_size.number = step_size;
  args.inverse_mass.number = inverse_mass;
  args.new_position = x.mutable_data();
  args.new_momentum = momentum.mutable_data();
  args.x = args.new_position;
  args.momentum = args.new_momentum;
  args.grad = grad.const_data();
  cpu::kernels().leapfrog_step(args, 0, args.numel);
}

// torch would negate copies of lazily negated operands, and find that it cannot write both back
// when the other has been written to.
void leapfrog_step_plain_refused(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Operand x(stack[0]), momentum(stack[1]), grad(stack[2]);
  STD_TORCH_CHECK(false, "leapfrog_step_: an operand is a lazily negated view");
}

std::tuple<Tensor, Tensor> leapfrog_end(Tensor momentum, Tensor grad, OptionalTensor step_sizes,
                                        OptionalTensor inverse_masses, double step_size,
                                        double inverse_mass) {
  const char* op = "leapfrog_end";
  check_matches(grad, momentum, op, "grad");
  auto args =
      arguments<LeapfrogEnd>(op, momentum, {step_sizes, inverse_masses, step_size, inverse_mass});
  const Tensor momentum_c = as_contiguous(momentum), grad_c = as_contiguous(grad);
  Result new_momentum(momentum);
  const Tensor kinetic = per_chain_result(momentum);
  args.momentum = momentum_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.new_momentum = new_momentum.data();
  args.kinetic = kinetic.mutable_data_ptr();
  launch_chains(momentum, args, GENCORE_KERNELS(leapfrog_end));
  return {new_momentum.finish(), kinetic};
}

}  // namespace

GENCORE_OPERATORS(
    {"leapfrog_start(Tensor x, Tensor grad, Tensor? noise, Tensor? "
     "key, " GENCORE_LEAPFROG_COEFFICIENTS ", int first_element) -> (Tensor, Tensor, Tensor)",
     TORCH_BOX(&leapfrog_start)},
    {"leapfrog_step(Tensor x, Tensor momentum, Tensor grad, " GENCORE_LEAPFROG_COEFFICIENTS
     ") -> (Tensor, Tensor)",
     TORCH_BOX(&leapfrog_step)},
    {"leapfrog_step_(Tensor(a!) x, Tensor(b!) momentum, Tensor "
     "grad, " GENCORE_LEAPFROG_COEFFICIENTS ") -> ()",
     TORCH_BOX(&leapfrog_step_inplace)},
    {"leapfrog_step_.plain(Tensor(a!) x, Tensor(b!) momentum, Tensor grad, float step_size, "
     "float inverse_mass) -> ()",
     leapfrog_step_plain},
    {"leapfrog_end(Tensor momentum, Tensor grad, " GENCORE_LEAPFROG_COEFFICIENTS
     ") -> (Tensor, Tensor)",
     TORCH_BOX(&leapfrog_end)});

STABLE_TORCH_LIBRARY_IMPL(gencore, Negative, m) {
  m.impl("leapfrog_step_.plain", leapfrog_step_plain_refused);
}

}  // namespace gencore
