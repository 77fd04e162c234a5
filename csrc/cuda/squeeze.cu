// Squeezing on CUDA. Reads and writes each element once: a thread moves the `factor` neighbours
// that one block of pixels has in a row, at once where there are two and the memory is aligned, to
// or from as many channels, in which a warp's threads touch neighbours.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

constexpr int kThreads = 256;

struct alignas(16) Bytes16 {
  std::uint64_t half[2];
};
template <class Word>
struct alignas(2 * sizeof(Word)) Pair {
  Word value[2];
};

// Where a thread's pixels are, and the first of the elements they become.
struct Place {
  std::int64_t pixels;
  std::int64_t squeezed;
  std::int64_t step;  // between channels
};

__device__ __forceinline__ Place place_of(const Squeeze2d& args, std::int64_t thread) {
  const std::int64_t width = args.width / args.factor, height = args.height / args.factor;
  const std::int64_t row = thread / width, column = thread % width;
  const std::int64_t plane = row / args.height, y = row % args.height;
  const std::int64_t channel = (plane * args.factor + y % args.factor) * args.factor;
  return {row * args.width + column * args.factor,
          (channel * height + y / args.factor) * width + column, height * width};
}

template <class Word>
__global__ void __launch_bounds__(kThreads) squeeze_kernel(Squeeze2d args, std::int64_t threads) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= threads) return;
  const Place place = place_of(args, thread);
  const Word* x = static_cast<const Word*>(args.x);
  Word* out = static_cast<Word*>(args.out);
  for (std::int64_t j = 0; j < args.factor; ++j) {
    if (args.inverse)
      out[place.pixels + j] = x[place.squeezed + j * place.step];
    else
      out[place.squeezed + j * place.step] = x[place.pixels + j];
  }
}

template <class Word>
__global__ void __launch_bounds__(kThreads) pair_kernel(Squeeze2d args, std::int64_t threads) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= threads) return;
  const Place place = place_of(args, thread);
  const Word* x = static_cast<const Word*>(args.x);
  Word* out = static_cast<Word*>(args.out);
  if (args.inverse) {
    const Word* from = x + place.squeezed;
    *reinterpret_cast<Pair<Word>*>(out + place.pixels) = Pair<Word>{{from[0], from[place.step]}};
  } else {
    const Pair<Word> pair = *reinterpret_cast<const Pair<Word>*>(x + place.pixels);
    out[place.squeezed] = pair.value[0];
    out[place.squeezed + place.step] = pair.value[1];
  }
}

template <class Word>
void launch_squeeze(const Squeeze2d& args, void* stream) {
  const std::int64_t threads = args.rows * (args.width / args.factor);
  if (threads == 0) return;  // a grid without blocks is an error
  const auto pixels = reinterpret_cast<std::uintptr_t>(args.inverse ? args.out : args.x);
  const bool pairs = sizeof(Word) <= 8 && args.factor == 2 && pixels % alignof(Pair<Word>) == 0;
  const auto kernel = pairs ? pair_kernel<Word> : squeeze_kernel<Word>;
  const std::int64_t blocks = (threads + kThreads - 1) / kThreads;
  launch_kernel(kernel, {static_cast<unsigned>(blocks), kThreads}, stream, args, threads);
}

}  // namespace

void squeeze2d(const Squeeze2d& args, void* stream) {
  switch (args.element_bytes) {
    case 1:
      return launch_squeeze<std::uint8_t>(args, stream);
    case 2:
      return launch_squeeze<std::uint16_t>(args, stream);
    case 4:
      return launch_squeeze<std::uint32_t>(args, stream);
    case 8:
      return launch_squeeze<std::uint64_t>(args, stream);
    case 16:
      return launch_squeeze<Bytes16>(args, stream);
  }
}

}  // namespace gencore::cuda
