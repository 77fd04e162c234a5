// Causal convolutions of images in raster order, some rows of an image at a time in cache.
//
// The rows are turned into a map of pixels (conv_map.h), with as many rows before them as the
// kernel reaches back; for the gradient of x, the rows after them. Only live taps are worked on:
// those before the centre with all channels, and the centre with the channels of the groups that
// are seen.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../arguments/masked_conv2d.h"
#include "conv_map.h"
#include "lanes.h"
#include "scratch.h"
#include "transpose.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// The weight's gradient as sums of outer products a bᵀ, one a tap: b, along the vectors, is the
// side that fills them better. The bias's gradient follows.
template <class A>
struct MaskedConvPartial {
  explicit MaskedConvPartial(const MaskedConv2d& conv)
      : along_outputs(whole_vectors<A>(conv.outputs) * conv.inputs <
                      whole_vectors<A>(conv.inputs) * conv.outputs),
        rows(along_outputs ? conv.inputs : conv.outputs),
        columns(whole_vectors<A>(along_outputs ? conv.outputs : conv.inputs)),
        bias(conv.taps() * rows * columns),
        size(bias + whole_vectors<A>(conv.outputs)) {}
  bool along_outputs;
  std::int64_t rows, columns, bias, size;
};

template <class A>
class MaskedConvTile {
 public:
  MaskedConvTile(const MaskedConv2d& conv, const MaskedConv2dBackward* backward)
      : conv_(conv), backward_(backward), scratch_(size()) {
    reach_ = scratch_.template take<std::int64_t>(conv.taps());
    in_ = take_map(conv.inputs, conv.reach());
    if (has_grad()) grad_ = take_map(conv.outputs, conv.reach());
    if (result_channels() == 0) return;
    result_ = take_map(result_channels(), 0);
    bias_ = scratch_.template take<A>(whole_vectors<A>(result_channels()));
    std::fill_n(bias_, whole_vectors<A>(result_channels()), A(0));
    if (backward == nullptr && conv.bias != nullptr)
      std::copy_n(static_cast<const A*>(conv.bias), conv.outputs, bias_);
    packed_ = scratch_.template take<A>(packed_size());
    pack();
  }

  void forward(std::int64_t tile) {
    place(tile);
    read(conv_.x, conv_.inputs, in_, conv_.reach(), 0);
    convolve(in_, 1);
    write(conv_.out, conv_.outputs);
  }

  // Adds to `total`, the piece's part, or starts it.
  void backward(std::int64_t tile, bool start, A* total) {
    place(tile);
    read(backward_->grad_out, conv_.outputs, grad_, 0,
         backward_->x_grad.data == nullptr ? 0 : conv_.reach());
    if (backward_->bias_grad != nullptr) bias_gradient(start, total);
    if (backward_->weight_grad != nullptr) {
      read(conv_.x, conv_.inputs, in_, conv_.reach(), 0);
      weight_gradient(start, total);
    }
    if (backward_->x_grad.data != nullptr) {
      convolve(grad_, -1);
      write(backward_->x_grad, conv_.inputs);
    }
  }

 private:
  using Vector = Lanes<A>;
  using Map = ConvMap<A>;
  static constexpr int kPixels = kVectorBytes == 64 ? 8 : 4;

  bool has_grad() const { return backward_ != nullptr; }
  // Of the map that is written: the outputs, or the inputs' gradient if it is wanted.
  std::int64_t result_channels() const {
    if (!has_grad()) return conv_.outputs;
    return backward_->x_grad.data == nullptr ? 0 : conv_.inputs;
  }
  // Of the map that is convolved.
  std::int64_t operand_channels() const { return has_grad() ? conv_.outputs : conv_.inputs; }
  std::int64_t packed_size() const {
    return conv_.taps() * operand_channels() * whole_vectors<A>(result_channels());
  }

  Extent largest() const { return {conv_.stack, conv_.rows, conv_.width}; }

  std::size_t size() const {
    const auto map = [&](std::int64_t channels, std::int64_t border) {
      return Scratch::size<A>(Map::size(largest(), border, channels));
    };
    std::size_t bytes =
        Scratch::size<std::int64_t>(conv_.taps()) + map(conv_.inputs, conv_.reach());
    if (has_grad()) bytes += map(conv_.outputs, conv_.reach());
    return bytes + map(result_channels(), 0) +
           Scratch::size<A>(whole_vectors<A>(result_channels())) + Scratch::size<A>(packed_size());
  }

  Map take_map(std::int64_t channels, std::int64_t border) {
    const std::int64_t count = Map::size(largest(), border, channels);
    A* const memory = scratch_.template take<A>(count);
    std::fill_n(memory, count, A(0));
    return Map(memory, largest(), border, channels);
  }

  // Of the block of results [first, first + count), the operand's channels at the centre.
  struct Seen {
    std::int64_t begin, end;
  };
  Seen seen(std::int64_t first, std::int64_t count) const {
    if (has_grad()) return {std::min(conv_.first_to_see(first), conv_.outputs), conv_.outputs};
    return {0, conv_.seen_by(first + count - 1)};
  }

