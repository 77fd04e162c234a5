// Filling a tensor with normals or raw words on CUDA. Writes each element once, reads nothing.
#include "elementwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct NormalBody {
  PhiloxFill args;
  __device__ void operator()(const Span& span) const {
    accumulate_t<T> normals[4];
    read_noise<T>({nullptr, args.key, args.first}, span, normals);
    write<T>(args.out, span, normals);
  }
};

struct WordBody {
  PhiloxFill args;
  __device__ void operator()(const Span& span) const {
    const PhiloxStream stream{static_cast<std::uint64_t>(args.key[0]),
                              static_cast<std::uint64_t>(args.key[1])};
    const Philox4 words = stream(static_cast<std::uint64_t>((span.at + args.first) / 4));
    std::int64_t* out = static_cast<std::int64_t*>(args.out) + span.at;
    for (int k = span.begin; k < span.end; ++k) out[k] = words.word[k];
  }
};

}  // namespace

void philox_fill(const PhiloxFill& args, void* stream) {
  if (args.words)
    return launch_elementwise<double>(WordBody{args}, args.numel, args.first, {args.out}, stream);
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_elementwise<T>(NormalBody<T>{args}, args.numel, args.first, {args.out}, stream);
  });
}

}  // namespace gencore::cuda
