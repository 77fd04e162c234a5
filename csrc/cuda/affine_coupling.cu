// Affine couplings on CUDA, a piece of a row to a part of a warp, a warp or a block. Bytes per
// transformed element of b bytes: the map reads x, raw, shift and writes one (4b); backward reads
// those and grad_out and writes up to three (7b; 5b where the shift's part is grad_out itself);
// rebuilding the input adds a write (8b at most); double backward reads up to seven and writes up
// to four (11b). An element that passes through is read and written once. The kind of scale is a
// branch that all threads take alike: the kernels wait for memory, not for it.
#include "../arguments/affine_coupling.h"
#include "../math/affine.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
__device__ __forceinline__ void read_row(const ConstRows& rows, std::int64_t row, const Span& span,
                                         accumulate_t<T> (&out)[4]) {
  if (rows.data != nullptr)
    return read<T>(static_cast<const T*>(rows.data) + row * rows.stride, span, out);
#pragma unroll
  for (int k = 0; k < 4; ++k) out[k] = accumulate_t<T>(0);
}

template <class T>
__device__ __forceinline__ void write_row(const Rows& rows, std::int64_t row, const Span& span,
                                          const accumulate_t<T> (&values)[4]) {
  if (rows.data != nullptr) write<T>(static_cast<T*>(rows.data) + row * rows.stride, span, values);
}

// The same elements in a whole tensor.
__device__ __forceinline__ Span shifted(const Span& span, std::int64_t by) {
  return {span.at + by, span.begin, span.end, span.whole};
}

// Calls body(row, span) for this thread's groups of four among the first `size` elements of a row.
template <class Body>
__device__ __forceinline__ void for_each_group(const Place& place, const CouplingArguments& args,
                                               std::int64_t size, bool aligned, Body body) {
  if (!place.present) return;
  const std::int64_t row = place.chain / args.pieces;
  const std::int64_t from = place.chain % args.pieces * args.piece;
  const std::int64_t to = size < from + args.piece ? size : from + args.piece;
  for (std::int64_t at = from + 4 * place.rank; at < to; at += 4 * place.width) {
    const int end = to - at < 4 ? static_cast<int>(to - at) : 4;
    body(row, Span{at, 0, end, aligned && end == 4});
  }
}

// Which of a group's elements are transformed.
__device__ __forceinline__ void checkerboard(const CouplingArguments& args, const Span& span,
                                             bool (&moved)[4]) {
  const unsigned width = static_cast<unsigned>(args.width);
  const unsigned height = static_cast<unsigned>(args.height);
  unsigned line = static_cast<unsigned>(span.at) / width;
  unsigned column = static_cast<unsigned>(span.at) - line * width;
  line %= height;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    moved[k] = ((line + column + static_cast<unsigned>(args.passing)) & 1u) != 0;
    if (++column == width) {
      column = 0;
      if (++line == height) line = 0;
    }
  }
}

template <class A>
__device__ __forceinline__ void keep(const bool (&moved)[4], const A (&passing)[4], A (&out)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (!moved[k]) out[k] = passing[k];
}

// Elements that pass through: copied, or zeros.
template <class T>
__device__ __forceinline__ void pass_through(const CouplingArguments& args, const Place& place,
                                             bool aligned, const Rows& out, const ConstRows& x) {
  if (out.data == nullptr) return;
  for_each_group(place, args, args.rest_size, aligned, [&](std::int64_t row, const Span& part) {
    const Span span = shifted(part, args.rest_begin);
    accumulate_t<T> values[4];
    read_row<T>(x, row, span, values);
    write_row<T>(out, row, span, values);
  });
}

template <class A>
__device__ __forceinline__ void write_sum(const CouplingArguments& args, const Place& place,
                                          double sum) {
  sum = chain_sum(place, sum);
  if (!place.present || place.rank != 0 || args.sums == nullptr) return;
  if (args.pieces > 1)
    static_cast<double*>(args.sums)[place.chain] = sum;
  else
    static_cast<A*>(args.sums)[place.chain] = static_cast<A>(sum);
}