  // Blocks of results, each [taps][operand's channels][results of the block]; at the centre, of the
  // channels that one of the block sees.
  void pack() {
    const std::int64_t taps = conv_.side * conv_.side, before = conv_.before();
    const std::int64_t channels = operand_channels(), results = result_channels();
    const std::int64_t of_result = has_grad() ? taps : conv_.inputs * taps;
    const std::int64_t of_channel = has_grad() ? conv_.inputs * taps : taps;
    const A* weight = static_cast<const A*>(conv_.weight);
    A* packed = packed_;
    for_each_block<A>(results, [&](auto vectors, std::int64_t first) {
      constexpr std::int64_t kWidth = vectors * Vector::count;
      const std::int64_t count = std::min<std::int64_t>(kWidth, results - first);
      if (before > 0)
        pack_conv_weight(weight + first * of_result, before, channels, of_channel, count, of_result,
                         packed);
      packed += before * channels * kWidth;
      if (conv_.taps() == before) return;
      const Seen block = seen(first, count);
      std::fill_n(packed, (block.end - block.begin) * kWidth, A(0));
      for (std::int64_t r = 0; r < count; ++r) {
        const Seen own = seen(first + r, 1);
        for (std::int64_t c = own.begin; c < own.end; ++c)
          packed[(c - block.begin) * kWidth + r] =
              weight[(first + r) * of_result + c * of_channel + before];
      }
      packed += (block.end - block.begin) * kWidth;
    });
  }

  void place(std::int64_t tile) {
    image_ = tile / conv_.bands() * conv_.stack;
    row_ = tile % conv_.bands() * conv_.rows;
    extent_ = {std::min(conv_.stack, conv_.images - image_),
               std::min(conv_.rows, conv_.height - row_), conv_.width};
  }

  // The tile's rows, and so many above and below, with zeros outside of the images.
  void read(const ImageLayout<const void>& from, std::int64_t channels, const Map& map,
            std::int64_t above, std::int64_t below) const {
    for (std::int64_t n = 0; n < extent_.images; ++n)
      for (std::int64_t y = -above; y < extent_.height + below; ++y) {
        A* const out = map.origin + n * map.image + y * map.row;
        if (row_ + y < 0 || row_ + y >= conv_.height) {
          std::fill_n(out, conv_.width * map.pixel, A(0));
          continue;
        }
        const A* const in =
            static_cast<const A*>(from.data) + (image_ + n) * from.image + (row_ + y) * from.row;
        if (from.pixel == 1)
          transpose(in, from.channel, channels, conv_.width, out, map.pixel);
        else  // channels last
          for (std::int64_t x = 0; x < conv_.width; ++x)
            std::copy_n(in + x * from.pixel, channels, out + x * map.pixel);
      }
  }

  void write(const ImageLayout<void>& to, std::int64_t channels) const {
    for (std::int64_t n = 0; n < extent_.images; ++n)
      for (std::int64_t y = 0; y < extent_.height; ++y) {
        const A* const in = result_.origin + n * result_.image + y * result_.row;
        A* const out = static_cast<A*>(to.data) + (image_ + n) * to.image + (row_ + y) * to.row;
        if (to.pixel == 1)
          transpose(in, result_.pixel, conv_.width, channels, out, to.channel);
        else  // channels last
          for (std::int64_t x = 0; x < conv_.width; ++x)
            std::copy_n(in + x * result_.pixel, channels, out + x * to.pixel);
      }
  }

  // Where tap t lies, seen from the centre.
  std::int64_t offset(std::int64_t t, const Map& map) const {
    const std::int64_t half = conv_.side / 2;
    return conv_.dilation *
           ((t / conv_.side - half) * map.row + (t % conv_.side - half) * map.pixel);
  }

  // Into result_, with the kernel turned round for direction -1.
  void convolve(const Map& in, int direction) {
    const std::int64_t taps = conv_.taps(), before = conv_.before();
    const std::int64_t channels = operand_channels(), results = result_channels();
    for (std::int64_t t = 0; t < before; ++t) reach_[t] = direction * offset(t, in);
    const A* packed = packed_;
    for_each_block<A>(results, [&](auto vectors, std::int64_t first) {
      constexpr std::int64_t kWidth = vectors * Vector::count;
      std::int64_t last_channels = channels;
      if (taps > before) {
        const Seen block = seen(first, std::min<std::int64_t>(kWidth, results - first));
        reach_[before] = block.begin;
        last_channels = block.end - block.begin;
      }
      for_each_panel<kPixels>(
          extent_.images * extent_.height * extent_.width, [&](auto count, std::int64_t from) {
            const A* at[count];
            A* to[count];
            Position position(from, extent_);
            for (int p = 0; p < count; ++p, position.advance(extent_)) {
              at[p] = position.in(in);
              to[p] = position.in(result_) + first;
            }
            convolve_tile<count, vectors>(at, reach_, taps, channels, last_channels, packed,
                                          bias_ + first, to);
          });
      packed += (before * channels + (taps > before ? last_channels : 0)) * kWidth;
    });
  }

