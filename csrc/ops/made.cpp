// The inverse of an autoregressive layer: checks, layouts and memory; the kernels do the
// rest.
#include <cstdint>
#include <tuple>
#include <vector>

#include "dispatch.h"
#include "registration.h"
#include "splines.h"
#include "tensors.h"

namespace gencore {
namespace {

// Samples that one thread takes at a time.
constexpr std::int64_t kSampleGrain = 16;

std::tuple<Tensor, Tensor> made_inverse(Tensor z, std::vector<Tensor> weights,
                                        std::vector<Tensor> biases, Tensor unit_ends,
                                        OptionalTensor context_term, std::int64_t activation,
                                        double negative_slope, std::int64_t step, double bound,
                                        double tail_bound, double min_width, double min_height,
                                        double min_derivative) {
  const char* op = "made_inverse";
  STD_TORCH_CHECK(z.dim() == 2 && z.size(1) > 0, op, ": z must be [N, D]");
  STD_TORCH_CHECK(
      weights.size() == biases.size() && weights.size() >= 2 && weights.size() <= kMaxMlpLayers, op,
      ": the network must have 1 to 4 hidden layers");
  STD_TORCH_CHECK(activation >= 0 && activation <= static_cast<int>(Activation::kLeakyRelu), op,
                  ": unknown activation");
  STD_TORCH_CHECK(step >= 0 && step <= static_cast<int>(AutoregressiveStep::kSpline), op,
                  ": unknown step");
  const Tensor z_c = as_contiguous(z);
  const auto check = [&](const Tensor& tensor, std::int64_t rows, std::int64_t columns) {
    STD_TORCH_CHECK(tensor.scalar_type() == accumulation_type(z) && same_device(tensor, z) &&
                        tensor.numel() == rows * columns && tensor.size(0) == rows,
                    op, ": a parameter or the context term does not fit");
  };
  MadeInverse args{};
  args.dtype = dtype_of(z, op);
  args.rows = z.size(0);
  args.mlp.layers = static_cast<int>(weights.size());
  args.mlp.activation = static_cast<Activation>(activation);
  args.mlp.negative_slope = negative_slope;
  args.mlp.widths[0] = z.size(1);
  for (int l = 0; l < args.mlp.layers; ++l) {
    const std::int64_t inputs = args.mlp.widths[l], outputs = biases[l].numel();
    check(weights[l], outputs, inputs);
    check(biases[l], outputs, 1);
    weights[l] = as_contiguous(weights[l]);
    biases[l] = as_contiguous(biases[l]);
    args.mlp.widths[l + 1] = outputs;
    args.mlp.weights[l] = weights[l].const_data_ptr();
    args.mlp.biases[l] = biases[l].const_data_ptr();
  }
  args.step = static_cast<AutoregressiveStep>(step);
  args.bound = bound;
  const std::int64_t outputs = args.mlp.widths[args.mlp.layers];
  if (args.is_spline())
    args.spline = spline_settings(op, (outputs / z.size(1) + 1) / 3, tail_bound, bound, min_width,
                                  min_height, min_derivative);
  STD_TORCH_CHECK(outputs == args.outputs() * z.size(1), op,
                  ": the network must have 2 D outputs, or 3 K - 1 times D for splines");
  STD_TORCH_CHECK(unit_ends.scalar_type() == ScalarType::Long && same_device(unit_ends, z) &&
                      unit_ends.numel() == args.hidden_layers() * z.size(1),
                  op, ": unit_ends must be int64 [hidden layers, D]");
  const Tensor ends = as_contiguous(unit_ends);
  args.unit_ends = static_cast<const std::int64_t*>(ends.const_data_ptr());
  const OptionalTensor term = as_contiguous(context_term);
  if (term) check(*term, z.size(0), args.mlp.widths[1]);
  args.context_term = data(term);
  args.z = z_c.const_data_ptr();
  Tensor x = with_huge_pages(torch::stable::new_empty(z_c, {z.size(0), z.size(1)}));
  Tensor log_det = per_chain_result(z_c);
  args.x = x.mutable_data_ptr();
  args.log_det = log_det.mutable_data_ptr();
  launch_items(z_c, args, args.rows, kSampleGrain, GENCORE_KERNELS(made_inverse));
  return {x, log_det};
}

}  // namespace

GENCORE_OPERATORS(
    {"made_inverse(Tensor z, Tensor[] weights, Tensor[] biases, Tensor unit_ends, "
     "Tensor? context_term, int activation, float negative_slope, int step, float bound, "
     "float tail_bound, float min_width, float min_height, float min_derivative) -> "
     "(Tensor, Tensor)",
     TORCH_BOX(&made_inverse)});

}  // namespace gencore
