// Small convolutional networks, a whole image at a time in cache.
//
// Nothing but x, the result and the gradients leaves the cache: backward computes the hidden maps
// again. Tiny images are worked on a few at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/conv_network.h"
#include "../math/activation.h"
#include "conv_map.h"
#include "lanes.h"
#include "scratch.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// A layer's weight gradient as sums of outer products a bᵀ: b, along the vectors, is the side that
// fills them better.
template <class A>
struct OuterProduct {
  OuterProduct(const ConvNetwork& net, int l) {
    const std::int64_t in = net.channels[l], out = net.channels[l + 1];
    along_outputs = whole_vectors<A>(out) * in < whole_vectors<A>(in) * out;
    rows = along_outputs ? in : out;
    columns = whole_vectors<A>(along_outputs ? out : in);
    size = net.taps(l) * rows * columns;
  }
  bool along_outputs;
  std::int64_t rows, columns, size;
};

// Elements of a group's part of the gradients: a layer's outer products, then its bias.
template <class A>
std::int64_t conv_partial_size(const ConvNetwork& net) {
  std::int64_t size = 0;
  for (int l = 0; l < net.layers; ++l)
    size += OuterProduct<A>(net, l).size + whole_vectors<A>(net.channels[l + 1]);
  return size;
}

template <class A>
class ConvBlock {
 public:
  ConvBlock(const ConvNetwork& net, bool backward)
      : net_(net),
        backward_(backward),
        pixels_(net.height * net.width),
        stack_(std::clamp<std::int64_t>(kConvStack / std::max<std::int64_t>(pixels_, 1), 1,
                                        std::max<std::int64_t>(net.images, 1))),
        scratch_(size()) {
    for (int l = 0; l < net.layers; ++l) {
      const std::int64_t in = net.channels[l], out = net.channels[l + 1], taps = net.taps(l);
      const A* const weight = static_cast<const A*>(net.weights[l]);
      maps_[l] = take_map(l, in);
      bias_[l] = take_zeros(whole_vectors<A>(out));
      std::copy_n(static_cast<const A*>(net.biases[l]), out, bias_[l]);
      if (l + 1 < net.layers || !backward) {
        forward_[l] = scratch_.template take<A>(taps * in * whole_vectors<A>(out));
        pack_conv_weight(weight, taps, in, taps, out, in * taps, forward_[l]);
      }
      if (!backward) continue;
      grads_[l] = take_map(l, out);
      if (l > 0) slopes_[l] = take_zeros(stack_ * pixels_ * whole_vectors<A>(in));
      backward_weight_[l] = scratch_.template take<A>(taps * out * whole_vectors<A>(in));
      pack_conv_weight(weight, taps, out, in * taps, in, taps, backward_weight_[l]);
    }
    last_ = Map(take_zeros(Map::size(extent(stack_), 0, edge_channels())), extent(stack_), 0,
                edge_channels());
  }

  // Images that are worked on at once.
  std::int64_t stack() const { return stack_; }

  // Images [first, first + count), count <= stack().
  void forward(std::int64_t first, std::int64_t count) {
    const int last = net_.layers - 1;
    first_ = first, count_ = count;
    hidden();
    convolve(maps_[last], last, true, forward_[last], net_.channels[last], net_.channels[last + 1],
             last_, 1, [](A*, std::int64_t, int) {});
    write(last_, net_.channels[last + 1], static_cast<A*>(net_.out));
  }

