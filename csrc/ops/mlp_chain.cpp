// Whole chains on small networks: checks, layouts and memory; the kernels do the rest.
#include <cstdint>
#include <tuple>
#include <vector>

#include "dispatch.h"
#include "langevin_settings.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Chains that one thread takes at a time: the largest block of any instruction-set level.
constexpr std::int64_t kChainGrain = 32;

// `parameters` is weight, bias, weight, bias, ... of the layers between `widths`.
Mlp mlp_of(const char* op, const Tensor& x, const Tensor& parameters,
           const std::vector<std::int64_t>& widths, std::int64_t activation,
           double negative_slope) {
  STD_TORCH_CHECK(!widths.empty() && widths.size() <= kMaxMlpLayers + 1, op,
                  ": the network must have at most 4 hidden layers");
  STD_TORCH_CHECK(x.dim() == 2 && x.size(1) == widths[0], op, ": x must be [N, inputs]");
  STD_TORCH_CHECK(widths.size() == 1 || widths.back() == 1, op, ": the network must have 1 output");
  STD_TORCH_CHECK(parameters.scalar_type() == accumulation_type(x) && parameters.is_contiguous() &&
                      same_device(parameters, x),
                  op, ": parameters must be contiguous, on x's device, of its accumulation dtype");
  STD_TORCH_CHECK(activation >= 0 && activation <= static_cast<int>(Activation::kLeakyRelu), op,
                  ": unknown activation");
  Mlp mlp{};
  mlp.layers = static_cast<int>(widths.size()) - 1;
  mlp.activation = static_cast<Activation>(activation);
  mlp.negative_slope = negative_slope;
  const auto* at = static_cast<const char*>(parameters.const_data_ptr());
  std::int64_t numbers = 0;
  const auto take = [&](std::int64_t count) {
    const void* const piece = at + static_cast<std::size_t>(numbers) * parameters.element_size();
    numbers += count;
    return piece;
  };
  mlp.widths[0] = widths[0];
  for (int l = 0; l < mlp.layers; ++l) {
    STD_TORCH_CHECK(widths[l + 1] > 0, op, ": a layer has no units");
    mlp.widths[l + 1] = widths[l + 1];
    mlp.weights[l] = take(widths[l] * widths[l + 1]);
    mlp.biases[l] = take(widths[l + 1]);
  }
  STD_TORCH_CHECK(numbers == parameters.numel(), op, ": parameters do not fit the widths");
  return mlp;
}

Tensor kept_states(const char* op, const Tensor& x, std::int64_t num_steps, std::int64_t thin) {
  STD_TORCH_CHECK(num_steps >= 1 && thin >= 1 && num_steps % thin == 0, op,
                  ": num_steps must be a positive multiple of thin");
  return with_huge_pages(torch::stable::new_empty(x, {num_steps / thin, x.size(0), x.size(1)}));
}

