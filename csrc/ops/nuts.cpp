// nuts_leaf_: checks, layouts and memory; the kernel does the rest.
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "coefficients.h"
#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

using OptionalTensor = std::optional<Tensor>;
constexpr const char* kOp = "nuts_leaf_";

void check_rows(const Tensor& tensor, std::int64_t rows, const Tensor& x, ScalarType type,
                const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == x.size(0) &&
                      tensor.scalar_type() == type && tensor.is_contiguous() &&
                      same_device(tensor, x),
                  kOp, ": ", name, " is not the tree's");
}

// [rows, columns] planes like x.
void check_planes(const Tensor& tensor, std::int64_t rows, std::int64_t columns, const Tensor& x,
                  const char* name) {
  STD_TORCH_CHECK(tensor.dim() == x.dim() + 2 && tensor.size(0) == rows &&
                      tensor.size(1) == columns && tensor.numel() == rows * columns * x.numel() &&
                      tensor.scalar_type() == x.scalar_type() && tensor.is_contiguous() &&
                      same_device(tensor, x),
                  kOp, ": ", name, " is not the tree's");
}

void nuts_leaf(Tensor position, Tensor momentum, Tensor ends, Tensor checkpoints, Tensor drawn,
               Tensor energies, Tensor weights, Tensor counts, Tensor flags, Tensor energy,
               Tensor grad, Tensor key, OptionalTensor step_sizes, OptionalTensor inverse_masses,
               double step_size, double inverse_mass, std::int64_t leaf, std::int64_t first_chain,
               double max_energy_error) {
  const Chains chains(kOp, position);
  const ScalarType wide = accumulation_type(position);
  check_matches(momentum, position, kOp, "momentum");
  check_matches(grad, position, kOp, "grad");
  STD_TORCH_CHECK(position.is_contiguous() && momentum.is_contiguous(), kOp,
                  ": position and momentum must be contiguous");
  STD_TORCH_CHECK(checkpoints.dim() > 0, kOp, ": checkpoints is not the tree's");
  check_planes(ends, 2, 3, position, "ends");
  check_planes(checkpoints, checkpoints.size(0), 4, position, "checkpoints");
  check_planes(drawn, 2, 2, position, "drawn");
  check_rows(energies, 2, position, wide, "energies");
  check_rows(weights, 4, position, ScalarType::Double, "weights");
  check_rows(counts, 2, position, ScalarType::Long, "counts");
  check_rows(flags, 3, position, ScalarType::Bool, "flags");
  STD_TORCH_CHECK(energy.dim() == 1 && energy.size(0) == chains.count &&
                      energy.scalar_type() == wide && same_device(energy, position),
                  kOp, ": energy must have one entry a chain, in the accumulation dtype");
  check_key(key, position, kOp);
  STD_TORCH_CHECK(std::isfinite(step_size) && step_size >= 0.0, kOp,
                  ": step_size must be finite and not negative");
  STD_TORCH_CHECK(std::isfinite(inverse_mass) && inverse_mass > 0.0, kOp,
                  ": inverse_mass must be finite and positive");
  STD_TORCH_CHECK(!step_sizes || step_sizes->dim() <= 1, kOp, ": step_sizes must be one a chain");
  STD_TORCH_CHECK(max_energy_error > 0.0, kOp, ": max_energy_error must be positive");
  const std::int64_t max_depth = checkpoints.size(0) + 1;
  STD_TORCH_CHECK(max_depth <= 20 && leaf >= 0 && leaf < (std::int64_t{1} << max_depth) - 1, kOp,
                  ": the tree has no such leaf");
  STD_TORCH_CHECK(first_chain >= 0 && first_chain <= (std::int64_t{1} << 38) - chains.count, kOp,
                  ": first_chain must not be negative, nor too large");

  const Tensor* const tree[] = {&position, &momentum, &ends,   &checkpoints, &drawn,
                                &energies, &weights,  &counts, &flags};
  for (const Tensor* a : tree)
    for (const Tensor* b : tree)
      STD_TORCH_CHECK(a == b || a->numel() == 0 || b->numel() == 0 ||
                          !(a->const_data_ptr() == b->const_data_ptr() || overwrites(*a, *b)),
                      kOp, ": tensors of the tree share memory");

  // Read while the tree is written to.
  const auto apart = [&](const Tensor& tensor) {
    for (const Tensor* out : {&position, &momentum, &ends, &checkpoints, &drawn, &energies})
      if (tensor.const_data_ptr() == out->const_data_ptr() || overwrites(*out, tensor))
        return torch::stable::clone(tensor);
    return as_contiguous(tensor);
  };
  const Tensor energy_c = apart(energy), grad_c = apart(grad);
  NutsLeaf args{};
  args.dtype = dtype_of(position, kOp);
  args.chains = chains.count;
  args.chain_size = chains.size;
  args.step_size = coefficient(kOp, step_sizes, step_size, position, chains.count, chains.size);
  args.inverse_mass =
      coefficient(kOp, inverse_masses, inverse_mass, position, chains.count, chains.size);
  args.position = position.mutable_data_ptr();
  args.momentum = momentum.mutable_data_ptr();
  args.ends = ends.mutable_data_ptr();
  args.checkpoints = checkpoints.mutable_data_ptr();
  args.drawn = drawn.mutable_data_ptr();
  args.energies = energies.mutable_data_ptr();
  args.weights = static_cast<double*>(weights.mutable_data_ptr());
  args.counts = static_cast<std::int64_t*>(counts.mutable_data_ptr());
  args.flags = static_cast<bool*>(flags.mutable_data_ptr());
  args.energy = energy_c.const_data_ptr();
  args.grad = grad_c.const_data_ptr();
  args.key = static_cast<const std::int64_t*>(key.const_data_ptr());
  args.first_chain = first_chain;
  args.leaf = leaf;
  args.max_depth = max_depth;
  args.max_energy_error = max_energy_error;
  launch_chains(position, args, GENCORE_KERNELS(nuts_leaf));
}

}  // namespace

GENCORE_OPERATORS(
    {"nuts_leaf_(Tensor(a!) position, Tensor(b!) momentum, Tensor(c!) ends, "
     "Tensor(d!) checkpoints, Tensor(e!) drawn, Tensor(f!) energies, Tensor(g!) weights, "
     "Tensor(h!) counts, Tensor(i!) flags, Tensor energy, Tensor grad, Tensor "
     "key, " GENCORE_LEAPFROG_COEFFICIENTS
     ", int leaf, int first_chain, float max_energy_error) -> ()",
     TORCH_BOX(&nuts_leaf)});

}  // namespace gencore
