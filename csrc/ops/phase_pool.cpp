// Phase pooling and unpooling: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Elements that a thread is worth: an exponential each, or a share of a pool.
constexpr std::int64_t kElements = 8192;

// The settings of the schemas.
struct Settings {
  std::int64_t kernel[3];
  std::int64_t stride[3];
  std::int64_t padding[2];
  bool circular;
};

template <class Arguments>
Arguments pool_arguments(const char* op, const Tensor& like, std::int64_t images,
                         const std::int64_t (&sizes)[3], const Settings& settings) {
  Arguments args{};
  args.dtype = dtype_of(like, op);
  args.images = images;
  for (int axis = 0; axis < 3; ++axis) {
    const std::int64_t size = sizes[axis], kernel = settings.kernel[axis],
                       stride = settings.stride[axis],
                       padding = axis == 0 ? 0 : settings.padding[axis - 1];
    STD_TORCH_CHECK(kernel >= 1 && kernel < std::int64_t{1} << 24 && stride >= 1 &&
                        stride < std::int64_t{1} << 30 && padding >= 0 && padding < kernel &&
                        size >= 1 && size < std::int64_t{1} << 30 && size + 2 * padding >= kernel,
                    op, ": the pools do not fit the map");
    args.size[axis] = size;
    args.kernel[axis] = kernel;
    args.stride[axis] = stride;
    args.padding[axis] = padding;
    args.pools[axis] = (size + 2 * padding - kernel) / stride + 1;
  }
  if (settings.circular) {
    STD_TORCH_CHECK(sizes[0] % settings.stride[0] == 0, op,
                    ": features in a circle must be a multiple of the stride");
    args.pools[0] = sizes[0] / settings.stride[0];
  }
  STD_TORCH_CHECK(args.dims() > 0, op, ": a pool has one element");
  STD_TORCH_CHECK(args.plane() < std::int64_t{1} << 31 && args.pool_plane() < std::int64_t{1} << 31,
                  op, ": a map is too large");
  return args;
}

enum class Operand { kMagnitude, kPhase };

// Raises unless a tensor has a value a pool, or one for each of its phases.
void check_operand(const Tensor& tensor, Operand kind, const PhasePools& args, ScalarType type,
                   const Tensor& like, const char* op) {
  const std::int64_t dims = kind == Operand::kPhase ? 1 : 0;
  bool fits = tensor.dim() == 4 + dims && tensor.size(0) == args.images &&
              tensor.size(1) == args.pools[0] && tensor.size(2 + dims) == args.pools[1] &&
              tensor.size(3 + dims) == args.pools[2];
  if (fits && dims > 0) fits = tensor.size(2) == args.dims();
  STD_TORCH_CHECK(fits && tensor.scalar_type() == type && same_device(tensor, like), op,
                  ": an operand has another shape, dtype or device than the pools");
}

Tensor magnitudes(const Tensor& like, const PhasePools& args, ScalarType type) {
  return torch::stable::new_empty(like, {args.images, args.pools[0], args.pools[1], args.pools[2]},
                                  type);
}

Tensor phases(const Tensor& like, const PhasePools& args, ScalarType type) {
  return torch::stable::new_empty(
      like, {args.images, args.pools[0], args.dims(), args.pools[1], args.pools[2]}, type);
}

// How many items are worth a thread, of which each is so many elements.
std::int64_t grain(std::int64_t elements) {
  return std::max<std::int64_t>(kElements / std::max<std::int64_t>(elements, 1), 1);
}

// Elements of the map that a row of pools holds.
std::int64_t row_elements(const PhasePools& args) {
  return args.kernel[0] * args.kernel[1] * args.size[2];
}

