// Warping images and volumes. Bytes per pixel of an image of C channels of b bytes: reads the
// displacement (8) and the image (b C), writes b C. A sample's neighbours are read as vectors of
// channels, from a copy of the image that mostly stays in the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../arguments/warp.h"
#include "../math/storage.h"
#include "../math/warp.h"
#include "channels_last.h"
#include "lanes.h"
#include "scratch.h"
#include "warp_samples.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class A, int kCount>
Lanes<A, kCount> operator-(Lanes<A, kCount> a, Lanes<A, kCount> b) {
  return {a.value - b.value};
}
template <class A, int kCount>
Lanes<A, kCount> interpolate(Lanes<A, kCount> a, Lanes<A, kCount> b, Lanes<A, kCount> fraction) {
  const auto between = fused(fraction.value, b.value - a.value, a.value);
  return {fraction.value == 0 ? a.value : between};
}

// The pixels around sample k and its fractions, for kLanes channels.
template <int kRank, int kLanes, class A>
struct Neighbours {
  Lanes<A, kLanes> pixels[1 << kRank];
  Lanes<A, kLanes> fraction[kRank];

  Neighbours(const WarpSamples<kRank, A>& samples, const A* image, std::int64_t k) {
    for (int j = 0; j < 1 << kRank; ++j)
      pixels[j] =
          Lanes<A, kLanes>::load(image + static_cast<std::int64_t>(samples.place[j][k]) * kLanes);
    for (int a = 0; a < kRank; ++a) fraction[a] = Lanes<A, kLanes>::fill(samples.fraction[a][k]);
  }
};

// Some channels of one image, and the pixels [begin, end) of it that are a thread's.
struct WarpPart {
  std::int64_t image;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t channel;  // the first
  int channels;

  // Calls body(samples, field, at) for the samples of pixels [from, to) of the image's fields.
  template <int kRank, class A, class Body>
  void for_each_samples(const WarpArguments& args, std::int64_t field, std::int64_t from,
                        std::int64_t to, const Body& body) const {
    WarpSamples<kRank, A> samples;
    for (std::int64_t at = from; at < to; at += samples.kMost) {
      samples.find(args, field, at, std::min(to - at, samples.kMost));
      body(samples, at);
    }
  }

  // Where the first channel is in a tensor of `images` of args.channels channels.
  std::int64_t offset(const WarpArguments& args, std::int64_t of) const {
    return (of * args.channels + channel) * args.plane();
  }
};

// Calls body(part) for the lines [first, last) of all images, kLanes channels at a time.
template <int kLanes, class Body>
void for_each_part(const WarpArguments& args, std::int64_t first, std::int64_t last,
                   const Body& body) {
  const std::int64_t lines = args.lines(), width = args.width();
  for (std::int64_t line = first; line < last;) {
    const std::int64_t image = line / lines, begin = line - image * lines;
    const std::int64_t end = std::min(lines, last - image * lines);
    for (std::int64_t channel = 0; channel < args.channels; channel += kLanes)
      body(WarpPart{image, begin * width, end * width, channel,
                    static_cast<int>(std::min<std::int64_t>(kLanes, args.channels - channel))});
    line = image * lines + end;
  }
}

template <int kRank, class T, int kLanes>
void warp_lines(const Warp& args, std::int64_t first, std::int64_t last) {
  using A = accumulate_t<T>;
  const std::int64_t plane = args.plane(), blocks = FirstUse::blocks(plane);
  Scratch scratch(Scratch::size<A>((plane + 1) * kLanes) + Scratch::size<std::uint8_t>(blocks));
  A* const image = scratch.take<A>((plane + 1) * kLanes);
  std::fill(image + plane * kLanes, image + (plane + 1) * kLanes, A(0));
  FirstUse use(scratch.take<std::uint8_t>(blocks), plane);
  for_each_part<kLanes>(args, first, last, [&](const WarpPart& part) {
    use.forget();
    const T* x = static_cast<const T*>(args.x) + part.offset(args, part.image);
    for (std::int64_t f = part.image * args.flows; f < (part.image + 1) * args.flows; ++f) {
      T* out = static_cast<T*>(args.out) + part.offset(args, f);
      part.for_each_samples<kRank, A>(
          args, f, part.begin, part.end,
          [&](const WarpSamples<kRank, A>& samples, std::int64_t at) {
            use.need(samples.first, samples.last, [&](std::int64_t begin, std::int64_t end) {
              to_channels_last<kLanes>(x + begin, plane, part.channels, end - begin,
                                       image + begin * kLanes);
            });
            for (std::int64_t k = 0; k < samples.count; k += kLanes) {
              Square<kLanes, A> square;
#pragma GCC unroll 16
              for (int i = 0; i < kLanes; ++i) {
                const Neighbours<kRank, kLanes, A> near(samples, image, k + i);
                square.rows[i] = warp_value<kRank>(near.pixels, near.fraction).value;
              }
              square.transpose();
              const int pixels =
                  static_cast<int>(std::min<std::int64_t>(kLanes, samples.count - k));
              for_each_row<kLanes>(part.channels, [&](int c) {
                store_row<kLanes>(square.rows[c], out + c * plane + at + k, pixels);
              });
            }
          });
    }
  });
}

