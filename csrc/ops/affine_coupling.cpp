// The affine coupling's operators: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// The arguments that all schemas of the family share, in their order there.
struct Settings {
  std::int64_t kind;
  double bound;
  bool inverse;
  std::int64_t mask;
  bool swap;
  bool joint;
};
enum Mask : std::int64_t { kNone, kChannel, kCheckerboard };  // as in affine_coupling_reference.py

// A piece of a row is a share of a thread's work, and a fixed one, so that the order of a sum does
// not depend on the number of threads: on CUDA four groups of four for each of a block's threads.
constexpr std::int64_t kCpuPiece = kParallelGrain, kCudaPiece = 4096;

bool has_contiguous_rows(const Tensor& tensor) {
  std::int64_t expected = 1;
  for (std::int64_t k = tensor.dim() - 1; k > 0; --k) {
    if (tensor.size(k) != 1 && tensor.stride(k) != expected) return false;
    expected *= tensor.size(k);
  }
  return true;
}

// An operand as the kernels read it: views of a few of a tensor's channels are taken as they are.
class Operand2d {
 public:
  explicit Operand2d(const OptionalTensor& tensor) {
    if (!tensor) return;
    held_ = has_contiguous_rows(*tensor) ? *tensor : torch::stable::contiguous(*tensor);
    rows_ = {held_->const_data_ptr(), held_->stride(0)};
  }
  const ConstRows& rows() const { return rows_; }

 private:
  OptionalTensor held_;
  ConstRows rows_{};
};

// A result in the layout of `like`, empty where it is not wanted.
class RowsResult {
 public:
  RowsResult(const Tensor& like, bool wanted) {
    if (!wanted) {
      tensor_ = torch::stable::new_empty(like, {0});
      return;
    }
    result_.emplace(like);
    const std::int64_t rows = like.size(0);
    rows_ = {result_->data(), rows == 0 ? 0 : like.numel() / rows};
  }
  const Rows& rows() const { return rows_; }
  Tensor finish() { return result_ ? result_->finish() : *tensor_; }

 private:
  std::optional<Result> result_;
  OptionalTensor tensor_;
  Rows rows_{};
};

// What all kernels are called with.
void describe(CouplingArguments& args, const char* op, const Tensor& x, const Settings& settings) {
  STD_TORCH_CHECK(x.dim() > 0, op, ": x has no dimensions");
  STD_TORCH_CHECK(settings.kind >= 0 && settings.kind <= 2, op, ": unknown kind of scale");
  STD_TORCH_CHECK(settings.mask >= 0 && settings.mask <= 2, op, ": unknown mask");
  STD_TORCH_CHECK(settings.bound > 0.0 && settings.bound <= kLargestBound, op,
                  ": bound is out of range");
  args.dtype = dtype_of(x, op);
  args.kind = static_cast<ScaleKind>(settings.kind);
  args.inverse = settings.inverse;
  args.bound = settings.bound;
  args.rows = x.size(0);
  std::int64_t size = 1;
  for (std::int64_t k = 1; k < x.dim(); ++k) size *= x.size(k);
  args.size = size;
  if (settings.mask == kChannel) {
    STD_TORCH_CHECK(x.dim() > 1, op, ": a channel mask needs a dimension of channels");
    const std::int64_t channels = x.size(1), first = channels - channels / 2;
    const std::int64_t plane = channels == 0 ? 0 : size / channels;
    args.size = plane * (settings.swap ? first : channels - first);
    args.begin = settings.swap ? 0 : plane * first;
    args.rest_begin = settings.swap ? plane * first : 0;
    args.rest_size = size - args.size;
  }
  if (settings.mask == kCheckerboard) {
    STD_TORCH_CHECK(x.dim() == 4, op, ": a checkerboard needs [N, C, H, W]");
    STD_TORCH_CHECK(size < (std::int64_t{1} << 31), op, ": a row has too many elements");
    args.height = std::max<std::int64_t>(x.size(2), 1);
    args.width = std::max<std::int64_t>(x.size(3), 1);
    args.passing = settings.swap ? 1 : 0;
  }
  const std::int64_t longest = std::max(args.size, args.rest_size);
  args.piece = x.is_cpu() ? kCpuPiece : kCudaPiece;
  args.pieces = std::max<std::int64_t>((longest + args.piece - 1) / args.piece, 1);
}

