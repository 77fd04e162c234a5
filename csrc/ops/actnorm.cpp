// Actnorm's operators: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

ActnormShape shape_of(const char* op, const Tensor& x, bool inverse) {
  STD_TORCH_CHECK(x.dim() >= 2, op, ": x must have dimensions for the images and the channels");
  std::int64_t positions = 1;
  for (std::int64_t k = 2; k < x.dim(); ++k) positions *= x.size(k);
  return {dtype_of(x, op), inverse, x.size(0), x.size(1), positions};
}

Tensor parameter(const char* op, const Tensor& values, const Tensor& x, const char* name) {
  STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == x.size(1) && same_device(values, x) &&
                      values.scalar_type() == accumulation_type(x),
                  op, ": ", name, " must have an entry a channel, in the accumulation dtype");
  return as_contiguous(values);
}

// The channels' factors; the log-determinants too, where they are wanted.
Tensor make_scales(const ActnormShape& shape, const Tensor& x, const Tensor& log_scale,
                   void* log_det) {
  Tensor scale = torch::stable::new_empty(x, {shape.channels}, accumulation_type(x));
  ActnormScales args{shape, log_scale.const_data_ptr(), scale.mutable_data_ptr(), log_det};
  launch_items(x, args, 1, 1, GENCORE_KERNELS(actnorm_scales));
  return scale;
}

std::tuple<Tensor, Tensor> actnorm(Tensor x, Tensor log_scale, Tensor bias, bool inverse) {
  const char* op = "actnorm";
  const ActnormShape shape = shape_of(op, x, inverse);
  const Tensor log_scale_c = parameter(op, log_scale, x, "log_scale");
  const Tensor bias_c = parameter(op, bias, x, "bias");
  const Tensor x_c = as_contiguous(x), log_det = per_chain_result(x);
  const Tensor scale = make_scales(shape, x, log_scale_c, log_det.mutable_data_ptr());
  Result out(x);
  const Actnorm args{
      shape,     x.numel(), x_c.const_data_ptr(), scale.const_data_ptr(), bias_c.const_data_ptr(),
      out.data()};
  launch(x, args, GENCORE_KERNELS(actnorm));
  return {out.finish(), log_det};
}

// In how many parts a channel is summed.
std::int64_t parts_of(const ActnormShape& shape, bool is_cpu) {
  if (is_cpu) return shape.positions == 1 ? 1 : shape.images;
  constexpr std::int64_t kMostParts = 1024;
  const std::int64_t elements = shape.images * shape.positions;
  const std::int64_t part = shape.positions == 1 ? 128 : 1024;
  return std::min((elements + part - 1) / part, kMostParts);
}

std::tuple<Tensor, Tensor, Tensor> actnorm_backward(Tensor grad_out, Tensor grad_log_det, Tensor x,
                                                    Tensor log_scale, Tensor bias, bool inverse) {
  const char* op = "actnorm_backward";
  const ActnormShape shape = shape_of(op, x, inverse);
  check_matches(grad_out, x, op, "grad_out");
  STD_TORCH_CHECK(grad_log_det.dim() == 1 && grad_log_det.size(0) == shape.images &&
                      grad_log_det.scalar_type() == accumulation_type(x) &&
                      same_device(grad_log_det, x),
                  op, ": grad_log_det must have an entry an image, in the accumulation dtype");
  const Tensor log_scale_c = parameter(op, log_scale, x, "log_scale");
  const Tensor bias_c = parameter(op, bias, x, "bias");
  const Tensor x_c = as_contiguous(x), grad_c = as_contiguous(grad_out),
               grad_log_det_c = as_contiguous(grad_log_det);
  const Tensor scale = make_scales(shape, x, log_scale_c, nullptr);
  const std::int64_t parts = parts_of(shape, x.is_cpu());
  Tensor sums = torch::stable::new_empty(x, {parts, shape.channels, 2}, ScalarType::Double);
  Tensor grad_log_scale = torch::stable::empty_like(log_scale_c);
  Tensor grad_bias = torch::stable::empty_like(bias_c);
  Result grad_x(x);
  double* const partial = static_cast<double*>(sums.mutable_data_ptr());

  const ActnormBackward args{shape,
                             grad_c.const_data_ptr(),
                             x_c.const_data_ptr(),
                             scale.const_data_ptr(),
                             grad_x.data(),
                             parts,
                             partial};
  // An item is a column of single elements or a plane.
  const bool columns = shape.positions == 1;
  const std::int64_t items = columns ? shape.channels : shape.images * shape.channels;
  const std::int64_t size = std::max<std::int64_t>(columns ? shape.images : shape.positions, 1);
  launch_items(x, args, items, std::max<std::int64_t>(kParallelGrain / size, 1),
               GENCORE_KERNELS(actnorm_backward));

  const ActnormParameters last{shape,
                               scale.const_data_ptr(),
                               bias_c.const_data_ptr(),
                               grad_log_det_c.const_data_ptr(),
                               parts,
                               partial,
                               grad_log_scale.mutable_data_ptr(),
                               grad_bias.mutable_data_ptr()};
  launch_items(x, last, shape.channels, std::max<std::int64_t>(kParallelGrain / (parts + 1), 1),
               GENCORE_KERNELS(actnorm_parameters));
  return {grad_x.finish(), grad_log_scale, grad_bias};
}

}  // namespace

GENCORE_OPERATORS(
    {"actnorm(Tensor x, Tensor log_scale, Tensor bias, bool inverse) -> (Tensor, Tensor)",
     TORCH_BOX(&actnorm)},
    {"actnorm_backward(Tensor grad_out, Tensor grad_log_det, Tensor x, Tensor log_scale, "
     "Tensor bias, bool inverse) -> (Tensor, Tensor, Tensor)",
     TORCH_BOX(&actnorm_backward)});

}  // namespace gencore
