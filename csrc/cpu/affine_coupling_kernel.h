// Affine couplings over pieces of rows. Bytes per transformed element of b bytes: the map reads x,
// raw, shift and writes one (4b); backward reads those and grad_out and writes up to three (7b; 5b
// where the shift's part is grad_out itself); rebuilding the input adds a write (8b at most);
// double backward reads up to seven and writes up to four (11b). An element that passes through is
// read and written once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../arguments/affine_coupling.h"
#include "../math/affine.h"
#include "../math/storage.h"
#include "chainwise.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

inline constexpr int kCouplingBlock = 512;

// A tensor's rows as blocks of the accumulation type: the memory itself where it is of that type,
// else a copy. Zeros where there is no tensor.
template <class T>
class BlocksIn {
 public:
  using A = accumulate_t<T>;
  explicit BlocksIn(const ConstRows& rows)
      : data_(static_cast<const T*>(rows.data)), stride_(rows.stride) {
    if (data_ == nullptr) std::fill_n(buffer_, kCouplingBlock, A(0));
  }
  const A* at(std::int64_t row, std::int64_t element, std::int64_t count) {
    if (data_ == nullptr) return buffer_;
    const T* source = data_ + row * stride_ + element;
    if constexpr (std::is_same_v<T, A>) return source;
    for (std::int64_t k = 0; k < count; ++k) buffer_[k] = load(source[k]);
    return buffer_;
  }

 private:
  const T* data_;
  std::int64_t stride_;
  alignas(64) A buffer_[kCouplingBlock];
};

// The same for a result: fill the block that at() returns, then write() it. A block of a result
// that is not wanted goes nowhere.
template <class T>
class BlocksOut {
 public:
  using A = accumulate_t<T>;
  explicit BlocksOut(const Rows& rows) : data_(static_cast<T*>(rows.data)), stride_(rows.stride) {}
  A* at(std::int64_t row, std::int64_t element) {
    if constexpr (std::is_same_v<T, A>)
      if (data_ != nullptr) return data_ + row * stride_ + element;
    return buffer_;
  }
  void write(std::int64_t row, std::int64_t element, std::int64_t count) {
    if (std::is_same_v<T, A> || data_ == nullptr) return;
    T* target = data_ + row * stride_ + element;
    for (std::int64_t k = 0; k < count; ++k) target[k] = store<T>(buffer_[k]);
  }

 private:
  T* data_;
  std::int64_t stride_;
  alignas(64) A buffer_[kCouplingBlock];
};

// Which elements of a checkerboard are transformed, a block at a time.
template <class A>
class Checkerboard {
 public:
  explicit Checkerboard(const CouplingArguments& args) : args_(args) {}
  explicit operator bool() const { return args_.width > 0; }
  void move_to(std::int64_t element, std::int64_t count) {
    std::int64_t line = element / args_.width, column = element % args_.width;
    for (std::int64_t done = 0; done < count; ++line, column = 0) {
      const std::int64_t run = std::min(count - done, args_.width - column);
      const auto first = static_cast<int>((line % args_.height + column + args_.passing) & 1);
      for (int k = 0; k < run; ++k) moved_[done + k] = static_cast<A>((first + k) & 1);
      done += run;
    }
  }
  // Puts what passes through, or zeros where that is null, among the transformed elements.
  void keep(const A* passing, std::int64_t count, A* out) const {
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const A kept = passing == nullptr ? A(0) : passing[k];
      out[k] = moved_[k] != A(0) ? out[k] : kept;
    }
  }

 private:
  const CouplingArguments& args_;
  alignas(64) A moved_[kCouplingBlock];
};

// Calls body(row, at, count, terms) for the blocks of the pieces [begin, end), which leaves a term
// for each element, and rest(row, at, count) once a piece for what passes through of it. A backward
// pass begins with the last rows, which may still be in cache: they were touched last.
template <class T, bool kFromTheEnd = false, class Body, class Rest>
void for_each_coupling_block(const CouplingArguments& args, std::int64_t begin, std::int64_t end,
                             Body body, Rest rest) {
  using A = accumulate_t<T>;
  alignas(64) A terms[kCouplingBlock];
  for (std::int64_t step = 0; step < end - begin; ++step) {
    const std::int64_t item = kFromTheEnd ? end - 1 - step : begin + step;
    const std::int64_t row = item / args.pieces, from = item % args.pieces * args.piece;
    const std::int64_t to = std::min(args.size, from + args.piece);
    const auto finish = [&](std::int64_t, double sum) {
      if (args.sums == nullptr) return;
      if (args.pieces > 1)
        static_cast<double*>(args.sums)[item] = sum;
      else
        static_cast<A*>(args.sums)[item] = static_cast<A>(sum);
    };
    if (to <= from) finish(item, 0.0);
    ChainSums sums(item, to - from);
    for (std::int64_t at = from; at < to; at += kCouplingBlock) {
      const std::int64_t count = std::min<std::int64_t>(kCouplingBlock, to - at);
      body(row, at, count, terms);
      if (args.sums != nullptr) sums.add(terms, count, finish);
    }
    const std::int64_t rest_to = std::min(args.rest_size, from + args.piece);
    if (rest_to > from) rest(row, args.rest_begin + from, rest_to - from);
  }
}

