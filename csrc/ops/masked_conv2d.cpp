// Causal convolutions: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Elements of a map that leave room in cache for the others and for the weights.
constexpr std::int64_t kMapElements = 65536;
// With fewer positions, loading and storing the sums of outer products would take longer than
// making them.
constexpr std::int64_t kMinPositions = 64;
constexpr std::int64_t kMinTiles = 16;
// A piece has so many positions at least, or adding up the parts would take a noticeable share of
// the time; and the parts together so many elements at most.
constexpr std::int64_t kPiecePositions = 512;
constexpr std::int64_t kMaxPieces = 64;
constexpr std::int64_t kMinPieces = 4;
constexpr std::int64_t kPartialElements = std::int64_t{1} << 24;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Sizes alone decide, so that sums do not depend on the number of threads.
void choose_tiles(MaskedConv2d& args) {
  const std::int64_t pixels = std::max<std::int64_t>(args.height * args.width, 1);
  args.stack =
      std::clamp<std::int64_t>(kMinPositions / pixels, 1, std::max<std::int64_t>(args.images, 1));
  const std::int64_t positions =
      std::clamp(std::min(kMapElements / std::max(args.inputs, args.outputs),
                          args.images * pixels / kMinTiles),
                 kMinPositions, std::max(kMinPositions, pixels));
  const std::int64_t rows = std::clamp<std::int64_t>(
      positions / std::max<std::int64_t>(args.width, 1), 1, std::max<std::int64_t>(args.height, 1));
  const std::int64_t bands = std::max<std::int64_t>(divide_up(args.height, rows), 1);
  args.rows = std::max<std::int64_t>(divide_up(args.height, bands), 1);
}

template <class Void>
ImageLayout<Void> layout_of(const Tensor& images, Void* data) {
  return {data, images.stride(0), images.stride(1), images.stride(2), images.stride(3)};
}

// Whose channels or pixels follow one another.
Tensor as_images(const Tensor& images) {
  const bool fits = images.dim() != 4 || images.stride(1) == 1 || images.stride(3) == 1;
  return fits ? images : torch::stable::contiguous(images);
}

bool is_channels_last(const Tensor& images) {
  std::int64_t expected = 1;
  for (const std::int64_t d : {1, 3, 2, 0}) {
    if (images.size(d) != 1 && images.stride(d) != expected) return false;
    expected *= images.size(d);
  }
  return true;
}

// An uninitialised result of so many channels, whose channels are last in memory if x's are.
Tensor images_like(const Tensor& x, std::int64_t channels) {
  const std::int64_t images = x.size(0), height = x.size(2), width = x.size(3);
  if (x.is_contiguous() || !is_channels_last(x))
    return with_huge_pages(torch::stable::new_empty(x, {images, channels, height, width}));
  const Tensor last =
      with_huge_pages(torch::stable::new_empty(x, {images, height, width, channels}));
  return torch::stable::transpose(torch::stable::transpose(last, 1, 3), 2, 3);
}

template <class Arguments>
Arguments arguments_of(const char* op, const Tensor& x, const Tensor& weight,
                       const OptionalTensor& bias, bool inclusive, std::int64_t groups,
                       std::int64_t dilation) {
  STD_TORCH_CHECK(x.scalar_type() == accumulation_type(x), op, ": x must be float32 or float64");
  STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(1) == x.size(1) &&
                      weight.size(2) == weight.size(3) && weight.size(2) % 2 == 1,
                  op, ": x must be [N, I, H, W] and weight [O, I, k, k] with an odd k");
  const auto matches = [&](const Tensor& tensor) {
    return tensor.scalar_type() == x.scalar_type() && same_device(tensor, x);
  };
  STD_TORCH_CHECK(matches(weight), op, ": weight and x differ in dtype or device");
  STD_TORCH_CHECK(!bias || (bias->numel() == weight.size(0) && matches(*bias)), op,
                  ": bias does not fit");
  Arguments args{};
  args.dtype = dtype_of(x, op);
  args.inclusive = inclusive;
  args.images = x.size(0), args.height = x.size(2), args.width = x.size(3);
  args.inputs = x.size(1), args.outputs = weight.size(0);
  args.side = weight.size(2), args.dilation = dilation, args.groups = groups;
  STD_TORCH_CHECK(args.inputs > 0 && args.outputs > 0 && groups > 0 && args.inputs % groups == 0 &&
                      args.outputs % groups == 0,
                  op, ": the groups must divide the channels");
  STD_TORCH_CHECK(dilation > 0 && args.side < (1 << 20) && dilation <= (1 << 20) / args.side, op,
                  ": a kernel reaches from 1 to 2**20 pixels");
  args.x = layout_of(x, x.const_data_ptr());
  args.weight = weight.const_data_ptr();
  args.bias = data(bias);
  choose_tiles(args);
  return args;
}

