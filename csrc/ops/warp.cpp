// Warping: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

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
  const std::int64_t rank = x.dim() - 2;
  STD_TORCH_CHECK((rank == 2 || rank == 3) && flow.dim() == x.dim() && flow.size(1) == rank, op,
                  ": x must be [N, C, H, W] and flow [N K, 2, H, W], or x [N, C, D, H, W] and flow "
                  "[N K, 3, D, H, W]");
  Arguments args{};
  args.dtype = dtype_of(x, op);
  args.border = border;
  args.rank = static_cast<int>(rank);
  args.images = x.size(0);
  args.flows = args.images > 0 ? flow.size(0) / args.images : 1;
  STD_TORCH_CHECK(flow.size(0) == args.images * args.flows, op, ": flow has ", flow.size(0),
                  " fields for ", args.images, " images");
  args.channels = x.size(1);
  std::int64_t plane = 1;
  for (int a = 0; a < 3; ++a) {
    const std::int64_t dim = x.dim() - 1 - a;
    args.sizes[a] = a < rank ? x.size(dim) : 1;
    plane *= args.sizes[a];
    STD_TORCH_CHECK(a >= rank || flow.size(dim) == x.size(dim), op, ": flow and x differ in size");
    STD_TORCH_CHECK(args.sizes[a] <= kLargestSide && plane < std::int64_t{1} << 31, op,
                    ": an image is too large");
  }
  STD_TORCH_CHECK(flow.scalar_type() == accumulation_type(x) && same_device(flow, x), op,
                  ": flow must be of the accumulation dtype, on the device of x");
  args.x = x.const_data_ptr();
  args.flow = flow.const_data_ptr();
  return args;
}

// How many lines, of all channels and fields, are worth a thread.
std::int64_t line_grain(const WarpArguments& args) {
  const std::int64_t line = args.width() * args.flows * (args.channels + 4);
  return std::max<std::int64_t>(kElements / std::max<std::int64_t>(line, 1), 1);
}

std::vector<std::int64_t> result_shape(const Tensor& x, const Tensor& flow) {
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape[0] = flow.size(0);
  return shape;
}

Tensor warp(Tensor x, Tensor flow, bool border) {
  const Tensor x_c = as_contiguous(x), flow_c = as_contiguous(flow);
  auto args = warp_arguments<Warp>("warp", x_c, flow_c, border);
  const auto run = [&](void* out) {
    args.out = out;
    if (x.numel() > 0 && flow.numel() > 0)
      launch_items(x_c, args, args.images * args.lines(), line_grain(args), GENCORE_KERNELS(warp));
  };
  if (args.flows == 1) {
    Result out(x);
    run(out.data());
    return out.finish();
  }
  Tensor out = with_huge_pages(torch::stable::new_empty(x, result_shape(x, flow)));
  run(out.mutable_data_ptr());
  return out;
}

std::tuple<Tensor, Tensor> warp_backward(Tensor grad_out, Tensor x, Tensor flow, bool border,
                                         bool needs_x, bool needs_flow) {
  const char* const op = "warp_backward";
  const Tensor grad_c = as_contiguous(grad_out), x_c = as_contiguous(x),
               flow_c = as_contiguous(flow);
  auto args = warp_arguments<WarpBackward>(op, x_c, flow_c, border);
  const auto shape = result_shape(x, flow);
  STD_TORCH_CHECK(
      std::equal(shape.begin(), shape.end(), grad_out.sizes().begin(), grad_out.sizes().end()) &&
          grad_out.scalar_type() == x.scalar_type() && same_device(grad_out, x),
      op, ": grad_out must be as the warped images");
  args.grad_out = grad_c.const_data_ptr();
  Tensor x_grad = needs_x ? with_huge_pages(torch::stable::new_empty(x_c, x_c.sizes()))
                          : torch::stable::new_empty(x_c, {0});
  Tensor flow_grad = needs_flow ? empty_result(flow_c) : torch::stable::new_empty(flow_c, {0});
  if (x.numel() == 0 || flow.numel() == 0) {  // there may be the one nevertheless
    torch::stable::zero_(x_grad);
    torch::stable::zero_(flow_grad);
    return {x_grad, flow_grad};
  }
  if (needs_x) args.x_grad = x_grad.mutable_data_ptr();
  if (needs_flow) args.flow_grad = flow_grad.mutable_data_ptr();
  Tensor largest, sums, marks;
  if (needs_x && !x.is_cpu()) {
    largest = torch::stable::new_empty(x_c, {args.images, args.channels}, ScalarType::Double);
    sums = torch::stable::new_zeros(x_c, x_c.sizes(), ScalarType::Long);
    args.largest = static_cast<double*>(largest.mutable_data_ptr());
    args.sums = static_cast<std::uint64_t*>(sums.mutable_data_ptr());
    marks =
        torch::stable::new_zeros(x_c, {args.images, args.channels, args.words()}, ScalarType::Int);
    args.marks = static_cast<std::uint32_t*>(marks.mutable_data_ptr());
  }
  if (needs_x || needs_flow)
    launch_items(x_c, args, args.images * args.lines(), line_grain(args),
                 GENCORE_KERNELS(warp_backward));
  return {x_grad, flow_grad};
}

}  // namespace

GENCORE_OPERATORS({"warp(Tensor x, Tensor flow, bool border) -> Tensor", TORCH_BOX(&warp)},
                  {"warp_backward(Tensor grad_out, Tensor x, Tensor flow, bool border, "
                   "bool needs_x, bool needs_flow) -> (Tensor, Tensor)",
                   TORCH_BOX(&warp_backward)});

}  // namespace gencore
