// Small convolutional networks: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// Positions that a group of images has at least: fewer, and adding up the groups' parts of the
// gradients would take a noticeable share of the time.
constexpr std::int64_t kGroupPositions = 512;
constexpr std::int64_t kMaxGroups = 64;
constexpr std::int64_t kMinGroups = 4;

// The operands of a call, made contiguous where they have to be; they live as long as its kernel
// reads them.
struct Operands {
  Operands(const Tensor& x, const Tensor& parameters, const OptionalTensor& context_term,
           const std::vector<std::int64_t>& channels, const std::vector<std::int64_t>& sides)
      : x(images_are_contiguous(x) ? x : torch::stable::contiguous(x)),
        parameters(as_contiguous(parameters)),
        context_term(as_contiguous(context_term)),
        channels(channels),
        sides(sides) {}

  template <class Arguments>
  Arguments arguments(std::int64_t activation, double negative_slope) const {
    const char* op = "conv_network";
    STD_TORCH_CHECK(x.scalar_type() == accumulation_type(x), op, ": x must be float32 or float64");
    STD_TORCH_CHECK(x.dim() == 4 && sides.size() >= 1 && sides.size() <= kMaxConvLayers &&
                        channels.size() == sides.size() + 1 && channels[0] == x.size(1),
                    op, ": x must be [N, C, H, W], and the network have 1 to 4 layers");
    STD_TORCH_CHECK(activation >= 0 && activation <= static_cast<int>(Activation::kLeakyRelu), op,
                    ": unknown activation");
    Arguments args{};
    args.dtype = dtype_of(x, op);
    args.layers = static_cast<int>(sides.size());
    args.images = x.size(0);
    args.height = x.size(2);
    args.width = x.size(3);
    args.x = x.const_data_ptr();
    args.x_stride = x.stride(0);
    args.activation = static_cast<Activation>(activation);
    args.negative_slope = negative_slope;
    std::int64_t size = 0;
    for (int l = 0; l <= args.layers; ++l) {
      STD_TORCH_CHECK(channels[l] > 0, op, ": a layer has no channels");
      args.channels[l] = channels[l];
      if (l == args.layers) break;
      STD_TORCH_CHECK(sides[l] > 0 && sides[l] <= kMaxConvSide && sides[l] % 2 == 1, op,
                      ": kernels must have odd sides of at most 7");
      args.sides[l] = sides[l];
    }
    const auto matches = [&](const Tensor& tensor) {
      return tensor.scalar_type() == x.scalar_type() && same_device(tensor, x);
    };
    for (int l = 0; l < args.layers; ++l) {
      args.weights[l] = at(parameters.const_data_ptr(), size);
      size += args.taps(l) * args.channels[l] * args.channels[l + 1];
      args.biases[l] = at(parameters.const_data_ptr(), size);
      size += args.channels[l + 1];
    }
    STD_TORCH_CHECK(parameters.numel() == size && matches(parameters), op,
                    ": the parameters do not fit");
    STD_TORCH_CHECK(!context_term || (context_term->numel() == args.images * args.channels[1] &&
                                      matches(*context_term)),
                    op, ": the context term does not fit");
    args.context_term = data(context_term);
    return args;
  }

  template <class Void>
  Void* at(Void* data, std::int64_t elements) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
    return static_cast<Byte*>(data) + elements * static_cast<std::int64_t>(x.element_size());
  }

  Tensor x, parameters;
  OptionalTensor context_term;
  const std::vector<std::int64_t>&channels, &sides;

 private:
  // Half of the channels of contiguous images, say.
  static bool images_are_contiguous(const Tensor& x) {
    return x.dim() == 4 && x.stride(3) == 1 && x.stride(2) == x.size(3) &&
           x.stride(1) == x.size(2) * x.size(3);
  }
};

