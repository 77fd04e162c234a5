// The rational-quadratic spline's operators: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "coefficients.h"
#include "dispatch.h"
#include "registration.h"
#include "splines.h"
#include "tensors.h"

namespace gencore {
namespace {

// Raw parameters of the elements of x. They are read where they lie if one element's are as far
// from the next one's everywhere, as those of the parts of one tensor are; else from a copy.
class Parameters {
 public:
  explicit Parameters(const Tensor& tensor) : held_(tensor) {
    const std::int64_t last = tensor.dim() - 1, each = tensor.size(last);
    std::int64_t stride = -1, expected = -1;
    bool fits = each <= 1 || tensor.stride(last) == 1;
    for (std::int64_t k = last - 1; k >= 0; --k) {
      if (tensor.size(k) == 1) continue;
      if (stride < 0) stride = expected = tensor.stride(k);
      fits = fits && tensor.stride(k) == expected;
      expected *= tensor.size(k);
    }
    if (!fits) held_ = torch::stable::contiguous(tensor);
    rows_ = {held_.const_data_ptr(), fits && stride >= 0 ? stride : each};
  }
  const SplineParameters& rows() const { return rows_; }
  Tensor empty_gradient() const {
    return with_huge_pages(torch::stable::new_empty(held_, held_.sizes()));
  }

 private:
  Tensor held_;
  SplineParameters rows_;
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

std::int64_t checked_bins(const char* op, const Tensor& x, const Tensor& widths,
                          const Tensor& heights, const Tensor& derivatives) {
  STD_TORCH_CHECK(widths.dim() > 0, op, ": widths has no dimensions");
  const std::int64_t bins = widths.size(widths.dim() - 1);
  check_parameters(op, "widths", widths, x, bins);
  check_parameters(op, "heights", heights, x, bins);
  check_parameters(op, "derivatives", derivatives, x, bins - 1);
  return bins;
}

// The operands of a call as the kernels read them; they live as long as its kernel reads them.
struct Operands {
  Operands(const char* op, const Tensor& x, const Tensor& widths, const Tensor& heights,
           const Tensor& derivatives)
      : x(as_contiguous(x)),
        bins(checked_bins(op, x, widths, heights, derivatives)),
        widths(widths),
        heights(heights),
        derivatives(derivatives) {}

  template <class Arguments>
  Arguments arguments(const char* op, const SplineSettings& settings, bool inverse) const {
    const Chains shape(op, x);
    Arguments args{};
    args.dtype = dtype_of(x, op);
    args.inverse = inverse;
    args.numel = x.numel();
    args.chains = shape.count;
    args.chain_size = shape.size;
    args.spline = settings;
    args.x = x.const_data_ptr();
    args.widths = widths.rows();
    args.heights = heights.rows();
    args.derivatives = derivatives.rows();
    return args;
  }

  // Elements that are worth a thread of their own.
  std::int64_t grain() const { return std::max<std::int64_t>(kParallelGrain / (8 + 2 * bins), 1); }

  Tensor x;
  std::int64_t bins;
  Parameters widths, heights, derivatives;
};

std::tuple<Tensor, Tensor> rational_quadratic_spline(Tensor x, Tensor widths, Tensor heights,
                                                     Tensor derivatives, double tail_bound,
                                                     double bound, double min_width,
                                                     double min_height, double min_derivative,
                                                     bool inverse) {
  const char* op = "rational_quadratic_spline";
  const Operands operands(op, x, widths, heights, derivatives);
  auto args = operands.arguments<SplineTransform>(
      op,
      spline_settings(op, operands.bins, tail_bound, bound, min_width, min_height, min_derivative),
      inverse);
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
      op,
      spline_settings(op, operands.bins, tail_bound, bound, min_width, min_height, min_derivative),
      inverse);
  check_matches(y_grad, x, op, "y_grad");
  STD_TORCH_CHECK(log_det_grad.dim() == 1 && log_det_grad.numel() == args.chains &&
                      log_det_grad.scalar_type() == accumulation_type(x) &&
                      same_device(log_det_grad, x),
                  op, ": log_det_grad needs an entry a chain, in the accumulation dtype");
  const Tensor y_grad_c = as_contiguous(y_grad), log_det_grad_c = as_contiguous(log_det_grad);
  const Tensor x_grad = empty_result(operands.x), widths_grad = operands.widths.empty_gradient(),
               heights_grad = operands.heights.empty_gradient(),
               derivatives_grad = operands.derivatives.empty_gradient();
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