// Adds the samples' gradients to the pixels that they read, in their order. `grad` is of one vector
// a sample.
template <int kRank, int kLanes, class A>
void add_to_neighbours(const WarpSamples<kRank, A>& samples, std::int64_t plane, const A* grad,
                       A* sums) {
  constexpr int kCorners = 1 << kRank;
  alignas(64) A weight[kCorners][WarpSamples<kRank, A>::kMost];
  alignas(64) std::int32_t place[kCorners][WarpSamples<kRank, A>::kMost];
  for (std::int64_t k = 0; k < samples.kMost; ++k) {
    A fraction[kRank];
    unrolled<kRank>([&](auto a) { fraction[a] = samples.fraction[a][k]; });
    unrolled<kCorners>([&](auto j) {
      weight[j][k] = warp_weight<kRank>(j, fraction);
      // What has no weight is not read: no infinity comes from there.
      place[j][k] = weight[j][k] == 0 ? static_cast<std::int32_t>(plane) : samples.place[j][k];
    });
  }
  using Vector = Lanes<A, kLanes>;
  for (std::int64_t k = 0; k < samples.count; ++k) {
    const Vector g = Vector::load(grad + k * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < kCorners; ++j) {
      A* const sum = sums + static_cast<std::int64_t>(place[j][k]) * kLanes;
      Vector::multiply_add(g, Vector::fill(weight[j][k]), Vector::load(sum)).store(sum);
    }
  }
}

// The derivative by the displacements along one axis, summed over the channels in their order.
template <int kRank, int kLanes, int kAxis, class T, class A>
void add_slopes(const WarpSamples<kRank, A>& samples, const WarpPart& part, std::int64_t plane,
                const A* image, const T* grad, bool is_last, A* flow_grad) {
  for (std::int64_t k = 0; k < samples.count; k += kLanes) {
    const int pixels = static_cast<int>(std::min<std::int64_t>(kLanes, samples.count - k));
    Square<kLanes, A> square;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const Neighbours<kRank, kLanes, A> near(samples, image, k + i);
      square.rows[i] = warp_slope<kRank>(near.pixels, near.fraction, kAxis).value;
    }
    square.transpose();
    typename Square<kLanes, A>::Vector sum{};
    if (part.channel > 0) sum = load_row<kLanes>(flow_grad + k, pixels);
    for_each_row<kLanes>(part.channels, [&](int c) {
      sum = fused(load_row<kLanes>(grad + c * plane + k, pixels), square.rows[c], sum);
    });
    alignas(64) A row[kLanes];
    __builtin_memcpy(row, &sum, sizeof(sum));
    if (is_last)
      for (int i = 0; i < kLanes; ++i) row[i] = samples.moves[kAxis][k + i] != 0 ? row[i] : A(0);
    __builtin_memcpy(&sum, row, sizeof(sum));
    store_row<kLanes>(sum, flow_grad + k, pixels);
  }
}

