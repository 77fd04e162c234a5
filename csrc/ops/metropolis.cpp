// metropolis_accept: checks, layouts and memory; the kernel decides and selects.
#include <cstdint>
#include <limits>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;

// What both forms read, in the order of their schemas.
struct Operands {
  Tensor x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic, proposal_kinetic;
  OptionalTensor uniform, key;
  std::int64_t first_chain;
  double max_energy_error;
};

void check(const char* op, const Operands& in) {
  STD_TORCH_CHECK(in.x.dim() > 0, op, ": there is no dimension of chains");
  check_matches(in.grad, in.x, op, "grad");
  check_matches(in.proposal, in.x, op, "proposal");
  check_matches(in.proposal_grad, in.x, op, "proposal_grad");
  const auto check_per_chain = [&](const Tensor& values, const char* name) {
    STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == in.x.size(0) &&
                        values.scalar_type() == accumulation_type(in.x) &&
                        same_device(values, in.x),
                    op, ": ", name, " must have one entry a chain, in the accumulation dtype");
  };
  check_per_chain(in.energy, "energy");
  check_per_chain(in.proposal_energy, "proposal_energy");
  check_per_chain(in.kinetic, "kinetic");
  check_per_chain(in.proposal_kinetic, "proposal_kinetic");
  if (in.uniform) check_per_chain(*in.uniform, "uniform");
  if (in.key) check_key(*in.key, in.x, op);
  STD_TORCH_CHECK(in.uniform || in.key, op, ": uniform or key is needed");
  STD_TORCH_CHECK(in.first_chain >= 0, op, ": first_chain must not be negative");
  STD_TORCH_CHECK(in.x.size(0) <= std::numeric_limits<std::int64_t>::max() - in.first_chain, op,
                  ": first_chain is too large");
  STD_TORCH_CHECK(in.max_energy_error > 0.0, op, ": max_energy_error must be positive");
}

struct Verdict {
  Tensor is_accepted, acceptance_rate, is_divergent;
};

