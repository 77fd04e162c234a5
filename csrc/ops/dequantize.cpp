// dequantize: checks, layouts and memory; the kernel does the rest.
#include <cstdint>
#include <limits>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

Tensor dequantize(Tensor x, OptionalTensor noise, OptionalTensor key, std::int64_t bins,
                  ScalarType dtype, std::int64_t first_element) {
  const char* op = "dequantize";
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Byte, op, ": x must be uint8");
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, op,
                  ": dtype must be float32 or float64");
  STD_TORCH_CHECK(bins >= 1 && bins <= 256, op, ": bins must be 1 to 256");
  STD_TORCH_CHECK(noise || key, op, ": noise or key is needed");
  STD_TORCH_CHECK(
      first_element >= 0 && x.numel() <= std::numeric_limits<std::int64_t>::max() - first_element,
      op, ": first_element must not be negative, nor too large");
  if (noise)
    STD_TORCH_CHECK(
        same_shape(*noise, x) && noise->scalar_type() == dtype && same_device(*noise, x), op,
        ": noise must have the shape of x and the result's dtype");
  if (key) check_key(*key, x, op);
  const Tensor x_c = as_contiguous(x);
  const OptionalTensor noise_c = as_contiguous(noise);
  Tensor out = with_huge_pages(torch::stable::new_empty(x, x.sizes(), dtype));
  bool is_invalid = false;
  Dequantize args{};
  args.dtype = dtype_of(out, op);
  args.numel = x.numel();
  args.bins = bins;
  args.x = static_cast<const std::uint8_t*>(x_c.const_data_ptr());
  args.noise = {data(noise_c), noise ? nullptr : static_cast<const std::int64_t*>(data(key)),
                noise ? 0 : first_element};
  args.out = out.mutable_data_ptr();
  args.is_invalid = x.is_cpu() && bins < 256 ? &is_invalid : nullptr;
  launch(x, args, GENCORE_KERNELS(dequantize));
  STD_TORCH_CHECK(!is_invalid, op, ": x has values that are not below bins");
  return out;
}

}  // namespace

GENCORE_OPERATORS(
    {"dequantize(Tensor x, Tensor? noise, Tensor? key, int bins, ScalarType dtype, "
     "int first_element) -> Tensor",
     TORCH_BOX(&dequantize)});

}  // namespace gencore
