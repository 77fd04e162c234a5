// replica_swap_: checks, layouts and memory; the kernel does the rest.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;

void replica_swap(Tensor x, Tensor energy, OptionalTensor grad, Tensor is_accepted,
                  Tensor inverse_temperature, OptionalTensor uniform, OptionalTensor key,
                  std::int64_t parity, std::int64_t first_pair) {
  const char* op = "replica_swap_";
  STD_TORCH_CHECK(x.dim() >= 2, op, ": x must have dimensions for the replicas and the chains");
  const std::int64_t replicas = x.size(0), chains = x.size(1);
  const auto check_sizes = [&](const Tensor& tensor, std::int64_t rows, const char* name) {
    STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == chains, op,
                    ": ", name, " has the wrong shape");
    STD_TORCH_CHECK(same_device(tensor, x), op, ": ", name, " and x are on different devices");
  };
  dtype_of(x, op);
  check_sizes(energy, replicas, "energy");
  check_sizes(is_accepted, replicas, "is_accepted");
  STD_TORCH_CHECK(
      energy.scalar_type() == ScalarType::Float || energy.scalar_type() == ScalarType::Double, op,
      ": energy must be float32 or float64");
  STD_TORCH_CHECK(is_accepted.scalar_type() == ScalarType::Bool && is_accepted.is_contiguous(), op,
                  ": is_accepted must be contiguous and bool");
  STD_TORCH_CHECK(inverse_temperature.scalar_type() == ScalarType::Double &&
                      inverse_temperature.is_contiguous() && inverse_temperature.dim() == 1 &&
                      inverse_temperature.numel() == replicas &&
                      same_device(inverse_temperature, x),
                  op, ": inverse_temperature must be contiguous, float64, one a replica, beside x");
  if (grad) check_matches(*grad, x, op, "grad");
  if (uniform) {
    check_sizes(*uniform, std::max<std::int64_t>(replicas - 1, 0), "uniform");
    STD_TORCH_CHECK(uniform->scalar_type() == ScalarType::Double && uniform->is_contiguous(), op,
                    ": uniform must be contiguous and float64");
  }
  if (key) check_key(*key, x, op);
  STD_TORCH_CHECK(uniform || key, op, ": uniform or key is needed");
  STD_TORCH_CHECK(parity == 0 || parity == 1, op, ": parity must be 0 or 1");
  STD_TORCH_CHECK(
      first_pair >= 0 && energy.numel() <= std::numeric_limits<std::int64_t>::max() - first_pair,
      op, ": first_pair must not be negative, nor too large");
  const std::int64_t pairs = std::max<std::int64_t>(replicas - parity, 0) / 2 * chains;
  if (pairs == 0) return;

  Tensor x_c = as_contiguous(x), energy_c = as_contiguous(energy);
  auto grad_c = as_contiguous(grad);
  const std::int64_t row = x.numel() / (replicas * chains);
  ReplicaSwap args{};
  args.dtype = dtype_of(energy, op);
  args.pairs = pairs;
  args.replicas = replicas;
  args.chains = chains;
  args.parity = parity;
  args.row_bytes = row * static_cast<std::int64_t>(x.element_size());
  args.x = x_c.mutable_data_ptr();
  args.grad = grad_c ? grad_c->mutable_data_ptr() : nullptr;
  args.energy = energy_c.mutable_data_ptr();
  args.inverse_temperature = static_cast<const double*>(inverse_temperature.const_data_ptr());
  args.uniform = static_cast<const double*>(data(uniform));
  args.key = static_cast<const std::int64_t*>(data(key));
  args.first = first_pair;
  args.is_accepted = static_cast<bool*>(is_accepted.mutable_data_ptr());
  launch_items(x, args, pairs, std::max<std::int64_t>(kParallelGrain / (2 * row + 1), 1),
               GENCORE_KERNELS(replica_swap));
  if (!x.is_contiguous()) torch::stable::copy_(x, x_c);
  if (!energy.is_contiguous()) torch::stable::copy_(energy, energy_c);
  if (grad && !grad->is_contiguous()) torch::stable::copy_(*grad, *grad_c);
}

}  // namespace

GENCORE_OPERATORS(
    {"replica_swap_(Tensor(a!) x, Tensor(b!) energy, Tensor(c!)? grad, Tensor(d!) is_accepted, "
     "Tensor inverse_temperature, Tensor? uniform, Tensor? key, int parity, int first_pair) -> "
     "()",
     TORCH_BOX(&replica_swap)});

}  // namespace gencore