// Elements that pass through: copied, or zeros.
template <class T>
void pass_through(const Rows& out, const ConstRows& x, std::int64_t row, std::int64_t at,
                  std::int64_t count) {
  if (out.data == nullptr) return;
  T* target = static_cast<T*>(out.data) + row * out.stride + at;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  if (x.data == nullptr)
    std::memset(target, 0, bytes);
  else
    std::memcpy(target, static_cast<const T*>(x.data) + row * x.stride + at, bytes);
}

// A block of operands and results. Results never lie over operands.
template <class A>
struct MapBlock {
  const A *x, *raw, *shift;
  A *out, *terms;
};
template <class A>
struct BackwardBlock {
  const A *x, *raw, *shift, *g;
  A h;
  A *x_grad, *raw_grad, *shift_grad, *x_out;
};
template <class A>
struct DoubleBackwardBlock {
  const A *x, *raw, *shift, *g, *a, *b, *c;
  A h;
  A *g_grad, *x_grad, *raw_grad, *shift_grad, *terms;
};

template <ScaleKind kind, bool inverse>
struct CouplingLoops {
  template <class A>
  static void run(const MapBlock<A>& p, A bound, A inverse_bound, std::int64_t count) {
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const auto scale = coupling_scale<A>(kind, inverse, p.raw[k], bound, inverse_bound);
      p.out[k] = coupling_map(kind, inverse, scale, p.x[k], p.shift[k]);
      p.terms[k] = scale.log_multiplier;
    }
  }

  template <class A>
  static void run(const BackwardBlock<A>& p, A bound, A inverse_bound, std::int64_t count) {
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const auto scale = coupling_scale<A>(kind, inverse, p.raw[k], bound, inverse_bound);
      const auto grads = coupling_grads(kind, inverse, scale, p.x[k], p.shift[k], p.g[k], p.h);
      p.x_grad[k] = grads.x;
      p.raw_grad[k] = grads.raw;
      p.shift_grad[k] = grads.shift;
    }
  }

  template <class A>
  static void run(const DoubleBackwardBlock<A>& p, A bound, A inverse_bound, std::int64_t count) {
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const auto scale = coupling_scale<A>(kind, inverse, p.raw[k], bound, inverse_bound);
      const auto grads = coupling_second_grads(kind, inverse, scale, p.x[k], p.shift[k], p.g[k],
                                               p.h, p.a[k], p.b[k], p.c[k]);
      p.g_grad[k] = grads.g;
      p.x_grad[k] = grads.x;
      p.raw_grad[k] = grads.raw;
      p.shift_grad[k] = grads.shift;
      p.terms[k] = grads.h;
    }
  }
};

// The backward pass from the forward map's output, which stands for x.
template <ScaleKind kind>
struct RewindLoop {
  template <class A>
  static void run(const BackwardBlock<A>& p, A bound, A inverse_bound, std::int64_t count) {
#pragma GCC ivdep
    for (std::int64_t k = 0; k < count; ++k) {
      const A raw = p.raw[k], t = p.shift[k];
      const auto back = coupling_scale<A>(kind, true, raw, bound, inverse_bound);
      const auto scale = coupling_scale<A>(kind, false, raw, bound, inverse_bound);
      const A x = coupling_map(kind, true, back, p.x[k], t);
      const auto grads = coupling_grads(kind, false, scale, x, t, p.g[k], p.h);
      p.x_out[k] = x;
      p.x_grad[k] = grads.x;
      p.raw_grad[k] = grads.raw;
      p.shift_grad[k] = grads.shift;
    }
  }
};

// choose(kind, inverse), as constants: a loop without branches for each.
template <class Choose>
auto for_scale(const CouplingArguments& args, Choose choose) {
  const auto in_direction = [&](auto kind) {
    return args.inverse ? choose(kind, std::true_type{}) : choose(kind, std::false_type{});
  };
  switch (args.kind) {
    case ScaleKind::kExponential:
      return in_direction(std::integral_constant<ScaleKind, ScaleKind::kExponential>{});
    case ScaleKind::kBounded:
      return in_direction(std::integral_constant<ScaleKind, ScaleKind::kBounded>{});
    default:
      return in_direction(std::integral_constant<ScaleKind, ScaleKind::kGated>{});
  }
}

template <class Block, class A>
using CouplingLoop = void (*)(const Block&, A bound, A inverse_bound, std::int64_t count);

template <class A, class Block>
CouplingLoop<Block, A> coupling_loop(const CouplingArguments& args) {
  return for_scale(args, [](auto kind, auto inverse) -> CouplingLoop<Block, A> {
    return &CouplingLoops<kind(), inverse()>::template run<A>;
  });
}

template <class A>
CouplingLoop<BackwardBlock<A>, A> rewind_loop(const CouplingArguments& args) {
  return for_scale(args, [](auto kind, auto) -> CouplingLoop<BackwardBlock<A>, A> {
    return &RewindLoop<kind()>::template run<A>;
  });
}