// A thread finds the gradient of its own pixels: with respect to their displacements, and with
// respect to the images there, for which it goes over the samples of others too. It also adds up
// what others' pixels get from these, and leaves it.
template <int kRank, class T, int kLanes>
void warp_backward_lines(const WarpBackward& args, std::int64_t first, std::int64_t last) {
  using A = accumulate_t<T>;
  using Samples = WarpSamples<kRank, A>;
  const std::int64_t plane = args.plane(), blocks = FirstUse::blocks(plane);
  const std::int64_t size = (plane + 1) * kLanes, tile = Samples::kMost * kLanes;
  Scratch scratch(2 * Scratch::size<A>(size) + Scratch::size<A>(tile) +
                  Scratch::size<std::uint8_t>(blocks));
  A* const image = scratch.take<A>(size);
  A* const sums = scratch.take<A>(size);
  A* const turned = scratch.take<A>(tile);
  std::fill(image + plane * kLanes, image + size, A(0));
  std::fill(sums + plane * kLanes, sums + size, A(0));
  FirstUse use(scratch.take<std::uint8_t>(blocks), plane);
  const bool wants_x = args.x_grad != nullptr, wants_flow = args.flow_grad != nullptr;
  for_each_part<kLanes>(args, first, last, [&](const WarpPart& part) {
    use.forget();
    const bool is_last = part.channel + part.channels == args.channels;
    const T* x = static_cast<const T*>(args.x) + part.offset(args, part.image);
    const auto make = [&](std::int64_t begin, std::int64_t end) {
      if (wants_flow)
        to_channels_last<kLanes>(x + begin, plane, part.channels, end - begin,
                                 image + begin * kLanes);
      if (wants_x) std::fill(sums + begin * kLanes, sums + end * kLanes, A(0));
    };
    for (std::int64_t f = part.image * args.flows; f < (part.image + 1) * args.flows; ++f) {
      const T* grad = static_cast<const T*>(args.grad_out) + part.offset(args, f);
      const auto add_images = [&](const Samples& samples, std::int64_t at) {
        if (samples.last < part.begin || samples.first >= part.end) return;
        use.need(samples.first, samples.last, make);
        to_channels_last<kLanes>(grad + at, plane, part.channels, samples.count, turned);
        add_to_neighbours<kRank, kLanes>(samples, plane, turned, sums);
      };
      const auto add_both = [&](const Samples& samples, std::int64_t at) {
        if (wants_flow) {
          use.need(samples.first, samples.last, make);
          A* const flow_grad = static_cast<A*>(args.flow_grad) + kRank * f * plane + at;
          const auto along = [&]<int kAxis>(std::integral_constant<int, kAxis>) {
            add_slopes<kRank, kLanes, kAxis>(samples, part, plane, image, grad + at, is_last,
                                             flow_grad + kAxis * plane);
          };
          along(std::integral_constant<int, 0>{});
          along(std::integral_constant<int, 1>{});
          if constexpr (kRank == 3) along(std::integral_constant<int, 2>{});
        }
        if (wants_x) add_images(samples, at);
      };
      if (wants_x) part.for_each_samples<kRank, A>(args, f, 0, part.begin, add_images);
      part.for_each_samples<kRank, A>(args, f, part.begin, part.end, add_both);
      if (wants_x) part.for_each_samples<kRank, A>(args, f, part.end, plane, add_images);
    }
    if (!wants_x) return;
    use.need(part.begin, part.end - 1, make);
    from_channels_last<kLanes>(
        sums + part.begin * kLanes,
        static_cast<T*>(args.x_grad) + part.offset(args, part.image) + part.begin, plane,
        part.channels, part.end - part.begin);
  });
}

// Calls body(rank, lanes) with the number of channels that are worked on at once: four are enough
// for colours.
template <class A, class Body>
void by_rank_and_lanes(const WarpArguments& args, const Body& body) {
  constexpr int kMost = Lanes<A>::count, kFew = std::min<int>(4, kMost);
  const auto by_lanes = [&](auto rank) {
    if (args.channels <= kFew) return body(rank, std::integral_constant<int, kFew>{});
    body(rank, std::integral_constant<int, kMost>{});
  };
  if (args.rank == 2) return by_lanes(std::integral_constant<int, 2>{});
  by_lanes(std::integral_constant<int, 3>{});
}

// Items are the lines of all images.
template <class T>
void warp_range(const Warp& args, std::int64_t begin, std::int64_t end) {
  by_rank_and_lanes<accumulate_t<T>>(args, [&](auto rank, auto lanes) {
    warp_lines<rank.value, T, lanes.value>(args, begin, end);
  });
}

// Items are the lines of all images.
template <class T>
void warp_backward_range(const WarpBackward& args, std::int64_t begin, std::int64_t end) {
  by_rank_and_lanes<accumulate_t<T>>(args, [&](auto rank, auto lanes) {
    warp_backward_lines<rank.value, T, lanes.value>(args, begin, end);
  });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
