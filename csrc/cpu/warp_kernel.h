// Warping images. Bytes per pixel of an image of C channels of b bytes: reads the displacement (8)
// and the sampled neighbours, which mostly come from the cache (b C); writes b C.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/warp.h"
#include "../math/storage.h"
#include "../math/warp.h"
#include "lanes.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The samples of some pixels of a row, found once for all channels: the places of their four
// neighbours in a plane, and which of them are inside the image.
template <class A>
struct WarpSamples {
  static constexpr std::int64_t kMost = 128;
  alignas(64) std::int32_t place[4][kMost];
  alignas(64) std::int32_t inside[4][kMost];
  alignas(64) std::int32_t moves[2][kMost];
  alignas(64) A right[kMost];
  alignas(64) A down[kMost];

  void find(const WarpArguments& args, std::int64_t image, std::int64_t row, std::int64_t first,
            std::int64_t count) {
    const A* flow = static_cast<const A*>(args.flow) + 2 * image * args.plane();
    const A* to_right = flow + row * args.width + first;
    const A* to_below = to_right + args.plane();
    const auto width = static_cast<std::int32_t>(args.width);
    const auto height = static_cast<std::int32_t>(args.height);
    const auto column = static_cast<std::int32_t>(first), line = static_cast<std::int32_t>(row);
    const bool border = args.border;
#pragma GCC ivdep
    for (std::int32_t k = 0; k < static_cast<std::int32_t>(count); ++k) {
      const WarpAxis<A> x = warp_axis(to_right[k], column + k, width, border);
      const WarpAxis<A> y = warp_axis(to_below[k], line, height, border);
      place[0][k] = y.near * width + x.near;
      place[1][k] = y.near * width + x.far;
      place[2][k] = y.far * width + x.near;
      place[3][k] = y.far * width + x.far;
      inside[0][k] = y.near_inside & x.near_inside;
      inside[1][k] = y.near_inside & x.far_inside;
      inside[2][k] = y.far_inside & x.near_inside;
      inside[3][k] = y.far_inside & x.far_inside;
      moves[0][k] = x.moves;
      moves[1][k] = y.moves;
      right[k] = x.fraction;
      down[k] = y.fraction;
    }
  }

  // The neighbours of pixel k in a plane.
  template <bool kBorder, class T>
  void read(const T* plane, std::int64_t k, A (&pixel)[4]) const {
    for (int j = 0; j < 4; ++j) {
      const A value = load(plane[place[j][k]]);
      pixel[j] = kBorder || inside[j][k] != 0 ? value : A(0);
    }
  }
};

// Calls body(samples, image, offset in a plane, count) for the pixels of rows [begin, end).
template <class A, class Body>
void for_each_warp_samples(const WarpArguments& args, std::int64_t begin, std::int64_t end,
                           const Body& body) {
  WarpSamples<A> samples;
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t image = item / args.height, row = item % args.height;
    for (std::int64_t first = 0; first < args.width; first += samples.kMost) {
      const std::int64_t count = std::min(args.width - first, samples.kMost);
      samples.find(args, image, row, first, count);
      body(samples, image, row * args.width + first, count);
    }
  }
}

template <bool kBorder, class T>
void warp_rows(const Warp& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  for_each_warp_samples<A>(
      args, begin, end,
      [&](const WarpSamples<A>& samples, std::int64_t image, std::int64_t at, std::int64_t count) {
        const T* __restrict plane = static_cast<const T*>(args.x);
        T* __restrict out = static_cast<T*>(args.out) + at;
        for (std::int64_t c = 0; c < args.channels; ++c) {
          const std::int64_t offset = (image * args.channels + c) * args.plane();
#pragma GCC ivdep
          for (std::int64_t k = 0; k < count; ++k) {
            A pixel[4];
            samples.template read<kBorder>(plane + offset, k, pixel);
            out[offset + k] = store<T>(warp_value(pixel, samples.right[k], samples.down[k]));
          }
        }
      });
}

