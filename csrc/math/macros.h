// Qualifiers that let one function body serve the CPU loops and the CUDA kernels.
#pragma once

#if defined(__CUDACC__)
#define GENCORE_HD __host__ __device__ __forceinline__
#else
#define GENCORE_HD inline __attribute__((always_inline))
#endif

// The CPU kernels are compiled once per instruction-set level. Everything they include lives in a
// namespace named after the level, so that the linker never swaps an AVX-512 body for a baseline
// one of the same name.
#ifndef GENCORE_LEVEL
#define GENCORE_LEVEL common
#endif
