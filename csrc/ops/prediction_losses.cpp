// The losses of predicted images: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Elements of an image that a block of CUDA's first pass sums.
constexpr std::int64_t kPiece = 1024;
constexpr std::int64_t kMostPieces = 256;

template <class Arguments>
Arguments losses_arguments(const char* op, const Tensor& x, const Tensor& other, std::int64_t p,
                           std::int64_t alpha) {
  STD_TORCH_CHECK(x.dim() == 4, op, ": the images must be [N, C, H, W]");
  check_matches(other, x, op, "the target");
  STD_TORCH_CHECK(x.size(2) * x.size(3) < std::int64_t{1} << 31, op, ": an image is too large");
  STD_TORCH_CHECK(p == 1 || p == 2, op, ": p must be 1 or 2");
  STD_TORCH_CHECK(alpha >= 0 && alpha < std::int64_t{1} << 31, op, ": alpha must be at least 0");
  Arguments args{};
  args.dtype = dtype_of(x, op);
  args.p = static_cast<int>(p);
  args.alpha = static_cast<int>(alpha);
  args.images = x.size(0);
  args.channels = x.size(1);
  args.height = x.size(2);
  args.width = x.size(3);
  args.x = x.const_data_ptr();
  args.other = other.const_data_ptr();
  return args;
}

std::tuple<Tensor, Tensor> prediction_losses(Tensor prediction, Tensor target, std::int64_t p,
                                             std::int64_t alpha) {
  const Tensor x = as_contiguous(prediction), other = as_contiguous(target);
  auto args = losses_arguments<PredictionLosses>("prediction_losses", x, other, p, alpha);
  Tensor lp = per_chain_result(x), difference = per_chain_result(x), sums;
  if (x.numel() == 0) {
    torch::stable::zero_(lp);
    torch::stable::zero_(difference);
    return {lp, difference};
  }
  const std::int64_t size = args.channels * args.plane();
  args.lp = lp.mutable_data_ptr();
  args.gradient_difference = difference.mutable_data_ptr();
  if (!x.is_cpu()) {
    args.pieces = std::min((size + kPiece - 1) / kPiece, kMostPieces);
    sums = torch::stable::new_empty(x, {2, args.images, args.pieces}, ScalarType::Double);
    args.sums = static_cast<double*>(sums.mutable_data_ptr());
  }
  launch_items(x, args, args.images, std::max<std::int64_t>(kParallelGrain / size, 1),
               GENCORE_KERNELS(prediction_losses));
  return {lp, difference};
}

void check_loss_grad(const Tensor& grad, const Tensor& x, const char* op, const char* name) {
  STD_TORCH_CHECK(grad.dim() == 1 && grad.size(0) == x.size(0) &&
                      grad.scalar_type() == accumulation_type(x) && same_device(grad, x),
                  op, ": ", name, " must have an entry an image, in the accumulation dtype");
}

Tensor prediction_losses_backward(Tensor lp_grad, Tensor gradient_difference_grad, Tensor x,
                                  Tensor other, std::int64_t p, std::int64_t alpha) {
  const char* op = "prediction_losses_backward";
  const Tensor x_c = as_contiguous(x), other_c = as_contiguous(other),
               lp_grad_c = as_contiguous(lp_grad),
               difference_grad_c = as_contiguous(gradient_difference_grad);
  auto args = losses_arguments<PredictionLossesBackward>(op, x_c, other_c, p, alpha);
  check_loss_grad(lp_grad, x, op, "lp_grad");
  check_loss_grad(gradient_difference_grad, x, op, "gradient_difference_grad");
  Result x_grad(x);
  args.lp_grad = lp_grad_c.const_data_ptr();
  args.gradient_difference_grad = difference_grad_c.const_data_ptr();
  args.x_grad = x_grad.data();
  if (x.numel() > 0)
    launch_items(x_c, args, args.images * args.channels,
                 std::max<std::int64_t>(kParallelGrain / args.plane(), 1),
                 GENCORE_KERNELS(prediction_losses_backward));
  return x_grad.finish();
}

}  // namespace

GENCORE_OPERATORS({"prediction_losses(Tensor prediction, Tensor target, int p, int alpha) -> "
                   "(Tensor, Tensor)",
                   TORCH_BOX(&prediction_losses)},
                  {"prediction_losses_backward(Tensor lp_grad, Tensor gradient_difference_grad, "
                   "Tensor x, Tensor other, int p, int alpha) -> Tensor",
                   TORCH_BOX(&prediction_losses_backward)});

}  // namespace gencore