// Raw scales, shifts, their tangents: of the transformed part of x each, or of twice that.
void check_parameters(const OptionalTensor& tensor, const Tensor& x, const CouplingArguments& args,
                      const char* op, bool joint) {
  if (!tensor) return;
  STD_TORCH_CHECK(tensor->scalar_type() == x.scalar_type() && same_device(*tensor, x), op,
                  ": the parameters and x differ in dtype or device");
  bool fits = tensor->dim() == x.dim() && tensor->size(0) == args.rows &&
              tensor->numel() == args.rows * args.size * (joint ? 2 : 1) &&
              (!joint || (x.dim() > 1 && tensor->size(1) % 2 == 0));
  for (std::int64_t k = 2; fits && k < x.dim(); ++k) fits = tensor->size(k) == x.size(k);
  STD_TORCH_CHECK(fits, op, ": the parameters have the wrong shape");
}

// The second halves of rows that hold two operands of `size` elements each.
template <class RowsType>
RowsType second_half(RowsType rows, const Tensor& like, std::int64_t size) {
  using Byte = std::conditional_t<std::is_same_v<RowsType, Rows>, char, const char>;
  if (rows.data != nullptr)
    rows.data =
        static_cast<Byte*>(rows.data) + size * static_cast<std::int64_t>(like.element_size());
  return rows;
}

// The operands that all kernels read.
class Operands {
 public:
  Operands(CouplingArguments& args, const char* op, const Tensor& x,
           const OptionalTensor& raw_scale, const OptionalTensor& shift, const Settings& settings)
      : x_(x), raw_(raw_scale), shift_(shift) {
    describe(args, op, x, settings);
    STD_TORCH_CHECK(!settings.joint || (raw_scale && !shift), op, ": joint parameters are one");
    check_parameters(raw_scale, x, args, op, settings.joint);
    check_parameters(shift, x, args, op, false);
    args.x = x_.rows();
    args.raw = raw_.rows();
    args.shift = settings.joint ? second_half(raw_.rows(), x, args.size) : shift_.rows();
  }

 private:
  const Operand2d x_, raw_, shift_;
};

// The results of a backward pass for the parameters, joined where these are.
class ParameterGrads {
 public:
  ParameterGrads(const CouplingArguments& args, const Tensor& raw_scale, const Settings& settings,
                 bool needs_raw_scale, bool needs_shift)
      : raw_(raw_scale, needs_raw_scale), shift_(raw_scale, needs_shift && !settings.joint) {
    raw_rows_ = raw_.rows();
    shift_rows_ = settings.joint ? second_half(raw_rows_, raw_scale, args.size) : shift_.rows();
  }
  const Rows& raw_rows() const { return raw_rows_; }
  const Rows& shift_rows() const { return shift_rows_; }
  Tensor finish_raw() { return raw_.finish(); }
  Tensor finish_shift() { return shift_.finish(); }

 private:
  RowsResult raw_, shift_;
  Rows raw_rows_, shift_rows_;
};

void check_like(const OptionalTensor& tensor, const Tensor& other, const char* op,
                const char* name) {
  if (tensor) check_matches(*tensor, other, op, name);
}

void check_row_entries(const OptionalTensor& tensor, const Tensor& x, const char* op) {
  if (!tensor) return;
  STD_TORCH_CHECK(tensor->dim() == 1 && tensor->size(0) == x.size(0) &&
                      tensor->scalar_type() == accumulation_type(x) && same_device(*tensor, x),
                  op, ": grad_log_det must be [N], of the accumulation dtype and on x's device");
}

// Sums over rows, the work of `run(args)`.
template <class Arguments, class Run>
Tensor with_sums(Arguments& args, const Tensor& x, Run run) {
  const Tensor out = per_chain_result(x);
  if (args.pieces == 1) {
    args.sums = out.mutable_data_ptr();
    run();
    return out;
  }
  const Tensor sums = torch::stable::new_empty(x, {args.items()}, ScalarType::Double);
  args.sums = sums.mutable_data_ptr();
  run();
  const PieceSums whole{args.dtype, args.rows, args.pieces,
                        static_cast<const double*>(sums.const_data_ptr()), out.mutable_data_ptr()};
#ifdef GENCORE_CUDA
  if (!x.is_cpu()) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    cuda::piece_sums(whole, cuda::current_stream(x.get_device_index()));
    return out;
  }
