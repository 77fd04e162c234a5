// Pixels in bins of logistic distributions: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "pixels.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// The settings of the schemas.
struct Settings {
  std::int64_t levels;
  std::int64_t components;
  bool weighted;
  bool coupled;
  std::int64_t bin_size;
  double first_edge;
  double min_log_scale;
};

template <class Arguments>
Arguments mixture_arguments(const char* op, const Tensor& parameters,
                            const OptionalTensor& log_scale, const Tensor& x, const Settings& s) {
  auto args = pixel_arguments<Arguments>(op, parameters, x);
  STD_TORCH_CHECK(
      s.levels >= 2 && s.levels <= 65536 && s.bin_size >= 1 && s.levels % s.bin_size == 0, op,
      ": expected 2 to 65536 levels, in bins of one size");
  STD_TORCH_CHECK(
      s.components >= 1 && s.components <= parameters.size(1) && (s.weighted || s.components == 1),
      op, ": several components need weights");
  STD_TORCH_CHECK(s.min_log_scale >= -30.0 && s.min_log_scale <= 30.0, op,
                  ": min_log_scale must be from -30 to 30");
  args.levels = s.levels;
  args.components = s.components;
  args.weighted = s.weighted;
  args.coupled = s.coupled;
  args.bin_size = s.bin_size;
  args.first_edge = s.first_edge;
  args.min_log_scale = s.min_log_scale;
  args.parameters = parameters.const_data_ptr();
  args.log_scale = data(log_scale);
  if (log_scale)
    STD_TORCH_CHECK(log_scale->numel() == args.channels && args.components == 1 &&
                        log_scale->scalar_type() == accumulation_type(parameters) &&
                        same_device(*log_scale, parameters),
                    op, ": log_scale must have an entry a channel, in the accumulation dtype");
  STD_TORCH_CHECK(parameters.size(1) == args.per_pixel(), op, ": expected ", args.per_pixel(),
                  " parameters a pixel");
  return args;
}

// How many pieces are worth a thread: a bin costs as much as some thirty additions.
std::int64_t grain(const LogisticMixtureArguments& args) {
  const std::int64_t bins = kPixelsAPiece * args.channels * args.components;
  return std::max<std::int64_t>(kParallelGrain / (16 * bins), 1);
}

Tensor logistic_mixture_log_prob(Tensor parameters, OptionalTensor log_scale, Tensor x,
                                 std::int64_t levels, std::int64_t components, bool weighted,
                                 bool coupled, std::int64_t bin_size, double first_edge,
                                 double min_log_scale) {
  const Tensor parameters_c = as_contiguous(parameters), x_c = as_contiguous(x);
  const OptionalTensor log_scale_c = as_contiguous(log_scale);
  auto args = mixture_arguments<LogisticMixture>(
      "logistic_mixture_log_prob", parameters_c, log_scale_c, x_c,
      {levels, components, weighted, coupled, bin_size, first_edge, min_log_scale});
  Tensor log_prob = pixel_result(x_c, parameters_c);
  args.log_prob = log_prob.mutable_data_ptr();
  launch_items(parameters_c, args, pieces(args), grain(args), GENCORE_KERNELS(logistic_mixture));
  return log_prob;
}

std::tuple<Tensor, Tensor> logistic_mixture_log_prob_backward(
    Tensor grad, Tensor parameters, OptionalTensor log_scale, Tensor x, std::int64_t levels,
    std::int64_t components, bool weighted, bool coupled, std::int64_t bin_size, double first_edge,
    double min_log_scale) {
  const char* op = "logistic_mixture_log_prob_backward";
  const Tensor grad_c = as_contiguous(grad), parameters_c = as_contiguous(parameters),
               x_c = as_contiguous(x);
  const OptionalTensor log_scale_c = as_contiguous(log_scale);
  auto args = mixture_arguments<LogisticMixtureBackward>(
      op, parameters_c, log_scale_c, x_c,
      {levels, components, weighted, coupled, bin_size, first_edge, min_log_scale});
  check_pixel_grad(grad, parameters, args.images * args.plane, op, "grad");
  Result parameters_grad(parameters);
  const ScalarType wide = accumulation_type(parameters_c);
  Tensor log_scale_grad = log_scale ? torch::stable::new_empty(parameters_c, x_c.sizes(), wide)
                                    : torch::stable::new_empty(parameters_c, {0}, wide);
  args.grad = grad_c.const_data_ptr();
  args.parameters_grad = parameters_grad.data();
  if (log_scale) args.log_scale_grad = log_scale_grad.mutable_data_ptr();
  launch_items(parameters_c, args, pieces(args), grain(args),
               GENCORE_KERNELS(logistic_mixture_backward));
  // One dimension after the other, so that no sum depends on the number of threads.
  if (log_scale) {
    for (const std::int64_t dim : {3, 2, 0}) {
      const std::int64_t dims[] = {dim};
      log_scale_grad =
          torch::stable::sum(log_scale_grad, torch::headeronly::IntHeaderOnlyArrayRef(dims, 1));
    }
  }
  return {parameters_grad.finish(), log_scale_grad};
}

}  // namespace

#define GENCORE_LOGISTIC_MIXTURE                                                 \
  "Tensor parameters, Tensor? log_scale, Tensor x, int levels, int components, " \
  "bool weighted, bool coupled, int bin_size, float first_edge, float min_log_scale"

GENCORE_OPERATORS({"logistic_mixture_log_prob(" GENCORE_LOGISTIC_MIXTURE ") -> Tensor",
                   TORCH_BOX(&logistic_mixture_log_prob)},
                  {"logistic_mixture_log_prob_backward(Tensor grad, " GENCORE_LOGISTIC_MIXTURE
                   ") -> (Tensor, Tensor)",
                   TORCH_BOX(&logistic_mixture_log_prob_backward)});

}  // namespace gencore