Tensor conv_network(Tensor x, Tensor parameters, OptionalTensor context_term,
                    std::vector<std::int64_t> channels, std::vector<std::int64_t> sides,
                    std::int64_t activation, double negative_slope) {
  const Operands operands(x, parameters, context_term, channels, sides);
  auto args = operands.arguments<ConvNetwork>(activation, negative_slope);
  Tensor out = with_huge_pages(
      torch::stable::new_empty(x, {args.images, channels.back(), args.height, args.width}));
  args.out = out.mutable_data_ptr();
  const std::int64_t pixels = std::max<std::int64_t>(args.height * args.width, 1);
  const std::int64_t stack = std::max<std::int64_t>(kConvStack / pixels, 1);
  launch_items(x, args, args.images, stack, &cpu::KernelTable::conv_network, nullptr);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> conv_network_backward(
    Tensor grad_out, Tensor x, Tensor parameters, OptionalTensor context_term,
    std::vector<std::int64_t> channels, std::vector<std::int64_t> sides, std::int64_t activation,
    double negative_slope, bool needs_x) {
  const Operands operands(x, parameters, context_term, channels, sides);
  auto args = operands.arguments<ConvNetworkBackward>(activation, negative_slope);
  const Tensor grad = as_contiguous(grad_out);
  STD_TORCH_CHECK(grad.numel() == args.images * channels.back() * args.height * args.width &&
                      grad.scalar_type() == x.scalar_type() && same_device(grad, x),
                  "conv_network_backward: grad_out does not fit");
  args.grad_out = grad.const_data_ptr();
  const auto result = [&](std::vector<std::int64_t> size) {
    return with_huge_pages(torch::stable::new_empty(x, size));
  };
  Tensor x_grad =
      result(needs_x ? std::vector<std::int64_t>{args.images, channels[0], args.height, args.width}
                     : std::vector<std::int64_t>{0});
  Tensor parameter_grads = result({operands.parameters.numel()});
  Tensor term_grad = result({context_term ? args.images : 0, channels[1]});
  if (args.images == 0) {
    torch::stable::zero_(parameter_grads);
    return {x_grad, parameter_grads, term_grad};
  }
  args.x_grad = needs_x ? x_grad.mutable_data_ptr() : nullptr;
  args.context_term_grad = context_term ? term_grad.mutable_data_ptr() : nullptr;
  std::int64_t at = 0;
  for (int l = 0; l < args.layers; ++l) {
    args.weight_grads[l] = operands.at(parameter_grads.mutable_data_ptr(), at);
    at += args.taps(l) * args.channels[l] * args.channels[l + 1];
    args.bias_grads[l] = operands.at(parameter_grads.mutable_data_ptr(), at);
    at += args.channels[l + 1];
  }
  const std::int64_t positions = args.images * args.height * args.width;
  args.groups =
      std::min(args.images, std::clamp(positions / kGroupPositions, kMinGroups, kMaxGroups));
  const Tensor partial = result({args.groups, conv_partial_bound(args)});
  args.partial = partial.mutable_data_ptr();
  launch_items(x, args, args.groups, 1, &cpu::KernelTable::conv_network_backward, nullptr);
  launch_items(x, args, args.layers, 1, &cpu::KernelTable::conv_network_gradients, nullptr);
  return {x_grad, parameter_grads, term_grad};
}

}  // namespace

#define GENCORE_CONV_NETWORK                                                         \
  "Tensor x, Tensor parameters, Tensor? context_term, int[] channels, int[] sides, " \
  "int activation, float negative_slope"

GENCORE_CPU_OPERATORS({"conv_network(" GENCORE_CONV_NETWORK ") -> Tensor",
                       TORCH_BOX(&conv_network)},
                      {"conv_network_backward(Tensor grad_out, " GENCORE_CONV_NETWORK
                       ", bool needs_x) -> (Tensor, Tensor, Tensor)",
                       TORCH_BOX(&conv_network_backward)});

}  // namespace gencore
