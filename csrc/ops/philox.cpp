// philox_normal and philox_words: the streams of math/philox.h as tensors.
#include <limits>
#include <vector>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

Tensor fill(const char* op, const Tensor& key, const std::vector<std::int64_t>& size,
            ScalarType dtype, std::int64_t first_element) {
  check_key(key, key, op);
  STD_TORCH_CHECK(first_element >= 0, op, ": first_element must not be negative");
  Tensor out = with_huge_pages(torch::stable::new_empty(key, size, dtype));
  STD_TORCH_CHECK(out.numel() <= std::numeric_limits<std::int64_t>::max() - first_element, op,
                  ": first_element is too large");
  const bool words = dtype == ScalarType::Long;
  const PhiloxFill args{words ? Dtype::kFloat32 : dtype_of(out, op),
                        words,
                        out.numel(),
                        first_element,
                        static_cast<const std::int64_t*>(key.const_data_ptr()),
                        out.mutable_data_ptr()};
  launch(out, args, GENCORE_KERNELS(philox_fill));
  return out;
}

Tensor philox_normal(Tensor key, std::vector<std::int64_t> size, ScalarType dtype,
                     std::int64_t first_element) {
  return fill("philox_normal", key, size, dtype, first_element);
}

Tensor philox_words(Tensor key, std::vector<std::int64_t> size, std::int64_t first_element) {
  return fill("philox_words", key, size, ScalarType::Long, first_element);
}

}  // namespace

GENCORE_OPERATORS(
    {"philox_normal(Tensor key, int[] size, ScalarType dtype, int first_element) -> Tensor",
     TORCH_BOX(&philox_normal)},
    {"philox_words(Tensor key, int[] size, int first_element) -> Tensor",
     TORCH_BOX(&philox_words)});

}  // namespace gencore