template <class Arguments>
Arguments pool_arguments(const char* op, const Tensor& z, const OptionalTensor& beta, double number,
                         const Settings& settings) {
  STD_TORCH_CHECK(z.dim() == 4, op, ": z must be [N, F, H, W]");
  auto args =
      pool_arguments<Arguments>(op, z, z.size(0), {z.size(1), z.size(2), z.size(3)}, settings);
  args.z = z.const_data_ptr();
  args.beta = {nullptr, number, 0, 0};
  if (beta) {
    const std::int64_t entries = beta->numel();
    STD_TORCH_CHECK((beta->dim() == 0 || (beta->dim() == 1 && entries == args.pools[0])) &&
                        beta->scalar_type() == accumulation_type(z) && same_device(*beta, z),
                    op, ": beta must be [] or [G], of the accumulation dtype");
    args.beta = {beta->const_data_ptr(), number, beta->dim(), 0};
  }
  return args;
}

std::tuple<Tensor, Tensor, Tensor> phase_pool(Tensor z, OptionalTensor beta, double number,
                                              std::int64_t kernel_features,
                                              std::int64_t kernel_rows, std::int64_t kernel_columns,
                                              std::int64_t stride_features,
                                              std::int64_t stride_rows, std::int64_t stride_columns,
                                              std::int64_t padding_rows,
                                              std::int64_t padding_columns, bool circular) {
  const Tensor z_c = as_contiguous(z);
  const OptionalTensor beta_c = as_contiguous(beta);
  auto args = pool_arguments<PhasePool>("phase_pool", z_c, beta_c, number,
                                        {{kernel_features, kernel_rows, kernel_columns},
                                         {stride_features, stride_rows, stride_columns},
                                         {padding_rows, padding_columns},
                                         circular});
  const ScalarType wide = accumulation_type(z_c);
  Tensor magnitude = magnitudes(z_c, args, wide), phase = phases(z_c, args, wide),
         entropy = magnitudes(z_c, args, wide);
  args.magnitude = magnitude.mutable_data_ptr();
  args.phase = phase.mutable_data_ptr();
  args.entropy = entropy.mutable_data_ptr();
  launch_items(z_c, args, args.images * args.pools[0] * args.pools[1], grain(row_elements(args)),
               GENCORE_KERNELS(phase_pool));
  return {magnitude, phase, entropy};
}

Tensor z_backward(const Tensor& z, PhasePoolBackward args) {
  Tensor z_grad = with_huge_pages(torch::stable::new_empty(z, z.sizes(), accumulation_type(z)));
  args.z_grad = z_grad.mutable_data_ptr();
  const std::int64_t overlap = (args.kernel[0] + args.stride[0] - 1) / args.stride[0] *
                               ((args.kernel[1] + args.stride[1] - 1) / args.stride[1]);
  launch_items(z, args, args.images * args.size[0], grain(overlap * args.plane()),
               GENCORE_KERNELS(phase_pool_backward));
  if (z.scalar_type() == z_grad.scalar_type()) return z_grad;
  Tensor rounded = torch::stable::new_empty(z, z.sizes());
  torch::stable::copy_(rounded, z_grad);
  return rounded;
}

Tensor sum_over(const Tensor& tensor, std::int64_t dim) {
  return torch::stable::sum(tensor, torch::headeronly::IntHeaderOnlyArrayRef(&dim, 1));
}

Tensor beta_backward(const Tensor& z, const Tensor& beta, PhasePoolBackward args) {
  Tensor beta_grad = torch::stable::new_empty(z, {args.images, args.pools[0], args.pools[1]},
                                              accumulation_type(z));
  args.beta_grad = beta_grad.mutable_data_ptr();
  launch_items(z, args, args.images * args.pools[0] * args.pools[1], grain(row_elements(args)),
               GENCORE_KERNELS(phase_pool_beta_backward));
  // One dimension after the other, so that no sum depends on the number of threads.
  beta_grad = sum_over(sum_over(beta_grad, 2), 0);
  return beta.dim() == 0 ? sum_over(beta_grad, 0) : beta_grad;
}

