// gaussian_nll: checks, layouts and memory; the kernel does the rest.
#include <torch/csrc/stable/library.h>

#include <cstdint>

#include "dispatch.h"
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

void register_gaussian_nll(torch::stable::detail::StableLibrary& m) {
  m.impl("gaussian_nll", TORCH_BOX(&gaussian_nll));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(gencore, CPU, m) { register_gaussian_nll(m); }
#ifdef GENCORE_CUDA
STABLE_TORCH_LIBRARY_IMPL(gencore, CUDA, m) { register_gaussian_nll(m); }
#endif

}  // namespace gencore