template <class A>
__device__ __forceinline__ A grad_log_det_of(const void* grads, std::int64_t row) {
  return grads == nullptr ? A(0) : static_cast<const A*>(grads)[row];
}

template <class T>
struct CouplingBody {
  AffineCoupling args;
  bool rows_aligned;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    const bool aligned = rows_aligned && shape.aligned;
    const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
    double sum = 0.0;
    for_each_group(place, args, args.size, aligned, [&](std::int64_t row, const Span& span) {
      A x[4], raw[4], shift[4], out[4], terms = 0;
      bool moved[4] = {true, true, true, true};
      read_row<T>(args.x, row, shifted(span, args.begin), x);
      read_row<T>(args.raw, row, span, raw);
      read_row<T>(args.shift, row, span, shift);
      if (args.width > 0) checkerboard(args, span, moved);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const auto scale = coupling_scale(args.kind, args.inverse, raw[k], bound, inverse_bound);
        out[k] = coupling_map(args.kind, args.inverse, scale, x[k], shift[k]);
        if (k < span.end && moved[k]) terms += scale.log_multiplier;
      }
      sum += terms;
      keep(moved, x, out);
      write_row<T>(args.out, row, shifted(span, args.begin), out);
    });
    pass_through<T>(args, place, aligned, args.out, args.x);
    write_sum<A>(args, place, sum);
  }
};

template <class T>
struct BackwardBody {
  AffineCouplingBackward args;
  bool rows_aligned;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    const bool aligned = rows_aligned && shape.aligned, rewinds = args.x_out.data != nullptr;
    const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
    for_each_group(place, args, args.size, aligned, [&](std::int64_t row, const Span& span) {
      A x[4], raw[4], shift[4], g[4], x_grad[4], x_out[4];
      bool moved[4] = {true, true, true, true};
      const Span whole = shifted(span, args.begin);
      read_row<T>(args.x, row, whole, x);
      read_row<T>(args.raw, row, span, raw);
      read_row<T>(args.shift, row, span, shift);
      read_row<T>(args.grad_out, row, whole, g);
      const A h = grad_log_det_of<A>(args.grad_log_det, row);
      if (args.width > 0) checkerboard(args, span, moved);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        x_out[k] = x[k];
        if (rewinds) {
          const auto back = coupling_scale(args.kind, true, raw[k], bound, inverse_bound);
          x_out[k] = coupling_map(args.kind, true, back, x[k], shift[k]);
        }
        const auto scale = coupling_scale(args.kind, args.inverse, raw[k], bound, inverse_bound);
        const auto grads =
            coupling_grads(args.kind, args.inverse, scale, x_out[k], shift[k], g[k], h);
        x_grad[k] = moved[k] ? grads.x : g[k];
        raw[k] = moved[k] ? grads.raw : A(0);
        shift[k] = moved[k] ? grads.shift : A(0);
      }
      keep(moved, x, x_out);
      write_row<T>(args.x_grad, row, whole, x_grad);
      write_row<T>(args.raw_grad, row, span, raw);
      write_row<T>(args.shift_grad, row, span, shift);
      write_row<T>(args.x_out, row, whole, x_out);
    });
    pass_through<T>(args, place, aligned, args.x_grad, args.grad_out);
    pass_through<T>(args, place, aligned, args.x_out, args.x);
  }
};

