// Dequantisation on CUDA. Reads a byte an element (and a given noise), writes one element; the
// noise is made in registers.
#include "../math/dequantize.h"
#include "elementwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct DequantizeBody {
  Dequantize args;
  __device__ void operator()(const Span& span) const {
    const T bins = static_cast<T>(args.bins);
    uchar4 x = {0, 0, 0, 0};
    if (span.whole) {
      x = *reinterpret_cast<const uchar4*>(args.x + span.at);
    } else {
      const std::uint8_t* from = args.x + span.at;
      if (span.begin <= 0 && span.end > 0) x.x = from[0];
      if (span.begin <= 1 && span.end > 1) x.y = from[1];
      if (span.begin <= 2 && span.end > 2) x.z = from[2];
      if (span.begin <= 3 && span.end > 3) x.w = from[3];
    }
    T y[4];
    if (args.noise.tensor != nullptr) {
      read<T>(args.noise.tensor, span, y);
      y[0] = dequantize_uniform(x.x, y[0], bins);
      y[1] = dequantize_uniform(x.y, y[1], bins);
      y[2] = dequantize_uniform(x.z, y[2], bins);
      y[3] = dequantize_uniform(x.w, y[3], bins);
    } else {
      const PhiloxStream stream{static_cast<std::uint64_t>(args.noise.key[0]),
                                static_cast<std::uint64_t>(args.noise.key[1])};
      const Philox4 words = stream(static_cast<std::uint64_t>((span.at + args.noise.first) / 4));
      y[0] = dequantize_word(x.x, words.word[0], bins);
      y[1] = dequantize_word(x.y, words.word[1], bins);
      y[2] = dequantize_word(x.z, words.word[2], bins);
      y[3] = dequantize_word(x.w, words.word[3], bins);
    }
    write<T>(args.out, span, y);
  }
};

}  // namespace

void dequantize(const Dequantize& args, void* stream) {
  const auto launch = [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(DequantizeBody<T>{args}, args.numel, args.noise.first,
                          {args.x, args.noise.tensor, args.out}, stream);
  };
  if (args.dtype == Dtype::kFloat64) return launch(double{});
  launch(float{});
}

}  // namespace gencore::cuda