Tensor mlp_langevin_chain(Tensor x, Tensor parameters, std::vector<std::int64_t> widths,
                          std::int64_t activation, double negative_slope, std::int64_t num_steps,
                          std::int64_t thin, OptionalTensor noise, GENCORE_LANGEVIN_PARAMETERS) {
  const char* op = "mlp_langevin_chain";
  const LangevinSettings settings GENCORE_LANGEVIN_GIVEN;
  const Tensor x_c = as_contiguous(x);
  auto args =
      langevin_arguments<MlpLangevinChain>(op, x_c, x_c, std::nullopt, std::nullopt, settings);
  args.mlp = mlp_of(op, x_c, parameters, widths, activation, negative_slope);
  args.chain_size = x_c.size(1);
  for (const OptionalTensor* coefficients : {&step_sizes, &noise_scales})
    STD_TORCH_CHECK(!*coefficients || (*coefficients)->numel() == x_c.size(0), op,
                    ": a per-chain coefficient needs one entry a chain");
  const OptionalTensor noise_c = as_contiguous(noise);
  if (noise_c) {
    STD_TORCH_CHECK(noise_c->scalar_type() == x.scalar_type() && same_device(*noise_c, x) &&
                        noise_c->numel() == num_steps * x.numel(),
                    op, ": noise must be [num_steps, N, inputs] like x");
    args.noise.tensor = noise_c->const_data_ptr();
  }
  STD_TORCH_CHECK(!args.has_noise() || noise || key, op, ": noise or key is needed");
  args.num_steps = num_steps;
  args.thin = thin;
  Tensor out = kept_states(op, x_c, num_steps, thin);
  args.out = out.mutable_data_ptr();
  if (args.numel > 0)
    launch_items(x_c, args, args.chains(), kChainGrain, GENCORE_KERNELS(mlp_langevin_chain));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mlp_hmc_chain(
    Tensor x, Tensor parameters, std::vector<std::int64_t> widths, std::int64_t activation,
    double negative_slope, std::int64_t num_steps, std::int64_t thin, std::int64_t num_leapfrog,
    Tensor key, OptionalTensor step_sizes, OptionalTensor inverse_masses, double step_size,
    double inverse_mass, double prior_precision, double max_energy_error, std::int64_t first_chain,
    std::int64_t first_uniform) {
  const char* op = "mlp_hmc_chain";
  const Tensor x_c = as_contiguous(x);
  check_key(key, x, op);
  MlpHmcChain args{};
  args.dtype = dtype_of(x, op);
  args.mlp = mlp_of(op, x_c, parameters, widths, activation, negative_slope);
  args.chains = x_c.size(0);
  STD_TORCH_CHECK(num_leapfrog >= 1 && first_chain >= 0 && first_uniform >= 0, op,
                  ": a count is out of range");
  STD_TORCH_CHECK(inverse_mass > 0.0, op, ": inverse_mass must be positive");
  const auto pointer = [&](const OptionalTensor& values, std::int64_t count) -> const void* {
    if (!values) return nullptr;
    STD_TORCH_CHECK(values->scalar_type() == accumulation_type(x) && values->is_contiguous() &&
                        values->numel() == count && same_device(*values, x),
                    op, ": step sizes or inverse masses do not fit x");
    return values->const_data_ptr();
  };
  args.first_chain = first_chain;
  args.first_uniform = first_uniform;
  args.x = x_c.const_data_ptr();
  args.key = static_cast<const std::int64_t*>(key.const_data_ptr());
  args.step_sizes = pointer(step_sizes, args.chains);
  args.inverse_masses = pointer(inverse_masses, args.mlp.widths[0]);
  args.step_size = step_size;
  args.inverse_mass = inverse_mass;
  args.prior_precision = prior_precision;
  args.max_energy_error = max_energy_error;
  args.num_leapfrog = num_leapfrog;
  args.num_steps = num_steps;
  args.thin = thin;
  Tensor out = kept_states(op, x_c, num_steps, thin);
  args.out = out.mutable_data_ptr();
  const auto per_chain = [&](void*& target) {
    Tensor result = per_chain_result(x_c);
    target = result.mutable_data_ptr();
    return result;
  };
  Tensor energy = per_chain(args.energy);
  Tensor acceptance_rate = per_chain(args.acceptance_rate);
  Tensor num_accepted = per_chain(args.num_accepted);
  Tensor num_divergent = per_chain(args.num_divergent);
  launch_items(x_c, args, args.chains, kChainGrain, GENCORE_KERNELS(mlp_hmc_chain));
  return {out, energy, acceptance_rate, num_accepted, num_divergent};
}

}  // namespace

#define GENCORE_MLP \
  "Tensor x, Tensor parameters, int[] widths, int activation, float negative_slope, "

GENCORE_OPERATORS(
    {"mlp_langevin_chain(" GENCORE_MLP
     "int num_steps, int thin, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS ") -> Tensor",
     TORCH_BOX(&mlp_langevin_chain)},
    {"mlp_hmc_chain(" GENCORE_MLP
     "int num_steps, int thin, int num_leapfrog, Tensor key, Tensor? step_sizes, "
     "Tensor? inverse_masses, float step_size, float inverse_mass, float prior_precision, "
     "float max_energy_error, int first_chain, int first_uniform) -> (Tensor, Tensor, Tensor, "
     "Tensor, Tensor)",
     TORCH_BOX(&mlp_hmc_chain)});

}  // namespace gencore
