// Categorical pixels: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "pixels.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

template <class Arguments>
Arguments categorical_arguments(const char* op, const Tensor& logits, const Tensor& x) {
  auto args = pixel_arguments<Arguments>(op, logits, x);
  STD_TORCH_CHECK(logits.size(1) > 0 && logits.size(1) % args.channels == 0, op,
                  ": logits must have some channels for each of x");
  args.levels = logits.size(1) / args.channels;
  STD_TORCH_CHECK(args.levels < std::int64_t{1} << 31, op, ": too many levels");
  args.logits = logits.const_data_ptr();
  return args;
}

// How many pieces are worth a thread.
std::int64_t grain(const CategoricalArguments& args) {
  return std::max<std::int64_t>(kParallelGrain / (kPixelsAPiece * args.channels * args.levels), 1);
}

std::tuple<Tensor, Tensor> categorical_log_prob(Tensor logits, Tensor x) {
  const Tensor logits_c = as_contiguous(logits), x_c = as_contiguous(x);
  auto args = categorical_arguments<Categorical>("categorical_log_prob", logits_c, x_c);
  Tensor log_prob = pixel_result(x_c, logits_c);
  Tensor normalizer = torch::stable::new_empty(logits_c, x_c.sizes(), accumulation_type(logits_c));
  args.log_prob = log_prob.mutable_data_ptr();
  args.log_normalizer = normalizer.mutable_data_ptr();
  launch_items(logits_c, args, pieces(args), grain(args), GENCORE_KERNELS(categorical));
  return {log_prob, normalizer};
}

Tensor categorical_log_prob_backward(Tensor grad, Tensor normalizer_grad, Tensor logits, Tensor x,
                                     Tensor log_normalizer) {
  const char* op = "categorical_log_prob_backward";
  const Tensor logits_c = as_contiguous(logits), x_c = as_contiguous(x),
               grad_c = as_contiguous(grad), normalizer_grad_c = as_contiguous(normalizer_grad),
               normalizer_c = as_contiguous(log_normalizer);
  auto args = categorical_arguments<CategoricalBackward>(op, logits_c, x_c);
  check_pixel_grad(grad, logits, args.images * args.plane, op, "grad");
  check_pixel_grad(normalizer_grad, logits, x.numel(), op, "normalizer_grad");
  check_pixel_grad(log_normalizer, logits, x.numel(), op, "log_normalizer");
  Result logits_grad(logits);
  args.grad = grad_c.const_data_ptr();
  args.normalizer_grad = normalizer_grad_c.const_data_ptr();
  args.log_normalizer = normalizer_c.const_data_ptr();
  args.logits_grad = logits_grad.data();
  launch_items(logits_c, args, pieces(args), grain(args), GENCORE_KERNELS(categorical_backward));
  return logits_grad.finish();
}

}  // namespace

GENCORE_OPERATORS({"categorical_log_prob(Tensor logits, Tensor x) -> (Tensor, Tensor)",
                   TORCH_BOX(&categorical_log_prob)},
                  {"categorical_log_prob_backward(Tensor grad, Tensor normalizer_grad, "
                   "Tensor logits, Tensor x, Tensor log_normalizer) -> Tensor",
                   TORCH_BOX(&categorical_log_prob_backward)});

}  // namespace gencore
