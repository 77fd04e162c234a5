// The rational-quadratic spline's operators: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>

#include "coefficients.h"
#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

// The numbers that both schemas share, in their order there.
struct Settings {
  double tail_bound;
  double bound;
  double min_width;
  double min_height;
  double min_derivative;
  bool inverse;
};

void check_parameters(const char* op, const char* name, const Tensor& parameters, const Tensor& x,
                      std::int64_t each) {
  STD_TORCH_CHECK(parameters.dim() == x.dim() + 1, op, ": ", name,
                  " needs a dimension more than x");
  for (std::int64_t k = 0; k < x.dim(); ++k)
    STD_TORCH_CHECK(parameters.size(k) == x.size(k), op, ": ", name, " and x differ in shape");
  STD_TORCH_CHECK(parameters.size(x.dim()) == each, op, ": ", name, " has a wrong last dimension");
  STD_TORCH_CHECK(parameters.scalar_type() == x.scalar_type(), op, ": ", name,
                  " and x differ in dtype");
  STD_TORCH_CHECK(same_device(parameters, x), op, ": ", name, " and x are on different devices");
}

// The operands of a call, made contiguous; they live as long as its kernel reads them.
struct Operands {
  Operands(const char* op, const Tensor& x, const Tensor& widths, const Tensor& heights,
           const Tensor& derivatives)
      : x(as_contiguous(x)),
        widths(as_contiguous(widths)),
        heights(as_contiguous(heights)),
        derivatives(as_contiguous(derivatives)) {
    STD_TORCH_CHECK(widths.dim() > 0, op, ": widths has no dimensions");
    bins = widths.size(widths.dim() - 1);
    STD_TORCH_CHECK(bins >= 1 && bins <= kMaxSplineBins, op, ": too few or too many bins");
    check_parameters(op, "widths", widths, x, bins);
    check_parameters(op, "heights", heights, x, bins);
    check_parameters(op, "derivatives", derivatives, x, bins - 1);
  }

  template <class Arguments>
  Arguments arguments(const char* op, const Settings& s) const {
    STD_TORCH_CHECK(s.tail_bound > 0.0 && std::isfinite(s.tail_bound) && s.bound > 0.0, op,
                    ": tail_bound and bound must be positive");
    STD_TORCH_CHECK(s.min_width >= 0.0 && s.min_height >= 0.0 && s.min_width * bins < 1.0 &&
                        s.min_height * bins < 1.0 && s.min_derivative >= 0.0 &&
                        s.min_derivative < 1.0,
                    op, ": a smallest width, height or derivative does not fit");
    const Chains shape(op, x);
    Arguments args{};
    args.dtype = dtype_of(x, op);
    args.inverse = s.inverse;
    args.numel = x.numel();
    args.chains = shape.count;
    args.chain_size = shape.size;
    args.bins = bins;
    args.tail_bound = s.tail_bound;
    args.bound = s.bound;
    args.min_width = s.min_width;
    args.min_height = s.min_height;
    args.min_derivative = s.min_derivative;
    args.slope_offset = std::log(std::exp(1.0 - s.min_derivative) - 1.0);
    args.x = x.const_data_ptr();
    args.widths = widths.const_data_ptr();
    args.heights = heights.const_data_ptr();
    args.derivatives = derivatives.const_data_ptr();
    return args;
  }

  // Elements that are worth a thread of their own.
  std::int64_t grain() const { return std::max<std::int64_t>(kParallelGrain / (8 + 2 * bins), 1); }

  Tensor x, widths, heights, derivatives;
  std::int64_t bins;
};

std::tuple<Tensor, Tensor> rational_quadratic_spline(Tensor x, Tensor widths, Tensor heights,
                                                     Tensor derivatives, double tail_bound,
                                                     double bound, double min_width,
                                                     double min_height, double min_derivative,
                                                     bool inverse) {
  const char* op = "rational_quadratic_spline";
  const Operands operands(op, x, widths, heights, derivatives);
  auto args = operands.arguments<SplineTransform>(
      op, {tail_bound, bound, min_width, min_height, min_derivative, inverse});
  Result y(x);
  const Tensor log_det = per_chain_result(x);
  args.y = y.data();
  args.log_det = log_det.mutable_data_ptr();
  const std::int64_t size = std::max<std::int64_t>(args.chain_size, 1);
  launch_items(x, args, args.chains, std::max<std::int64_t>(operands.grain() / size, 1),
               GENCORE_KERNELS(spline));
  return {y.finish(), log_det};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rational_quadratic_spline_backward(
    Tensor y_grad, Tensor log_det_grad, Tensor x, Tensor widths, Tensor heights, Tensor derivatives,
    double tail_bound, double bound, double min_width, double min_height, double min_derivative,
    bool inverse) {
  const char* op = "rational_quadratic_spline_backward";
  const Operands operands(op, x, widths, heights, derivatives);
  auto args = operands.arguments<SplineBackward>(
      op, {tail_bound, bound, min_width, min_height, min_derivative, inverse});
  check_matches(y_grad, x, op, "y_grad");
  STD_TORCH_CHECK(log_det_grad.dim() == 1 && log_det_grad.numel() == args.chains &&
                      log_det_grad.scalar_type() == accumulation_type(x) &&
                      same_device(log_det_grad, x),
                  op, ": log_det_grad needs an entry a chain, in the accumulation dtype");
  const Tensor y_grad_c = as_contiguous(y_grad), log_det_grad_c = as_contiguous(log_det_grad);
  const Tensor x_grad = empty_result(operands.x), widths_grad = empty_result(operands.widths),
               heights_grad = empty_result(operands.heights),
               derivatives_grad = empty_result(operands.derivatives);
  args.y_grad = y_grad_c.const_data_ptr();
  args.log_det_grad = log_det_grad_c.const_data_ptr();
  args.x_grad = x_grad.mutable_data_ptr();
  args.widths_grad = widths_grad.mutable_data_ptr();
  args.heights_grad = heights_grad.mutable_data_ptr();
  args.derivatives_grad = derivatives_grad.mutable_data_ptr();
  launch_items(x, args, args.numel, operands.grain(), GENCORE_KERNELS(spline_backward));
  return {x_grad, widths_grad, heights_grad, derivatives_grad};
}

}  // namespace

#define GENCORE_SPLINE                                                              \
  "Tensor x, Tensor widths, Tensor heights, Tensor derivatives, float tail_bound, " \
  "float bound, float min_width, float min_height, float min_derivative, bool inverse"

GENCORE_OPERATORS(
    {"rational_quadratic_spline(" GENCORE_SPLINE ") -> (Tensor, Tensor)",
     TORCH_BOX(&rational_quadratic_spline)},
    {"rational_quadratic_spline_backward(Tensor y_grad, Tensor log_det_grad, " GENCORE_SPLINE
     ") -> (Tensor, Tensor, Tensor, Tensor)",
     TORCH_BOX(&rational_quadratic_spline_backward)});

}  // namespace gencore
