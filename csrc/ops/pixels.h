// What the entry points of discrete pixels' likelihoods share.
#pragma once

#include <cstdint>

#include "../arguments/pixels.h"
#include "tensors.h"

namespace gencore {

// Pixels a piece, which is an item of the CPU's kernels: kPixels of cpu/pixel_pieces.h.
inline constexpr std::int64_t kPixelsAPiece = 128;

// Both are contiguous.
template <class Arguments>
Arguments pixel_arguments(const char* op, const Tensor& parameters, const Tensor& x) {
  STD_TORCH_CHECK(parameters.dim() == 4 && x.dim() == 4 && x.size(0) == parameters.size(0) &&
                      x.size(2) == parameters.size(2) && x.size(3) == parameters.size(3) &&
                      x.size(1) > 0,
                  op, ": expected parameters [N, P, H, W] and x [N, C, H, W]");
  STD_TORCH_CHECK((x.scalar_type() == ScalarType::Byte || x.scalar_type() == ScalarType::Long) &&
                      same_device(x, parameters),
                  op, ": x must be uint8 or int64, on the device of the parameters");
  Arguments args{};
  args.dtype = dtype_of(parameters, op);
  args.wide = x.scalar_type() == ScalarType::Long;
  args.images = x.size(0);
  args.channels = x.size(1);
  args.plane = x.size(2) * x.size(3);
  args.x = x.const_data_ptr();
  return args;
}

inline std::int64_t pieces(const Pixels& args) {
  return args.images * ((args.plane + kPixelsAPiece - 1) / kPixelsAPiece);
}

inline void check_pixel_grad(const Tensor& grad, const Tensor& parameters, std::int64_t size,
                             const char* op, const char* name) {
  STD_TORCH_CHECK(grad.numel() == size && grad.scalar_type() == accumulation_type(parameters) &&
                      same_device(grad, parameters),
                  op, ": ", name, " has another size, dtype or device than its result");
}

inline Tensor pixel_result(const Tensor& x, const Tensor& parameters) {
  return torch::stable::new_empty(parameters, {x.size(0), x.size(2), x.size(3)},
                                  accumulation_type(parameters));
}

}  // namespace gencore