// Items are the rows of all images.
template <class T>
void warp_range(const Warp& args, std::int64_t begin, std::int64_t end) {
  if (args.border) return warp_rows<true, T>(args, begin, end);
  warp_rows<false, T>(args, begin, end);
}

template <bool kBorder, class T>
void warp_flow_backward_rows(const WarpFlowBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  for_each_warp_samples<A>(
      args, begin, end,
      [&](const WarpSamples<A>& samples, std::int64_t image, std::int64_t at, std::int64_t count) {
        const T* __restrict plane = static_cast<const T*>(args.x);
        const T* __restrict grad = static_cast<const T*>(args.grad_out) + at;
        alignas(64) A right[WarpSamples<A>::kMost] = {}, down[WarpSamples<A>::kMost] = {};
        for (std::int64_t c = 0; c < args.channels; ++c) {
          const std::int64_t offset = (image * args.channels + c) * args.plane();
          for (std::int64_t k = 0; k < count; ++k) {
            A pixel[4];
            samples.template read<kBorder>(plane + offset, k, pixel);
            const A g = load(grad[offset + k]);
            right[k] = multiply_add(g, warp_slope_right(pixel, samples.down[k]), right[k]);
            down[k] = multiply_add(g, warp_slope_down(pixel, samples.right[k]), down[k]);
          }
        }
        A* flow_grad = static_cast<A*>(args.flow_grad) + 2 * image * args.plane() + at;
        for (std::int64_t k = 0; k < count; ++k) {
          flow_grad[k] = samples.moves[0][k] != 0 ? right[k] : A(0);
          flow_grad[args.plane() + k] = samples.moves[1][k] != 0 ? down[k] : A(0);
        }
      });
}

// Items are the rows of all images.
template <class T>
void warp_flow_backward_range(const WarpFlowBackward& args, std::int64_t begin, std::int64_t end) {
  if (args.border) return warp_flow_backward_rows<true, T>(args, begin, end);
  warp_flow_backward_rows<false, T>(args, begin, end);
}

// Items are planes, each of which is one thread's: its samples are added up in their order.
template <class T>
void warp_x_backward_range(const WarpXBackward& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const std::int64_t plane = args.plane();
  A* x_grad = static_cast<A*>(args.x_grad);
  std::fill(x_grad + begin * plane, x_grad + end * plane, A(0));
  for (std::int64_t first = begin; first < end;) {  // the planes of one image
    const std::int64_t image = first / args.channels;
    const std::int64_t last = std::min(end, (image + 1) * args.channels);
    const std::int64_t top = image * args.height;
    for_each_warp_samples<A>(
        args, top, top + args.height,
        [&](const WarpSamples<A>& samples, std::int64_t, std::int64_t at, std::int64_t count) {
          alignas(64) A weight[4][WarpSamples<A>::kMost];
          for (std::int64_t k = 0; k < count; ++k) {
            const A right = samples.right[k], down = samples.down[k];
            const A left = A(1) - right, up = A(1) - down;
            weight[0][k] = samples.inside[0][k] != 0 ? up * left : A(0);
            weight[1][k] = samples.inside[1][k] != 0 ? up * right : A(0);
            weight[2][k] = samples.inside[2][k] != 0 ? down * left : A(0);
            weight[3][k] = samples.inside[3][k] != 0 ? down * right : A(0);
          }
          // Neighbouring samples read the same pixels, so that sums of one plane wait for each
          // other; those of some planes at once do not.
          for_each_panel<4>(
              last,
              [&](auto planes, std::int64_t p) {
                const T* grad = static_cast<const T*>(args.grad_out) + p * plane + at;
                A* target = x_grad + p * plane;
                for (std::int64_t k = 0; k < count; ++k)
                  for (int i = 0; i < planes; ++i) {
                    const A g = load(grad[i * plane + k]);
                    for (int j = 0; j < 4; ++j) {
                      A& sum = target[i * plane + samples.place[j][k]];
                      sum = multiply_add(weight[j][k], g, sum);
                    }
                  }
              },
              first);
        });
    first = last;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