#endif
  for (std::int64_t row = 0; row < whole.rows; ++row) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < whole.pieces; ++k) sum += whole.sums[row * whole.pieces + k];
    if (whole.dtype == Dtype::kFloat64)
      static_cast<double*>(whole.out)[row] = sum;
    else
      static_cast<float*>(whole.out)[row] = static_cast<float>(sum);
  }
  return out;
}

template <class Arguments>
void launch_pieces(const Tensor& on, const Arguments& args, CpuKernel<Arguments> cpu_kernel,
                   CudaKernel<Arguments> cuda_kernel) {
  const std::int64_t longest =
      std::min(std::max({args.size, args.rest_size, std::int64_t{1}}), args.piece);
  launch_items(on, args, args.items(), std::max<std::int64_t>(kParallelGrain / longest, 1),
               cpu_kernel, cuda_kernel);
}

std::tuple<Tensor, Tensor> affine_coupling(Tensor x, OptionalTensor raw_scale, OptionalTensor shift,
                                           std::int64_t kind, double bound, bool inverse,
                                           std::int64_t mask, bool swap, bool joint) {
  const char* op = "affine_coupling";
  const Settings settings{kind, bound, inverse, mask, swap, joint};
  STD_TORCH_CHECK(shift || joint, op, ": shift is needed");
  AffineCoupling args{};
  const Operands operands(args, op, x, raw_scale, shift, settings);
  RowsResult out(x, true);
  args.out = out.rows();
  const Tensor log_det =
      with_sums(args, x, [&] { launch_pieces(x, args, GENCORE_KERNELS(affine_coupling)); });
  return {out.finish(), log_det};
}