  // Adds to `partial`, the group's part, or starts it.
  void backward(const ConvNetworkBackward& args, std::int64_t first, std::int64_t count, bool start,
                A* partial) {
    const int last = net_.layers - 1;
    first_ = first, count_ = count;
    hidden();
    const std::int64_t outputs = net_.channels[last + 1];
    read(static_cast<const A*>(args.grad_out), outputs * pixels_, outputs, grads_[last]);
    std::int64_t ends[kMaxConvLayers + 1] = {0};
    for (int l = 0; l <= last; ++l)
      ends[l + 1] =
          ends[l] + OuterProduct<A>(net_, l).size + whole_vectors<A>(net_.channels[l + 1]);
    for (int l = last; l >= 0; --l) {
      weight_gradient(l, start, partial + ends[l]);
      bias_gradient(args, l, start, partial + ends[l + 1] - whole_vectors<A>(net_.channels[l + 1]));
      if (l > 0) {
        const A* const slopes = slopes_[l];
        convolve(grads_[l], l, false, backward_weight_[l], net_.channels[l + 1], net_.channels[l],
                 grads_[l - 1], -1, [=](A* values, std::int64_t at, int count) {
                   for (int k = 0; k < count; ++k) values[k] *= slopes[at + k];
                 });
      } else if (args.x_grad != nullptr) {
        convolve(grads_[0], 0, false, backward_weight_[0], net_.channels[1], net_.channels[0],
                 last_, -1, [](A*, std::int64_t, int) {});
        write(last_, net_.channels[0], static_cast<A*>(args.x_grad));
      }
    }
  }

 private:
  using Vector = Lanes<A>;
  using Map = ConvMap<A>;
  static constexpr int kPixels = kVectorBytes == 64 ? 8 : 4;

  std::int64_t edge_channels() const {
    return backward_ ? net_.channels[0] : net_.channels[net_.layers];
  }

  Extent extent(std::int64_t images) const { return {images, net_.height, net_.width}; }

  std::int64_t map_size(int l, std::int64_t channels) const {
    return Map::size(extent(stack_), net_.sides[l] / 2, channels);
  }

  std::size_t size() const {
    std::size_t bytes = Scratch::size<A>(Map::size(extent(stack_), 0, edge_channels()));
    for (int l = 0; l < net_.layers; ++l) {
      const std::int64_t in = net_.channels[l], out = net_.channels[l + 1], taps = net_.taps(l);
      bytes += Scratch::size<A>(map_size(l, in)) + Scratch::size<A>(whole_vectors<A>(out)) +
               Scratch::size<A>(taps * in * whole_vectors<A>(out));
      if (backward_)
        bytes += Scratch::size<A>(map_size(l, out)) +
                 Scratch::size<A>(stack_ * pixels_ * whole_vectors<A>(in)) +
                 Scratch::size<A>(taps * out * whole_vectors<A>(in));
    }
    return bytes;
  }

  A* take_zeros(std::int64_t count) {
    A* const zeros = scratch_.template take<A>(count);
    std::fill_n(zeros, count, A(0));
    return zeros;
  }
  // What layer l convolves, or its gradient.
  Map take_map(int l, std::int64_t channels) {
    return Map(take_zeros(map_size(l, channels)), extent(stack_), net_.sides[l] / 2, channels);
  }

  // The first layer's, of one image.
  const A* bias_with_context(std::int64_t image) {
    const std::int64_t count = net_.channels[1];
    const A* const shared = static_cast<const A*>(net_.biases[0]);
    const A* const own = static_cast<const A*>(net_.context_term) + image * count;
    for (std::int64_t c = 0; c < count; ++c) bias_[0][c] = shared[c] + own[c];
    return bias_[0];
  }