template <class T>
struct DoubleBackwardBody {
  AffineCouplingDoubleBackward args;
  bool rows_aligned;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    const bool aligned = rows_aligned && shape.aligned;
    const A bound = static_cast<A>(args.bound), inverse_bound = static_cast<A>(1.0 / args.bound);
    double sum = 0.0;
    for_each_group(place, args, args.size, aligned, [&](std::int64_t row, const Span& span) {
      A x[4], raw[4], shift[4], g[4], a[4], b[4], c[4], terms = 0;
      bool moved[4] = {true, true, true, true};
      const Span whole = shifted(span, args.begin);
      read_row<T>(args.x, row, whole, x);
      read_row<T>(args.raw, row, span, raw);
      read_row<T>(args.shift, row, span, shift);
      read_row<T>(args.grad_out, row, whole, g);
      read_row<T>(args.x_tangent, row, whole, a);
      read_row<T>(args.raw_tangent, row, span, b);
      read_row<T>(args.shift_tangent, row, span, c);
      const A h = grad_log_det_of<A>(args.grad_log_det, row);
      if (args.width > 0) checkerboard(args, span, moved);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const auto scale = coupling_scale(args.kind, args.inverse, raw[k], bound, inverse_bound);
        const auto grads = coupling_second_grads(args.kind, args.inverse, scale, x[k], shift[k],
                                                 g[k], h, a[k], b[k], c[k]);
        g[k] = moved[k] ? grads.g : a[k];
        x[k] = moved[k] ? grads.x : A(0);
        raw[k] = moved[k] ? grads.raw : A(0);
        shift[k] = moved[k] ? grads.shift : A(0);
        if (k < span.end && moved[k]) terms += grads.h;
      }
      sum += terms;
      write_row<T>(args.grad_out_grad, row, whole, g);
      write_row<T>(args.x_grad, row, whole, x);
      write_row<T>(args.raw_grad, row, span, raw);
      write_row<T>(args.shift_grad, row, span, shift);
    });
    pass_through<T>(args, place, aligned, args.grad_out_grad, args.x_tangent);
    pass_through<T>(args, place, aligned, args.x_grad, {nullptr, 0});
    write_sum<A>(args, place, sum);
  }
};

// Runs Body<T> on every piece. Groups of four are moved at once where they are aligned in every row
// of every tensor.
template <template <class> class Body, class Arguments>
void launch_coupling(const Arguments& args, std::initializer_list<ConstRows> tensors,
                     std::initializer_list<Rows> results, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    bool aligned = args.begin % 4 == 0 && args.rest_begin % 4 == 0;
    const auto look_at = [&](const void* data, std::int64_t stride) {
      const auto address = reinterpret_cast<std::uintptr_t>(data);
      aligned = aligned && (data == nullptr || (address % alignof(Quad<T>) == 0 &&
                                                (args.rows < 2 || stride % 4 == 0)));
    };
    for (const ConstRows& rows : tensors) look_at(rows.data, rows.stride);
    for (const Rows& rows : results) look_at(rows.data, rows.stride);
    std::int64_t longest = args.size > args.rest_size ? args.size : args.rest_size;
    if (longest > args.piece) longest = args.piece;
    launch_chainwise<T>(Body<T>{args, aligned}, args.items(), longest, 0, {}, stream);
  });
}

template <class A>
__global__ void __launch_bounds__(kThreads) piece_sums_kernel(PieceSums args) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= args.rows) return;
  double sum = 0.0;
  for (std::int64_t k = 0; k < args.pieces; ++k) sum += args.sums[row * args.pieces + k];
  static_cast<A*>(args.out)[row] = static_cast<A>(sum);
}

}  // namespace

void affine_coupling(const AffineCoupling& args, void* stream) {
  launch_coupling<CouplingBody>(args, {args.x, args.raw, args.shift}, {args.out}, stream);
}

void affine_coupling_backward(const AffineCouplingBackward& args, void* stream) {
  launch_coupling<BackwardBody>(args, {args.x, args.raw, args.shift, args.grad_out},
                                {args.x_grad, args.raw_grad, args.shift_grad, args.x_out}, stream);
}

void affine_coupling_double_backward(const AffineCouplingDoubleBackward& args, void* stream) {
  launch_coupling<DoubleBackwardBody>(
      args,
      {args.x, args.raw, args.shift, args.grad_out, args.x_tangent, args.raw_tangent,
       args.shift_tangent},
      {args.grad_out_grad, args.x_grad, args.raw_grad, args.shift_grad}, stream);
}

void piece_sums(const PieceSums& args, void* stream) {
  if (args.rows == 0) return;  // a grid without blocks is an error
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  const LaunchShape shape{blocks, kThreads};
  if (args.dtype == Dtype::kFloat64)
    launch_kernel(piece_sums_kernel<double>, shape, stream, args);
  else
    launch_kernel(piece_sums_kernel<float>, shape, stream, args);
}

}  // namespace gencore::cuda