Tensor masked_conv2d(Tensor x, Tensor weight, OptionalTensor bias, bool inclusive,
                     std::int64_t groups, std::int64_t dilation) {
  const Tensor images = as_images(x);
  weight = as_contiguous(weight), bias = as_contiguous(bias);
  auto args = arguments_of<MaskedConv2d>("masked_conv2d", images, weight, bias, inclusive, groups,
                                         dilation);
  const Tensor out = images_like(x, args.outputs);
  if (out.numel() == 0) return out;
  args.out = layout_of(out, out.mutable_data_ptr());
  launch_items(x, args, args.tiles(), 1, &cpu::KernelTable::masked_conv2d, nullptr);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> masked_conv2d_backward(Tensor grad_out, Tensor x, Tensor weight,
                                                          bool inclusive, std::int64_t groups,
                                                          std::int64_t dilation, bool needs_x,
                                                          bool needs_weight, bool needs_bias) {
  const char* op = "masked_conv2d_backward";
  const Tensor images = as_images(x);
  weight = as_contiguous(weight);
  auto args = arguments_of<MaskedConv2dBackward>(op, images, weight, std::nullopt, inclusive,
                                                 groups, dilation);
  STD_TORCH_CHECK(grad_out.dim() == 4 && grad_out.size(0) == args.images &&
                      grad_out.size(1) == args.outputs && grad_out.size(2) == args.height &&
                      grad_out.size(3) == args.width && grad_out.scalar_type() == x.scalar_type() &&
                      same_device(grad_out, x),
                  op, ": grad_out does not fit");
  grad_out = as_images(grad_out);
  args.grad_out = layout_of(grad_out, grad_out.const_data_ptr());
  const auto result = [&](bool wanted, std::vector<std::int64_t> size) {
    if (!wanted) size = {0};
    return with_huge_pages(torch::stable::new_empty(x, size));
  };
  Tensor x_grad = needs_x ? images_like(x, args.inputs) : result(false, {});
  Tensor weight_grad = result(needs_weight, {args.outputs, args.inputs, args.side, args.side});
  Tensor bias_grad = result(needs_bias, {args.outputs});
  torch::stable::zero_(weight_grad);  // the dead taps'
  if (args.images * args.height * args.width == 0) {
    torch::stable::zero_(bias_grad);
    return {x_grad, weight_grad, bias_grad};
  }
  if (needs_x) args.x_grad = layout_of(x_grad, x_grad.mutable_data_ptr());
  if (needs_weight) args.weight_grad = weight_grad.mutable_data_ptr();
  if (needs_bias) args.bias_grad = bias_grad.mutable_data_ptr();
  const std::int64_t positions = args.images * args.height * args.width;
  const bool adds_up = needs_weight || needs_bias;
  args.pieces = args.tiles();
  if (adds_up)
    args.pieces =
        std::min({args.pieces, std::clamp(positions / kPiecePositions, kMinPieces, kMaxPieces),
                  std::max(kPartialElements / partial_bound(args), kMinPieces)});
  const Tensor partial = result(adds_up, {args.pieces, partial_bound(args)});
  args.partial = partial.mutable_data_ptr();
  launch_items(x, args, args.pieces, 1, &cpu::KernelTable::masked_conv2d_backward, nullptr);
  if (adds_up)
    launch_items(x, args, args.taps() + 1, 1, &cpu::KernelTable::masked_conv2d_gradients, nullptr);
  return {x_grad, weight_grad, bias_grad};
}

}  // namespace

GENCORE_CPU_OPERATORS({"masked_conv2d(Tensor x, Tensor weight, Tensor? bias, bool inclusive, "
                       "int channel_groups, int dilation) -> Tensor",
                       TORCH_BOX(&masked_conv2d)},
                      {"masked_conv2d_backward(Tensor grad_out, Tensor x, Tensor weight, "
                       "bool inclusive, int channel_groups, int dilation, bool needs_x, "
                       "bool needs_weight, bool needs_bias) -> (Tensor, Tensor, Tensor)",
                       TORCH_BOX(&masked_conv2d_backward)});

}  // namespace gencore
