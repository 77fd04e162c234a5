// Running one family's kernel where its tensors live.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <type_traits>

#include "../cpu/kernels.h"
#include "arguments.h"
#include "tensors.h"
#ifdef GENCORE_CUDA
#include "../cuda/kernels.h"
#endif

namespace gencore {

// Below this many elements a second thread costs more than it brings.
inline constexpr std::int64_t kParallelGrain = 16384;

// Calls the CPU kernel over ranges of at least `grain` elements on torch's threads, or launches the
// CUDA kernel.
template <class Arguments>
void launch(
    const Tensor& on, const Arguments& args,
    void (*const cpu::KernelTable::*cpu_kernel)(const Arguments&, std::int64_t, std::int64_t),
    [[maybe_unused]] std::type_identity_t<void (*)(const Arguments&, void* stream)> cuda_kernel,
    std::int64_t grain = kParallelGrain) {
  if (args.numel == 0) return;
#ifdef GENCORE_CUDA
  if (!on.is_cpu()) {
    const torch::stable::accelerator::DeviceGuard guard(on.get_device_index());
    cuda_kernel(args, cuda::current_stream(on.get_device_index()));
    return;
  }
#endif
  const auto kernel = cpu::kernels().*cpu_kernel;
  if (args.numel <= grain) return kernel(args, 0, args.numel);
  torch::stable::parallel_for(0, args.numel, grain, [&](std::int64_t begin, std::int64_t end) {
    kernel(args, begin, end);
  });
}

}  // namespace gencore

// Names both back ends' kernel `name` for launch().
#ifdef GENCORE_CUDA
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, &::gencore::cuda::name
#else
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, nullptr
#endif