template <class T>
void affine_coupling_range(const AffineCoupling& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const auto loop = coupling_loop<A, MapBlock<A>>(args);
  const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
  BlocksIn<T> x(args.x), raw(args.raw), shift(args.shift);
  BlocksOut<T> out(args.out);
  Checkerboard<A> board(args);
  for_each_coupling_block<T>(
      args, begin, end,
      [&](std::int64_t row, std::int64_t at, std::int64_t count, A* terms) {
        const std::int64_t whole = args.begin + at;
        const MapBlock<A> block{x.at(row, whole, count), raw.at(row, at, count),
                                shift.at(row, at, count), out.at(row, whole), terms};
        loop(block, bound, inverse_bound, count);
        if (board) {
          board.move_to(at, count);
          board.keep(block.x, count, block.out);
          board.keep(nullptr, count, terms);
        }
        out.write(row, whole, count);
      },
      [&](std::int64_t row, std::int64_t at, std::int64_t count) {
        pass_through<T>(args.out, args.x, row, at, count);
      });
}

template <class T>
void affine_coupling_backward_range(const AffineCouplingBackward& args, std::int64_t begin,
                                    std::int64_t end) {
  using A = accumulate_t<T>;
  const bool rewinds = args.x_out.data != nullptr;
  const auto loop = rewinds ? rewind_loop<A>(args) : coupling_loop<A, BackwardBlock<A>>(args);
  const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
  const A* h = static_cast<const A*>(args.grad_log_det);
  BlocksIn<T> x(args.x), raw(args.raw), shift(args.shift), g(args.grad_out);
  BlocksOut<T> x_grad(args.x_grad), raw_grad(args.raw_grad), shift_grad(args.shift_grad),
      x_out(args.x_out);
  Checkerboard<A> board(args);
  for_each_coupling_block<T, true>(
      args, begin, end,
      [&](std::int64_t row, std::int64_t at, std::int64_t count, A*) {
        const std::int64_t whole = args.begin + at;
        const BackwardBlock<A> block{
            x.at(row, whole, count), raw.at(row, at, count),       shift.at(row, at, count),
            g.at(row, whole, count), h == nullptr ? A(0) : h[row], x_grad.at(row, whole),
            raw_grad.at(row, at),    shift_grad.at(row, at),       x_out.at(row, whole)};
        loop(block, bound, inverse_bound, count);
        if (board) {
          board.move_to(at, count);
          board.keep(block.g, count, block.x_grad);
          board.keep(nullptr, count, block.raw_grad);
          board.keep(nullptr, count, block.shift_grad);
          if (rewinds) board.keep(block.x, count, block.x_out);
        }
        x_grad.write(row, whole, count);
        raw_grad.write(row, at, count);
        shift_grad.write(row, at, count);
        x_out.write(row, whole, count);
      },
      [&](std::int64_t row, std::int64_t at, std::int64_t count) {
        pass_through<T>(args.x_grad, args.grad_out, row, at, count);
        pass_through<T>(args.x_out, args.x, row, at, count);
      });
}

template <class T>
void affine_coupling_double_backward_range(const AffineCouplingDoubleBackward& args,
                                           std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const auto loop = coupling_loop<A, DoubleBackwardBlock<A>>(args);
  const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
  const A* h = static_cast<const A*>(args.grad_log_det);
  BlocksIn<T> x(args.x), raw(args.raw), shift(args.shift), g(args.grad_out), a(args.x_tangent),
      b(args.raw_tangent), c(args.shift_tangent);
  BlocksOut<T> g_grad(args.grad_out_grad), x_grad(args.x_grad), raw_grad(args.raw_grad),
      shift_grad(args.shift_grad);
  Checkerboard<A> board(args);
  for_each_coupling_block<T>(
      args, begin, end,
      [&](std::int64_t row, std::int64_t at, std::int64_t count, A* terms) {
        const std::int64_t whole = args.begin + at;
        const DoubleBackwardBlock<A> block{x.at(row, whole, count),
                                           raw.at(row, at, count),
                                           shift.at(row, at, count),
                                           g.at(row, whole, count),
                                           a.at(row, whole, count),
                                           b.at(row, at, count),
                                           c.at(row, at, count),
                                           h == nullptr ? A(0) : h[row],
                                           g_grad.at(row, whole),
                                           x_grad.at(row, whole),
                                           raw_grad.at(row, at),
                                           shift_grad.at(row, at),
                                           terms};
        loop(block, bound, inverse_bound, count);
        if (board) {
          board.move_to(at, count);
          board.keep(block.a, count, block.g_grad);
          for (A* zero : {block.x_grad, block.raw_grad, block.shift_grad, terms})
            board.keep(nullptr, count, zero);
        }
        g_grad.write(row, whole, count);
        x_grad.write(row, whole, count);
        raw_grad.write(row, at, count);
        shift_grad.write(row, at, count);
      },
      [&](std::int64_t row, std::int64_t at, std::int64_t count) {
        pass_through<T>(args.grad_out_grad, args.x_tangent, row, at, count);
        pass_through<T>(args.x_grad, {nullptr, 0}, row, at, count);
      });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