  // Between planes of channels and channels-last pixels.
  void read(const A* images, std::int64_t stride, std::int64_t channels, const Map& map) const {
    for (std::int64_t n = 0; n < count_; ++n) {
      const A* planes = images + (first_ + n) * stride;
      if (pixels_ == 1) {
        std::copy_n(planes, channels, map.origin + n * map.image);
        continue;
      }
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t y = 0; y < net_.height; ++y) {
          A* out = map.origin + n * map.image + y * map.row + c;
          for (std::int64_t x = 0; x < net_.width; ++x, out += map.pixel) *out = *planes++;
        }
    }
  }
  void write(const Map& map, std::int64_t channels, A* images) const {
    A* planes = images + first_ * channels * pixels_;
    for (std::int64_t n = 0; n < count_; ++n) {
      if (pixels_ == 1) {
        std::copy_n(map.origin + n * map.image, channels, planes + n * channels);
        continue;
      }
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t y = 0; y < net_.height; ++y) {
          const A* in = map.origin + n * map.image + y * map.row + c;
          for (std::int64_t x = 0; x < net_.width; ++x, in += map.pixel) *planes++ = *in;
        }
    }
  }

  // The input of every layer, and the slopes of the activations in the backward pass.
  void hidden() {
    read(static_cast<const A*>(net_.x), net_.x_stride, net_.channels[0], maps_[0]);
    switch (net_.activation) {
      case Activation::kSilu:
        return hidden_layers<Activation::kSilu>();
      case Activation::kSoftplus:
        return hidden_layers<Activation::kSoftplus>();
      case Activation::kTanh:
        return hidden_layers<Activation::kTanh>();
      case Activation::kLeakyRelu:
        return hidden_layers<Activation::kLeakyRelu>();
    }
  }

  template <Activation kind>
  void hidden_layers() {
    const A negative_slope = static_cast<A>(net_.negative_slope);
    for (int l = 0; l + 1 < net_.layers; ++l) {
      A* const slopes = backward_ ? slopes_[l + 1] : nullptr;
      convolve(maps_[l], l, true, forward_[l], net_.channels[l], net_.channels[l + 1], maps_[l + 1],
               1, [=](A* values, std::int64_t at, int count) {
                 for (int k = 0; k < count; ++k) {
                   const Activated<A> unit = activate<kind>(values[k], negative_slope);
                   values[k] = unit.value;
                   if (slopes != nullptr) slopes[at + k] = unit.slope;
                 }
               });
    }
  }

  // A convolution with the kernel of layer l (turned round for direction -1), then
  // then(values, where they are in maps without border, count) for each pixel's block of outputs.
  template <class Then>
  void convolve(const Map& in, int l, bool biased, const A* packed, std::int64_t inputs,
                std::int64_t outputs, const Map& out, int direction, Then then) {
    const std::int64_t side = net_.sides[l], taps = side * side;
    std::int64_t reach[kMaxConvSide * kMaxConvSide];
    for (std::int64_t t = 0; t < taps; ++t)
      reach[t] = direction * ((t / side - side / 2) * in.row + (t % side - side / 2) * in.pixel);
    const bool has_context = biased && l == 0 && net_.context_term != nullptr;
    for_each_block<A>(outputs, [&](auto vectors, std::int64_t first) {
      const auto pixels = [&](std::int64_t begin, std::int64_t end, const A* bias) {
        for_each_panel<kPixels>(
            end,
            [&](auto count, std::int64_t from) {
              const A* at[count];
              A* to[count];
              Position position(from, extent(stack_));
              for (int p = 0; p < count; ++p, position.advance(extent(stack_))) {
                at[p] = position.in(in);
                to[p] = position.in(out) + first;
              }
              convolve_tile<count, vectors>(at, reach, taps, inputs, inputs, packed, bias, to);
              for (int p = 0; p < count; ++p)
                then(to[p], (from + p) * out.pixel + first, vectors * Vector::count);
            },
            begin);
      };
      if (has_context)
        for (std::int64_t n = 0; n < count_; ++n)
          pixels(n * pixels_, (n + 1) * pixels_, bias_with_context(first_ + n) + first);
      else
        pixels(0, count_ * pixels_, biased ? bias_[l] + first : nullptr);
      packed += taps * inputs * vectors * Vector::count;
    });
  }

  void weight_gradient(int l, bool start, A* total) const {
    const OuterProduct<A> product(net_, l);
    const Map &in = maps_[l], &grad = grads_[l];
    const std::int64_t side = net_.sides[l];
    for (std::int64_t t = 0; t < side * side; ++t, total += product.rows * product.columns) {
      Map shifted = in;
      shifted.origin += (t / side - side / 2) * in.row + (t % side - side / 2) * in.pixel;
      const Map& a = product.along_outputs ? shifted : grad;
      const Map& b = product.along_outputs ? grad : shifted;
      for_each_block<A>(product.columns, [&](auto vectors, std::int64_t column) {
        for_each_panel<kPixels>(product.rows, [&](auto rows, std::int64_t row) {
          outer_product_tile<rows, vectors>(a, row, b, column, start, product.columns,
                                            extent(count_), total + row * product.columns + column);
        });
      });
    }
  }

  void bias_gradient(const ConvNetworkBackward& args, int l, bool start, A* total) const {
    const Map& grad = grads_[l];
    const std::int64_t channels = net_.channels[l + 1];
    A* const terms = l > 0 ? nullptr : static_cast<A*>(args.context_term_grad);
    for (std::int64_t c = 0; c < channels; c += Vector::count) {
      Vector all = start ? Vector::fill(A(0)) : Vector::load(total + c);
      for (std::int64_t n = 0; n < count_; ++n) {
        Vector sum = Vector::fill(A(0));
        for (std::int64_t y = 0; y < net_.height; ++y) {
          const A* at = grad.origin + n * grad.image + y * grad.row + c;
          for (std::int64_t x = 0; x < net_.width; ++x, at += grad.pixel)
            sum.value += Vector::load(at).value;
        }
        if (terms != nullptr)
          for (std::int64_t k = c; k < std::min(channels, c + Vector::count); ++k)
            terms[(first_ + n) * channels + k] = sum.value[k - c];
        all.value += sum.value;
      }
      all.store(total + c);
    }
  }

  const ConvNetwork& net_;
  const bool backward_;
  const std::int64_t pixels_;
  const std::int64_t stack_;
  Scratch scratch_;
  std::int64_t first_ = 0, count_ = 0;  // images that are being worked on
  Map maps_[kMaxConvLayers];            // of each layer's input
  Map grads_[kMaxConvLayers];           // of each layer's output
  Map last_;                            // the result, or the gradient of x
  A* slopes_[kMaxConvLayers];           // of the activation before each layer
  A* bias_[kMaxConvLayers];
  A* forward_[kMaxConvLayers];
  A* backward_weight_[kMaxConvLayers];
};

