// gaussian_nll: checks, layouts and memory; the kernel does the rest.
#include <cstdint>

#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

Tensor gaussian_nll(Tensor z, Tensor log_det) {
  const char* op = "gaussian_nll";
  STD_TORCH_CHECK(z.dim() >= 1, op, ": z must have a dimension of chains");
  STD_TORCH_CHECK(log_det.dim() == 1 && log_det.size(0) == z.size(0) &&
                      log_det.scalar_type() == accumulation_type(z) && same_device(log_det, z),
                  op, ": log_det must have an entry a chain, in the accumulation dtype");
  std::int64_t size = 1;
  for (std::int64_t k = 1; k < z.dim(); ++k) size *= z.size(k);
  const Tensor z_c = as_contiguous(z), log_det_c = as_contiguous(log_det);
  Tensor out = per_chain_result(z);
  const GaussianNll args{
      dtype_of(z, op),       z.size(0), size, z_c.const_data_ptr(), log_det_c.const_data_ptr(),
      out.mutable_data_ptr()};
  launch_chains(z, args, GENCORE_KERNELS(gaussian_nll));
  return out;
}

}  // namespace

GENCORE_OPERATORS({"gaussian_nll(Tensor z, Tensor log_det) -> Tensor", TORCH_BOX(&gaussian_nll)});

}  // namespace gencore