  void weight_gradient(bool start, A* total) const {
    const MaskedConvPartial<A> part(conv_);
    for (std::int64_t t = 0; t < conv_.taps(); ++t, total += part.rows * part.columns) {
      Map shifted = in_;
      shifted.origin += offset(t, in_);
      const Map& a = part.along_outputs ? shifted : grad_;
      const Map& b = part.along_outputs ? grad_ : shifted;
      for_each_block<A>(part.columns, [&](auto vectors, std::int64_t column) {
        const std::int64_t last_column =
            std::min(column + vectors * Vector::count,
                     part.along_outputs ? conv_.outputs : conv_.inputs) -
            1;
        for_each_panel<kPixels>(part.rows, [&](auto rows, std::int64_t row) {
          if (t == conv_.before()) {  // a block in which no output sees an input
            const std::int64_t output = part.along_outputs ? last_column : row + rows - 1;
            if ((part.along_outputs ? row : column) >= conv_.seen_by(output)) return;
          }
          outer_product_tile<rows, vectors>(a, row, b, column, start, part.columns, extent_,
                                            total + row * part.columns + column);
        });
      });
    }
  }

  void bias_gradient(bool start, A* total) const {
    total += MaskedConvPartial<A>(conv_).bias;
    for (std::int64_t c = 0; c < conv_.outputs; c += Vector::count) {
      Vector sum = start ? Vector::fill(A(0)) : Vector::load(total + c);
      for (std::int64_t n = 0; n < extent_.images; ++n)
        for (std::int64_t y = 0; y < extent_.height; ++y) {
          const A* at = grad_.origin + n * grad_.image + y * grad_.row + c;
          for (std::int64_t x = 0; x < extent_.width; ++x, at += grad_.pixel)
            sum.value += Vector::load(at).value;
        }
      sum.store(total + c);
    }
  }

  const MaskedConv2d& conv_;
  const MaskedConv2dBackward* const backward_;
  Scratch scratch_;
  std::int64_t* reach_;
  Map in_, grad_, result_;
  A* bias_ = nullptr;
  A* packed_ = nullptr;
  std::int64_t image_ = 0, row_ = 0;  // the first ones of the tile
  Extent extent_{};
};

// Tiles [begin, end).
template <class A>
void masked_conv2d_range(const MaskedConv2d& args, std::int64_t begin, std::int64_t end) {
  MaskedConvTile<A> work(args, nullptr);
  for (std::int64_t tile = begin; tile < end; ++tile) work.forward(tile);
}

// Pieces [begin, end).
template <class A>
void masked_conv2d_backward_range(const MaskedConv2dBackward& args, std::int64_t begin,
                                  std::int64_t end) {
  MaskedConvTile<A> work(args, &args);
  const std::int64_t size = MaskedConvPartial<A>(args).size;
  for (std::int64_t piece = begin; piece < end; ++piece) {
    const std::int64_t first = piece * args.tiles() / args.pieces;
    const std::int64_t last = (piece + 1) * args.tiles() / args.pieces;
    for (std::int64_t tile = first; tile < last; ++tile)
      work.backward(tile, tile == first, static_cast<A*>(args.partial) + piece * size);
  }
}

// Adds up the pieces' parts, in the first one's place, for taps [begin, end), of which the one
// after the last is the bias.
template <class A>
void masked_conv2d_gradients_range(const MaskedConv2dBackward& args, std::int64_t begin,
                                   std::int64_t end) {
  const MaskedConvPartial<A> part(args);
  const std::int64_t tap = part.rows * part.columns, side = args.side * args.side;
  const auto add_up = [&](std::int64_t at, std::int64_t count) {
    A* const sum = static_cast<A*>(args.partial) + at;
    for (std::int64_t piece = 1; piece < args.pieces; ++piece) {
      const A* const other = sum + piece * part.size;
      for (std::int64_t k = 0; k < count; ++k) sum[k] += other[k];
    }
    return sum;
  };
  for (std::int64_t t = begin; t < std::min(end, args.taps()); ++t) {
    if (args.weight_grad == nullptr) break;
    const A* const sum = add_up(t * tap, tap);
    A* const grad = static_cast<A*>(args.weight_grad) + t;
    for (std::int64_t o = 0; o < args.outputs; ++o) {
      const std::int64_t seen = t < args.before() ? args.inputs : args.seen_by(o);
      for (std::int64_t i = 0; i < seen; ++i)
        grad[(o * args.inputs + i) * side] =
            sum[part.along_outputs ? i * part.columns + o : o * part.columns + i];
    }
  }
  if (end > args.taps() && args.bias_grad != nullptr)
    std::copy_n(add_up(part.bias, args.outputs), args.outputs, static_cast<A*>(args.bias_grad));
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