// Writes the three results, contiguous and possibly the operands themselves.
Verdict run(const Operands& in, void* new_x, void* new_grad, void* new_energy) {
  const Tensor x = as_contiguous(in.x), grad = as_contiguous(in.grad),
               energy = as_contiguous(in.energy), proposal = as_contiguous(in.proposal),
               proposal_grad = as_contiguous(in.proposal_grad),
               proposal_energy = as_contiguous(in.proposal_energy),
               kinetic = as_contiguous(in.kinetic),
               proposal_kinetic = as_contiguous(in.proposal_kinetic);
  const OptionalTensor uniform = as_contiguous(in.uniform);
  const std::int64_t chains = x.size(0);
  const Verdict verdict{torch::stable::new_empty(x, {chains}, ScalarType::Bool),
                        per_chain_result(x),
                        torch::stable::new_empty(x, {chains}, ScalarType::Bool)};
  MetropolisAccept args{};
  args.dtype = dtype_of(x, "metropolis_accept");
  args.chains = chains;
  args.chain_size = chains > 0 ? x.numel() / chains : 0;
  args.x = x.const_data_ptr();
  args.grad = grad.const_data_ptr();
  args.energy = energy.const_data_ptr();
  args.proposal = proposal.const_data_ptr();
  args.proposal_grad = proposal_grad.const_data_ptr();
  args.proposal_energy = proposal_energy.const_data_ptr();
  args.kinetic = kinetic.const_data_ptr();
  args.proposal_kinetic = proposal_kinetic.const_data_ptr();
  args.uniform = {data(uniform),
                  in.key ? static_cast<const std::int64_t*>(in.key->const_data_ptr()) : nullptr,
                  in.first_chain};
  args.max_energy_error = in.max_energy_error;
  args.new_x = new_x;
  args.new_grad = new_grad;
  args.new_energy = new_energy;
  args.is_accepted = static_cast<bool*>(verdict.is_accepted.mutable_data_ptr());
  args.acceptance_rate = verdict.acceptance_rate.mutable_data_ptr();
  args.is_divergent = static_cast<bool*>(verdict.is_divergent.mutable_data_ptr());
  launch_chains(x, args, GENCORE_KERNELS(metropolis_accept));
  return verdict;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> metropolis_accept(
    Tensor x, Tensor grad, Tensor energy, Tensor proposal, Tensor proposal_grad,
    Tensor proposal_energy, Tensor kinetic, Tensor proposal_kinetic, OptionalTensor uniform,
    OptionalTensor key, std::int64_t first_chain, double max_energy_error) {
  const Operands in{x,
                    grad,
                    energy,
                    proposal,
                    proposal_grad,
                    proposal_energy,
                    kinetic,
                    proposal_kinetic,
                    uniform,
                    key,
                    first_chain,
                    max_energy_error};
  check("metropolis_accept", in);
  Result new_x(x), new_grad(grad), new_energy(energy);
  const Verdict verdict = run(in, new_x.data(), new_grad.data(), new_energy.data());
  return {new_x.finish(),      new_grad.finish(),       new_energy.finish(),
          verdict.is_accepted, verdict.acceptance_rate, verdict.is_divergent};
}

std::tuple<Tensor, Tensor, Tensor> metropolis_accept_inplace(
    Tensor x, Tensor grad, Tensor energy, Tensor proposal, Tensor proposal_grad,
    Tensor proposal_energy, Tensor kinetic, Tensor proposal_kinetic, OptionalTensor uniform,
    OptionalTensor key, std::int64_t first_chain, double max_energy_error) {
  const Operands in{x,
                    grad,
                    energy,
                    proposal,
                    proposal_grad,
                    proposal_energy,
                    kinetic,
                    proposal_kinetic,
                    uniform,
                    key,
                    first_chain,
                    max_energy_error};
  check("metropolis_accept_", in);
  const Tensor* const written[] = {&x, &grad, &energy};
  const Tensor* const read[] = {
      &x, &grad, &energy, &proposal, &proposal_grad, &proposal_energy, &kinetic, &proposal_kinetic};
  bool in_place = true;
  for (const Tensor* out : written) {
    in_place = in_place && out->is_contiguous() && !(uniform && overwrites(*out, *uniform)) &&
               !(key && overwrites(*out, *key));
    // The same memory as another operand's, and not only its own, is read after it was written.
    for (const Tensor* operand : read)
      in_place =
          in_place && (operand == out ||
                       (!overwrites(*out, *operand) &&
                        (out->numel() == 0 || out->const_data_ptr() != operand->const_data_ptr())));
  }
  if (in_place) {
    const Verdict verdict =
        run(in, x.mutable_data_ptr(), grad.mutable_data_ptr(), energy.mutable_data_ptr());
    return {verdict.is_accepted, verdict.acceptance_rate, verdict.is_divergent};
  }
  const auto [new_x, new_grad, new_energy, is_accepted, acceptance_rate, is_divergent] =
      metropolis_accept(x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic,
                        proposal_kinetic, uniform, key, first_chain, max_energy_error);
  torch::stable::copy_(x, new_x);
  torch::stable::copy_(grad, new_grad);
  torch::stable::copy_(energy, new_energy);
  return {is_accepted, acceptance_rate, is_divergent};
}

}  // namespace

#define GENCORE_METROPOLIS_PROPOSAL                                                 \
  "Tensor proposal, Tensor proposal_grad, Tensor proposal_energy, Tensor kinetic, " \
  "Tensor proposal_kinetic, Tensor? uniform, Tensor? key, int first_chain, float max_energy_error"

GENCORE_OPERATORS(
    {"metropolis_accept(Tensor x, Tensor grad, Tensor energy, " GENCORE_METROPOLIS_PROPOSAL
     ") -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
     TORCH_BOX(&metropolis_accept)},
    {"metropolis_accept_(Tensor(a!) x, Tensor(b!) grad, Tensor(c!) "
     "energy, " GENCORE_METROPOLIS_PROPOSAL ") -> (Tensor, Tensor, Tensor)",
     TORCH_BOX(&metropolis_accept_inplace)});

}  // namespace gencore