std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(
    OptionalTensor grad_y, OptionalTensor grad_log_det, Tensor x, Tensor raw_scale,
    OptionalTensor shift, std::int64_t kind, double bound, bool inverse, std::int64_t mask,
    bool swap, bool joint, bool needs_x, bool needs_raw_scale, bool needs_shift) {
  const char* op = "affine_coupling_backward";
  const Settings settings{kind, bound, inverse, mask, swap, joint};
  AffineCouplingBackward args{};
  const Operands operands(args, op, x, raw_scale, shift, settings);
  STD_TORCH_CHECK(shift || joint || !shift_comes_first(args.kind, inverse), op,
                  ": shift is needed");
  check_like(grad_y, x, op, "grad_y");
  check_row_entries(grad_log_det, x, op);
  const Operand2d grad_rows(grad_y);
  const OptionalTensor h = as_contiguous(grad_log_det);
  RowsResult x_grad(x, needs_x);
  ParameterGrads grads(args, raw_scale, settings, needs_raw_scale, needs_shift);
  args.grad_out = grad_rows.rows();
  args.grad_log_det = data(h);
  args.x_grad = x_grad.rows();
  args.raw_grad = grads.raw_rows();
  args.shift_grad = grads.shift_rows();
  launch_pieces(x, args, GENCORE_KERNELS(affine_coupling_backward));
  return {x_grad.finish(), grads.finish_raw(), grads.finish_shift()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> affine_coupling_double_backward(
    OptionalTensor x_tangent, OptionalTensor raw_tangent, OptionalTensor shift_tangent,
    OptionalTensor grad_y, OptionalTensor grad_log_det, Tensor x, Tensor raw_scale,
    OptionalTensor shift, std::int64_t kind, double bound, bool inverse, std::int64_t mask,
    bool swap, bool joint) {
  const char* op = "affine_coupling_double_backward";
  const Settings settings{kind, bound, inverse, mask, swap, joint};
  AffineCouplingDoubleBackward args{};
  const Operands operands(args, op, x, raw_scale, shift, settings);
  const bool first = shift_comes_first(args.kind, inverse);
  STD_TORCH_CHECK(shift || joint || !first, op, ": shift is needed");
  check_parameters(raw_tangent, x, args, op, joint);
  check_parameters(shift_tangent, x, args, op, false);
  check_like(grad_y, x, op, "grad_y");
  check_like(x_tangent, x, op, "x_tangent");
  check_row_entries(grad_log_det, x, op);
  const Operand2d grad_rows(grad_y), a(x_tangent), b(raw_tangent), c(shift_tangent);
  const OptionalTensor h = as_contiguous(grad_log_det);
  // What vanishes for all operands is left out, as affine_coupling_derivatives.py knows.
  const bool curved = raw_tangent && grad_y;
  RowsResult grad_out_grad(x, static_cast<bool>(grad_y)), x_grad(x, curved);
  ParameterGrads grads(args, raw_scale, settings, true, curved && first);
  args.grad_out = grad_rows.rows();
  args.grad_log_det = data(h);
  args.x_tangent = a.rows();
  args.raw_tangent = b.rows();
  args.shift_tangent = joint ? second_half(b.rows(), x, args.size) : c.rows();
  args.grad_out_grad = grad_out_grad.rows();
  args.x_grad = x_grad.rows();
  args.raw_grad = grads.raw_rows();
  args.shift_grad = grads.shift_rows();
  const Tensor log_det_grad = with_sums(
      args, x, [&] { launch_pieces(x, args, GENCORE_KERNELS(affine_coupling_double_backward)); });
  return {grad_out_grad.finish(), log_det_grad, x_grad.finish(), grads.finish_raw(),
          grads.finish_shift()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> affine_coupling_backward_from_output(
    Tensor y, Tensor raw_scale, OptionalTensor shift, Tensor grad_y, Tensor grad_log_det,
    std::int64_t kind, double bound, bool inverse, std::int64_t mask, bool swap, bool joint,
    bool needs_shift) {
  const char* op = "affine_coupling_backward_from_output";
  const Settings settings{kind, bound, inverse, mask, swap, joint};
  STD_TORCH_CHECK(!inverse, op, ": the inverse is not rebuilt");
  STD_TORCH_CHECK(shift || joint, op, ": shift is needed");
  AffineCouplingBackward args{};
  const Operands operands(args, op, y, raw_scale, shift, settings);
  check_matches(grad_y, y, op, "grad_y");
  check_row_entries(grad_log_det, y, op);
  const Operand2d grad_rows(grad_y);
  const Tensor h = as_contiguous(grad_log_det);
  RowsResult x_out(y, true), x_grad(y, true);
  ParameterGrads grads(args, raw_scale, settings, true, needs_shift);
  args.grad_out = grad_rows.rows();
  args.grad_log_det = h.const_data_ptr();
  args.x_out = x_out.rows();
  args.x_grad = x_grad.rows();
  args.raw_grad = grads.raw_rows();
  args.shift_grad = grads.shift_rows();
  launch_pieces(y, args, GENCORE_KERNELS(affine_coupling_backward));
  return {x_out.finish(), x_grad.finish(), grads.finish_raw(), grads.finish_shift()};
}

}  // namespace

// Kinds of scale and masks are numbered as in gencore/ops/affine_coupling_reference.py.
// Joint: raw_scale holds the raw scales and, in the second half of dimension 1, the shifts.
#define GENCORE_COUPLING_SETTINGS \
  "int kind, float bound, bool inverse, int mask, bool swap, bool joint"
#define GENCORE_COUPLING_BACKWARD                                      \
  "Tensor? grad_y, Tensor? grad_log_det, Tensor x, Tensor raw_scale, " \
  "Tensor? shift, " GENCORE_COUPLING_SETTINGS

GENCORE_OPERATORS(
    {"affine_coupling(Tensor x, Tensor? raw_scale, Tensor? shift, " GENCORE_COUPLING_SETTINGS
     ") -> (Tensor, Tensor)",
     TORCH_BOX(&affine_coupling)},
    {"affine_coupling_backward(" GENCORE_COUPLING_BACKWARD
     ", bool needs_x, bool needs_raw_scale, bool needs_shift) -> (Tensor, Tensor, Tensor)",
     TORCH_BOX(&affine_coupling_backward)},
    {"affine_coupling_double_backward(Tensor? x_tangent, Tensor? raw_scale_tangent, "
     "Tensor? shift_tangent, " GENCORE_COUPLING_BACKWARD
     ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
     TORCH_BOX(&affine_coupling_double_backward)},
    {"affine_coupling_backward_from_output(Tensor y, Tensor raw_scale, Tensor? shift, "
     "Tensor grad_y, Tensor grad_log_det, " GENCORE_COUPLING_SETTINGS
     ", bool needs_shift) -> (Tensor, Tensor, Tensor, Tensor)",
     TORCH_BOX(&affine_coupling_backward_from_output)});

}  // namespace gencore