std::tuple<Tensor, Tensor> phase_pool_backward(
    Tensor grad_magnitude, Tensor grad_phase, Tensor z, OptionalTensor beta, Tensor magnitude,
    Tensor phase, Tensor entropy, bool needs_z, bool needs_beta, double number,
    std::int64_t kernel_features, std::int64_t kernel_rows, std::int64_t kernel_columns,
    std::int64_t stride_features, std::int64_t stride_rows, std::int64_t stride_columns,
    std::int64_t padding_rows, std::int64_t padding_columns, bool circular) {
  const char* op = "phase_pool_backward";
  const Tensor z_c = as_contiguous(z);
  const OptionalTensor beta_c = as_contiguous(beta);
  auto args = pool_arguments<PhasePoolBackward>(op, z_c, beta_c, number,
                                                {{kernel_features, kernel_rows, kernel_columns},
                                                 {stride_features, stride_rows, stride_columns},
                                                 {padding_rows, padding_columns},
                                                 circular});
  STD_TORCH_CHECK(!needs_beta || beta, op, ": a number has no gradient");
  const ScalarType wide = accumulation_type(z_c);
  for (const Tensor* each : {&grad_magnitude, &magnitude, &entropy})
    check_operand(*each, Operand::kMagnitude, args, wide, z_c, op);
  for (const Tensor* each : {&grad_phase, &phase})
    check_operand(*each, Operand::kPhase, args, wide, z_c, op);
  const Tensor grad_magnitude_c = as_contiguous(grad_magnitude),
               grad_phase_c = as_contiguous(grad_phase), magnitude_c = as_contiguous(magnitude),
               phase_c = as_contiguous(phase), entropy_c = as_contiguous(entropy);
  args.grad_magnitude = grad_magnitude_c.const_data_ptr();
  args.grad_phase = grad_phase_c.const_data_ptr();
  args.magnitude = magnitude_c.const_data_ptr();
  args.phase = phase_c.const_data_ptr();
  args.entropy = entropy_c.const_data_ptr();
  return {
      needs_z ? z_backward(z_c, args) : torch::stable::new_empty(z_c, {0}),
      needs_beta ? beta_backward(z_c, *beta_c, args) : torch::stable::new_empty(z_c, {0}, wide)};
}

template <class Arguments>
Arguments unpool_arguments(const char* op, const Tensor& magnitude, const Tensor& phase,
                           const std::int64_t (&sizes)[3], bool clamp, const Settings& settings) {
  STD_TORCH_CHECK(magnitude.dim() == 4, op, ": magnitude must be [N, G, h, w]");
  auto args = pool_arguments<Arguments>(op, magnitude, magnitude.size(0), sizes, settings);
  const ScalarType type = magnitude.scalar_type();
  check_operand(magnitude, Operand::kMagnitude, args, type, magnitude, op);
  check_operand(phase, Operand::kPhase, args, type, magnitude, op);
  args.clamp = clamp;
  args.magnitude = magnitude.const_data_ptr();
  args.phase = phase.const_data_ptr();
  return args;
}

Tensor phase_unpool(Tensor magnitude, Tensor phase, std::int64_t features, std::int64_t rows,
                    std::int64_t columns, bool clamp, std::int64_t kernel_features,
                    std::int64_t kernel_rows, std::int64_t kernel_columns,
                    std::int64_t stride_features, std::int64_t stride_rows,
                    std::int64_t stride_columns, std::int64_t padding_rows,
                    std::int64_t padding_columns, bool circular) {
  const Tensor magnitude_c = as_contiguous(magnitude), phase_c = as_contiguous(phase);
  auto args = unpool_arguments<PhaseUnpool>("phase_unpool", magnitude_c, phase_c,
                                            {features, rows, columns}, clamp,
                                            {{kernel_features, kernel_rows, kernel_columns},
                                             {stride_features, stride_rows, stride_columns},
                                             {padding_rows, padding_columns},
                                             circular});
  Tensor out = with_huge_pages(torch::stable::new_empty(
      magnitude_c, {args.images, features, rows, columns}, accumulation_type(magnitude_c)));
  args.out = out.mutable_data_ptr();
  launch_items(magnitude_c, args, args.images * features, grain(args.plane()),
               GENCORE_KERNELS(phase_unpool));
  if (out.scalar_type() == magnitude_c.scalar_type()) return out;
  Tensor rounded = torch::stable::new_empty(magnitude_c, out.sizes());
  torch::stable::copy_(rounded, out);
  return rounded;
}

