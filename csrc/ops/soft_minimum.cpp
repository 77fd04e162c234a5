// Sums over pairs of points: checks, layouts and memory; the kernels do the rest.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

template <class Arguments>
Arguments pair_arguments(const char* op, const Tensor& x, const Tensor& y,
                         const Tensor& column_logs, double epsilon, std::int64_t power) {
  Arguments args{};
  args.dtype = dtype_of(x, op);
  STD_TORCH_CHECK(x.scalar_type() == accumulation_type(x), op, ": x must be float64 or float32");
  STD_TORCH_CHECK(epsilon > 0.0 && (power == 1 || power == 2), op,
                  ": epsilon must be positive, and power 1 or 2");
  STD_TORCH_CHECK(x.dim() == 3 && y.dim() == 3 && column_logs.dim() == 2 &&
                      y.size(0) == x.size(0) && y.size(2) == x.size(2) &&
                      column_logs.size(0) == y.size(0) && column_logs.size(1) == y.size(1),
                  op, ": x must be [B, N, D], y [B, M, D] and the logarithms [B, M]");
  for (const Tensor* other : {&y, &column_logs})
    STD_TORCH_CHECK(other->scalar_type() == x.scalar_type() && same_device(*other, x), op,
                    ": all tensors must be of one dtype, on one device");
  args.power = static_cast<int>(power);
  args.epsilon = epsilon;
  args.batches = x.size(0);
  args.rows = x.size(1);
  args.columns = y.size(1);
  args.dims = x.size(2);
  args.x = x.const_data_ptr();
  args.y = y.const_data_ptr();
  args.column_logs = column_logs.const_data_ptr();
  return args;
}

// How many rows are worth a thread: some blocks of the widest level, and enough pairs.
std::int64_t row_grain(const PairSums& args) {
  return std::max<std::int64_t>(64, kParallelGrain / ((args.columns + 1) * (args.dims + 8)));
}

Tensor soft_minimum(Tensor x, Tensor y, Tensor log_weights, double epsilon, std::int64_t power) {
  const Tensor x_c = as_contiguous(x), y_c = as_contiguous(y), logs_c = as_contiguous(log_weights);
  auto args = pair_arguments<SoftMinimum>("soft_minimum", x_c, y_c, logs_c, epsilon, power);
  Tensor minimum = torch::stable::new_empty(x_c, {args.batches, args.rows});
  args.minimum = minimum.mutable_data_ptr();
  launch_items(x_c, args, args.batches * args.rows, row_grain(args), GENCORE_KERNELS(soft_minimum));
  return minimum;
}

std::tuple<Tensor, Tensor> plan_sums(Tensor x, Tensor y, Tensor row_logs, Tensor column_logs,
                                     OptionalTensor factors, double epsilon, std::int64_t power) {
  const char* const op = "plan_sums";
  const Tensor x_c = as_contiguous(x), y_c = as_contiguous(y), u_c = as_contiguous(row_logs),
               v_c = as_contiguous(column_logs);
  const OptionalTensor factors_c = as_contiguous(factors);
  auto args = pair_arguments<PlanSums>(op, x_c, y_c, v_c, epsilon, power);
  STD_TORCH_CHECK(row_logs.dim() == 2 && row_logs.size(0) == args.batches &&
                      row_logs.size(1) == args.rows && row_logs.scalar_type() == x.scalar_type() &&
                      same_device(row_logs, x),
                  op, ": row_logs must be [B, N], of the dtype of x");
  if (factors) check_matches(*factors, column_logs, op, "factors");
  Tensor masses = torch::stable::new_empty(x_c, {args.batches, args.rows});
  Tensor slopes = torch::stable::new_empty(x_c, x_c.sizes());
  if (args.columns == 0) {
    torch::stable::zero_(masses);
    torch::stable::zero_(slopes);
    return {masses, slopes};
  }
  args.row_logs = u_c.const_data_ptr();
  args.factors = data(factors_c);
  args.masses = masses.mutable_data_ptr();
  args.slopes = slopes.mutable_data_ptr();
  launch_items(x_c, args, args.batches * args.rows, row_grain(args), GENCORE_KERNELS(plan_sums));
  return {masses, slopes};
}

}  // namespace

GENCORE_OPERATORS({"soft_minimum(Tensor x, Tensor y, Tensor log_weights, float epsilon, int power) "
                   "-> Tensor",
                   TORCH_BOX(&soft_minimum)},
                  {"plan_sums(Tensor x, Tensor y, Tensor row_logs, Tensor column_logs, "
                   "Tensor? factors, float epsilon, int power) -> (Tensor, Tensor)",
                   TORCH_BOX(&plan_sums)});

}  // namespace gencore
