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

// Calls the CPU kernel over ranges of [0, count) on torch's threads, of `grain` at least, or
// launches the CUDA kernel.
template <class Arguments>
void launch_over(
    std::int64_t count, std::int64_t grain, const Tensor& on, const Arguments& args,
    void (*const cpu::KernelTable::*cpu_kernel)(const Arguments&, std::int64_t, std::int64_t),
    [[maybe_unused]] std::type_identity_t<void (*)(const Arguments&, void* stream)> cuda_kernel) {
  if (count == 0) return;
#ifdef GENCORE_CUDA
  if (!on.is_cpu()) {
    const torch::stable::accelerator::DeviceGuard guard(on.get_device_index());
    cuda_kernel(args, cuda::current_stream(on.get_device_index()));
    return;
  }
#endif
  const auto kernel = cpu::kernels().*cpu_kernel;
  if (count <= grain) return kernel(args, 0, count);
  torch::stable::parallel_for(
      0, count, grain, [&](std::int64_t begin, std::int64_t end) { kernel(args, begin, end); });
}

// The same over the elements of an elementwise kernel.
template <class Arguments>
void launch(const Tensor& on, const Arguments& args,
            void (*const cpu::KernelTable::*cpu_kernel)(const Arguments&, std::int64_t,
                                                        std::int64_t),
            std::type_identity_t<void (*)(const Arguments&, void* stream)> cuda_kernel) {
  launch_over(args.numel, kParallelGrain, on, args, cpu_kernel, cuda_kernel);
}

}  // namespace gencore

// Names both back ends' kernel `name` for launch().
#ifdef GENCORE_CUDA
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, &::gencore::cuda::name
#else
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, nullptr
#endif
