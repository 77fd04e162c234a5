// Launching a kernel. Written with the runtime's functions instead of <<<>>>, so that the host
// executor of csrc/testing compiles the same sources.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace gencore::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // reported here, and not again by whoever asks next
  throw std::runtime_error(std::string("gencore: ") + what + ": " + cudaGetErrorString(status));
}

struct LaunchShape {
  dim3 blocks;
  dim3 threads;
  std::size_t shared_bytes = 0;  // of dynamic shared memory
  bool cooperative = false;      // every block is resident, so that the grid may wait for itself
};

// `stream` is a cudaStream_t.
template <class... Parameters, class... Arguments>
void launch_kernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* stream,
                   Arguments&&... arguments) {
  constexpr std::size_t kAlwaysAllowed = 48 * 1024;
  if (shape.shared_bytes > kAlwaysAllowed)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          "dynamic shared memory");
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cooperative;
  config.numAttrs = shape.cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
        "kernel launch");
}

// The block's dynamic shared memory, as an array of T.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#if defined(GENCORE_HOST_EXECUTOR)
  return static_cast<T*>(host_executor::dynamic_shared_memory());
#else
  extern __shared__ __align__(16) unsigned char gencore_dynamic_shared[];
  return reinterpret_cast<T*>(gencore_dynamic_shared);
#endif
}

}  // namespace gencore::cuda