std::tuple<Tensor, Tensor> phase_unpool_backward(
    Tensor grad_out, Tensor magnitude, Tensor phase, bool clamp, std::int64_t kernel_features,
    std::int64_t kernel_rows, std::int64_t kernel_columns, std::int64_t stride_features,
    std::int64_t stride_rows, std::int64_t stride_columns, std::int64_t padding_rows,
    std::int64_t padding_columns, bool circular) {
  const char* op = "phase_unpool_backward";
  const Tensor grad_c = as_contiguous(grad_out), magnitude_c = as_contiguous(magnitude),
               phase_c = as_contiguous(phase);
  STD_TORCH_CHECK(grad_c.dim() == 4, op, ": grad_out must be [N, F, H, W]");
  auto args = unpool_arguments<PhaseUnpoolBackward>(
      op, magnitude_c, phase_c, {grad_c.size(1), grad_c.size(2), grad_c.size(3)}, clamp,
      {{kernel_features, kernel_rows, kernel_columns},
       {stride_features, stride_rows, stride_columns},
       {padding_rows, padding_columns},
       circular});
  STD_TORCH_CHECK(grad_c.size(0) == args.images &&
                      grad_c.scalar_type() == magnitude_c.scalar_type() &&
                      same_device(grad_c, magnitude_c),
                  op, ": grad_out must be [N, F, H, W], of the magnitude's dtype and device");
  Tensor magnitude_grad = magnitudes(magnitude_c, args, magnitude_c.scalar_type()),
         phase_grad = phases(magnitude_c, args, magnitude_c.scalar_type());
  args.grad_out = grad_c.const_data_ptr();
  args.magnitude_grad = magnitude_grad.mutable_data_ptr();
  args.phase_grad = phase_grad.mutable_data_ptr();
  launch_items(magnitude_c, args, args.images * args.pools[0] * args.pools[1],
               grain(8 * args.pools[2]), GENCORE_KERNELS(phase_unpool_backward));
  return {magnitude_grad, phase_grad};
}

}  // namespace

#define GENCORE_POOLS                                                                   \
  "int kernel_features, int kernel_rows, int kernel_columns, int stride_features, int " \
  "stride_rows, "                                                                       \
  "int stride_columns, int padding_rows, int padding_columns, bool circular"

GENCORE_OPERATORS({"phase_pool(Tensor z, Tensor? beta, float number, " GENCORE_POOLS
                   ") -> (Tensor, Tensor, Tensor)",
                   TORCH_BOX(&phase_pool)},
                  {"phase_pool_backward(Tensor grad_magnitude, Tensor grad_phase, Tensor z, "
                   "Tensor? beta, Tensor magnitude, Tensor phase, Tensor entropy, bool needs_z, "
                   "bool needs_beta, float number, " GENCORE_POOLS ") -> (Tensor, Tensor)",
                   TORCH_BOX(&phase_pool_backward)},
                  {"phase_unpool(Tensor magnitude, Tensor phase, int features, int rows, "
                   "int columns, bool clamp, " GENCORE_POOLS ") -> Tensor",
                   TORCH_BOX(&phase_unpool)},
                  {"phase_unpool_backward(Tensor grad_out, Tensor magnitude, Tensor phase, "
                   "bool clamp, " GENCORE_POOLS ") -> (Tensor, Tensor)",
                   TORCH_BOX(&phase_unpool_backward)});

}  // namespace gencore
