// What nvcc and <cuda_runtime.h> give a kernel, for the host compiler and the executor. Included
// before anything else in every device source, as nvcc includes its own.
#pragma once

#include <cstddef>

// Copies by the C library are checked like loads and stores, the compiler's own ones included.
extern "C" {
void* memcpy(void*, const void*, std::size_t) noexcept __asm__("host_executor_memcpy");
void* memmove(void*, const void*, std::size_t) noexcept __asm__("host_executor_memmove");
void* memset(void*, int, std::size_t) noexcept __asm__("host_executor_memset");
}

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define __global__
#define __constant__ const
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) alignas(bytes)
#define __launch_bounds__(...)

#include "device_functions.h"
#include "launch_functions.h"
#include "vector_types.h"
