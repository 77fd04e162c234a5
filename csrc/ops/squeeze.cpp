// squeeze2d: checks and memory; the kernel moves the elements.
#include <algorithm>
#include <cstdint>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

Tensor squeeze2d(Tensor x, std::int64_t factor, bool inverse) {
  const char* op = inverse ? "unsqueeze2d" : "squeeze2d";
  STD_TORCH_CHECK(x.dim() == 4, op, ": x must be [N, C, H, W]");
  STD_TORCH_CHECK(factor > 0 && factor <= (std::int64_t{1} << 30), op,
                  ": factor must be positive, and no larger than an image");
  const std::int64_t square = factor * factor;
  const std::int64_t images = x.size(0);
  const std::int64_t channels = inverse ? x.size(1) / square : x.size(1);
  const std::int64_t height = inverse ? x.size(2) * factor : x.size(2);
  const std::int64_t width = inverse ? x.size(3) * factor : x.size(3);
  STD_TORCH_CHECK(!inverse || x.size(1) % square == 0, op,
                  ": the number of channels must be a multiple of factor squared");
  STD_TORCH_CHECK(height % factor == 0 && width % factor == 0, op,
                  ": the height and the width must be multiples of factor");
  const std::size_t bytes = x.element_size();
  STD_TORCH_CHECK(bytes <= 16 && (bytes & (bytes - 1)) == 0, op, ": unknown size of an element");
  const Tensor x_c = as_contiguous(x);
  Tensor out = with_huge_pages(torch::stable::new_empty(
      x, inverse ? std::vector<std::int64_t>{images, channels, height, width}
                 : std::vector<std::int64_t>{images, channels * square, height / factor,
                                             width / factor}));
  if (x.numel() == 0) return out;
  Squeeze2d args{};
  args.inverse = inverse;
  args.element_bytes = static_cast<int>(bytes);
  args.rows = images * channels * height;
  args.height = height;
  args.width = width;
  args.factor = factor;
  args.x = x_c.const_data_ptr();
  args.out = out.mutable_data_ptr();
  launch_items(x, args, args.rows, std::max<std::int64_t>(kParallelGrain / width, 1),
               GENCORE_KERNELS(squeeze2d));
  return out;
}

}  // namespace

GENCORE_OPERATORS({"squeeze2d(Tensor x, int factor, bool inverse) -> Tensor",
                   TORCH_BOX(&squeeze2d)});

}  // namespace gencore