// Images [begin, end).
template <class A>
void conv_network_range(const ConvNetwork& args, std::int64_t begin, std::int64_t end) {
  ConvBlock<A> block(args, false);
  for (std::int64_t image = begin; image < end; image += block.stack())
    block.forward(image, std::min(block.stack(), end - image));
}

// Groups [begin, end).
template <class A>
void conv_network_backward_range(const ConvNetworkBackward& args, std::int64_t begin,
                                 std::int64_t end) {
  ConvBlock<A> block(args, true);
  const std::int64_t size = conv_partial_size<A>(args);
  for (std::int64_t group = begin; group < end; ++group) {
    const std::int64_t first = group * args.images / args.groups;
    const std::int64_t last = (group + 1) * args.images / args.groups;
    A* const partial = static_cast<A*>(args.partial) + group * size;
    for (std::int64_t image = first; image < last; image += block.stack())
      block.backward(args, image, std::min(block.stack(), last - image), image == first, partial);
  }
}

// Adds up the groups' parts, in the first one's place, for layers [begin, end).
template <class A>
void conv_network_gradients_range(const ConvNetworkBackward& args, std::int64_t begin,
                                  std::int64_t end) {
  const std::int64_t size = conv_partial_size<A>(args);
  A* part = static_cast<A*>(args.partial);
  for (int l = 0; l < end; ++l) {
    const OuterProduct<A> product(args, l);
    const std::int64_t outputs = args.channels[l + 1], taps = args.taps(l);
    A* const bias = part + product.size;
    A* const next = bias + whole_vectors<A>(outputs);
    if (l >= begin) {
      for (std::int64_t group = 1; group < args.groups; ++group) {
        const A* const other = part + group * size;
        for (std::int64_t k = 0; k < next - part; ++k) part[k] += other[k];
      }
      A* const grad = static_cast<A*>(args.weight_grads[l]);
      const std::int64_t inputs = args.channels[l];
      for (std::int64_t t = 0; t < taps; ++t)
        for (std::int64_t o = 0; o < outputs; ++o)
          for (std::int64_t i = 0; i < inputs; ++i) {
            const std::int64_t row = product.along_outputs ? i : o;
            const std::int64_t column = product.along_outputs ? o : i;
            grad[(o * inputs + i) * taps + t] =
                part[(t * product.rows + row) * product.columns + column];
          }
      std::copy_n(bias, outputs, static_cast<A*>(args.bias_grads[l]));
    }
    part = next;
  }
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
