// The part of CUDA's runtime that launches kernels.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "../executor.h"
#include "vector_types.h"

using cudaStream_t = struct CUstream_st*;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
};

namespace host_executor {

inline cudaError_t last_status = cudaSuccess;

// A small device, so that a grid that has to be resident as a whole is one that can be run here.
inline constexpr int kMultiprocessors = 4;
inline constexpr std::size_t kMostSharedBytes = 227 * 1024;
inline constexpr std::size_t kMostThreads = 1024;

}  // namespace host_executor

inline cudaError_t cudaGetLastError() {
  return std::exchange(host_executor::last_status, cudaSuccess);
}

inline const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return host_executor::last_error().c_str();
    case cudaErrorCooperativeLaunchTooLarge:
      return "too many blocks in cooperative launch";
  }
  return "unrecognized error code";
}

enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative = 2 };
union cudaLaunchAttributeValue {
  int cooperative;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> values;
  };
  const dim3 &grid = config->gridDim, &block = config->blockDim;
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  bool cooperative = false;
  for (unsigned k = 0; k < config->numAttrs; ++k)
    cooperative = cooperative || config->attrs[k].val.cooperative != 0;
  cudaError_t status = cudaSuccess;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 ||
      threads > host_executor::kMostThreads || grid.y > 65535 || grid.z > 65535) {
    status = cudaErrorInvalidConfiguration;
  } else if (config->dynamicSmemBytes > host_executor::kMostSharedBytes) {
    status = cudaErrorInvalidValue;
  } else if (cooperative && grid.x * grid.y * grid.z > host_executor::kMultiprocessors) {
    status = cudaErrorCooperativeLaunchTooLarge;
  } else {
    const Call call{kernel, {std::forward<Arguments>(arguments)...}};
    const host_executor::LaunchShape shape{grid, block, config->dynamicSmemBytes, cooperative};
    const auto entry = [](const void* memory) {
      const Call& call = *static_cast<const Call*>(memory);
      std::apply(call.kernel, call.values);
    };
    if (!host_executor::launch(shape, entry, &call, sizeof(call))) status = cudaErrorLaunchFailure;
  }
  if (status != cudaSuccess) host_executor::last_status = status;
  return status;
}

// Sizing a cooperative grid, and room for dynamic shared memory.
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount
               ? host_executor::kMultiprocessors
               : static_cast<int>(host_executor::kMostSharedBytes);
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, std::size_t) {
  *blocks = 1;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
  const bool fits = static_cast<std::size_t>(bytes) <= host_executor::kMostSharedBytes;
  return fits ? cudaSuccess : host_executor::last_status = cudaErrorInvalidValue;
}
