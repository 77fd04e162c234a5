// Image warping: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Elements that a thread is worth: gathering and scattering cost more than a pass does.
constexpr std::int64_t kElements = 8192;
// Positions are computed in fp32, which knows every whole number up to here.
constexpr std::int64_t kLargestSide = std::int64_t{1} << 24;

template <class Arguments>
Arguments warp_arguments(const char* op, const Tensor& x, const Tensor& flow, bool border) {
  STD_TORCH_CHECK(x.dim() == 4 && flow.dim() == 4 && flow.size(0) == x.size(0) &&
                      flow.size(1) == 2 && flow.size(2) == x.size(2) && flow.size(3) == x.size(3),
                  op, ": x must be [N, C, H, W] and flow [N, 2, H, W]");
  STD_TORCH_CHECK(flow.scalar_type() == accumulation_type(x) && same_device(flow, x), op,
                  ": flow must be of the accumulation dtype, on the device of x");
  STD_TORCH_CHECK(std::max(x.size(2), x.size(3)) <= kLargestSide &&
                      x.size(2) * x.size(3) < std::int64_t{1} << 31,
                  op, ": an image is too large");
  Arguments args{};
  args.dtype = dtype_of(x, op);
  args.border = border;
  args.images = x.size(0);
  args.channels = x.size(1);
  args.height = x.size(2);
  args.width = x.size(3);
  args.x = x.const_data_ptr();
  args.flow = flow.const_data_ptr();
  return args;
}

// How many rows, of all channels, are worth a thread.
std::int64_t row_grain(const WarpArguments& args) {
  return std::max<std::int64_t>(kElements / (args.width * (args.channels + 4)), 1);
}

Tensor warp(Tensor x, Tensor flow, bool border) {
  const Tensor x_c = as_contiguous(x), flow_c = as_contiguous(flow);
  auto args = warp_arguments<Warp>("warp", x_c, flow_c, border);
  Result out(x);
  args.out = out.data();
  if (x.numel() > 0)
    launch_items(x_c, args, args.images * args.height, row_grain(args), GENCORE_KERNELS(warp));
  return out.finish();
}

Tensor x_backward(const Tensor& grad, const Tensor& x, const Tensor& flow, bool border) {
  auto args = warp_arguments<WarpXBackward>("warp_backward", x, flow, border);
  Tensor x_grad = with_huge_pages(torch::stable::new_empty(x, x.sizes(), accumulation_type(x)));
  args.grad_out = grad.const_data_ptr();
  args.x_grad = x_grad.mutable_data_ptr();
  Tensor largest, sums;
  if (!x.is_cpu()) {
    largest = torch::stable::new_empty(x, {args.images, args.channels}, ScalarType::Double);
    sums = torch::stable::new_zeros(x, x.sizes(), ScalarType::Long);
    args.largest = static_cast<double*>(largest.mutable_data_ptr());
    args.sums = static_cast<std::uint64_t*>(sums.mutable_data_ptr());
  }
  if (x.numel() > 0)
    launch_items(x, args, args.images * args.channels,
                 std::max<std::int64_t>(kElements / args.plane(), 1),
                 GENCORE_KERNELS(warp_x_backward));
  if (x.scalar_type() == x_grad.scalar_type()) return x_grad;
  Tensor rounded = torch::stable::empty_like(x);
  torch::stable::copy_(rounded, x_grad);
  return rounded;
}

Tensor flow_backward(const Tensor& grad, const Tensor& x, const Tensor& flow, bool border) {
  auto args = warp_arguments<WarpFlowBackward>("warp_backward", x, flow, border);
  Tensor flow_grad = empty_result(flow);
  args.grad_out = grad.const_data_ptr();
  args.flow_grad = flow_grad.mutable_data_ptr();
  if (x.numel() > 0)
    launch_items(x, args, args.images * args.height, row_grain(args),
                 GENCORE_KERNELS(warp_flow_backward));
  else
    torch::stable::zero_(flow_grad);  // without channels there is a flow nevertheless
  return flow_grad;
}

std::tuple<Tensor, Tensor> warp_backward(Tensor grad_out, Tensor x, Tensor flow, bool border,
                                         bool needs_x, bool needs_flow) {
  check_matches(grad_out, x, "warp_backward", "grad_out");
  const Tensor grad_c = as_contiguous(grad_out), x_c = as_contiguous(x),
               flow_c = as_contiguous(flow);
  return {needs_x ? x_backward(grad_c, x_c, flow_c, border) : torch::stable::new_empty(x_c, {0}),
          needs_flow ? flow_backward(grad_c, x_c, flow_c, border)
                     : torch::stable::new_empty(flow_c, {0})};
}

}  // namespace

GENCORE_OPERATORS({"warp(Tensor x, Tensor flow, bool border) -> Tensor", TORCH_BOX(&warp)},
                  {"warp_backward(Tensor grad_out, Tensor x, Tensor flow, bool border, "
                   "bool needs_x, bool needs_flow) -> (Tensor, Tensor)",
                   TORCH_BOX(&warp_backward)});

}  // namespace gencore
