// Running one family's kernel where its tensors live.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../cpu/kernels.h"
#include "tensors.h"
#ifdef GENCORE_CUDA
#include "../cuda/kernels.h"
#endif

namespace gencore {

// Below this many elements a second thread costs more than it brings; as in ATen.
inline constexpr std::int64_t kParallelGrain = 32768;

template <class Arguments>
using CpuKernel = void (*const cpu::KernelTable::*)(const Arguments&, std::int64_t, std::int64_t);
template <class Arguments>
using CudaKernel = std::type_identity_t<void (*)(const Arguments&, void* stream)>;

// Calls the CPU kernel over ranges of `count` items, of at least `grain`, on torch's threads, or
// launches the CUDA kernel.
template <class Arguments>
void launch_items([[maybe_unused]] const Tensor& on, const Arguments& args, std::int64_t count,
                  std::int64_t grain, CpuKernel<Arguments> cpu_kernel,
                  [[maybe_unused]] CudaKernel<Arguments> cuda_kernel) {
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

// For kernels whose items are elements.
template <class Arguments>
void launch(const Tensor& on, const Arguments& args, CpuKernel<Arguments> cpu_kernel,
            CudaKernel<Arguments> cuda_kernel) {
  launch_items(on, args, args.numel, kParallelGrain, cpu_kernel, cuda_kernel);
}

// For kernels whose items are chains. A chain is one thread's work: a few huge ones use few
// threads.
template <class Arguments>
void launch_chains(const Tensor& on, const Arguments& args, CpuKernel<Arguments> cpu_kernel,
                   CudaKernel<Arguments> cuda_kernel) {
  const std::int64_t size = std::max<std::int64_t>(args.chain_size, 1);
  launch_items(on, args, args.chains, std::max<std::int64_t>(kParallelGrain / size, 1), cpu_kernel,
               cuda_kernel);
}

}  // namespace gencore

// Names both back ends' kernel `name` for launch().
#ifdef GENCORE_CUDA
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, &::gencore::cuda::name
#else
#define GENCORE_KERNELS(name) &::gencore::cpu::KernelTable::name, nullptr
#endif
