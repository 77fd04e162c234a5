// The project's launch functions for the test suite: each takes its argument struct, which the
// suite mirrors with ctypes, and says how large it takes that struct to be.
#include <cstddef>

#include "../cuda/kernels.h"
#include "exports.h"

#define HOST_EXECUTOR_KERNEL(name, Arguments, ...)                                         \
  extern "C" HOST_EXECUTOR_EXPORT const char* run_##name(const gencore::Arguments* args) { \
    return host_executor::error_of([&] { gencore::cuda::name(*args, nullptr); });          \
  }                                                                                        \
  extern "C" HOST_EXECUTOR_EXPORT std::size_t size_of_##name() {                           \
    return sizeof(gencore::Arguments);                                                     \
  }

GENCORE_FOR_EACH_KERNEL(HOST_EXECUTOR_KERNEL, GENCORE_NO_KERNEL, HOST_EXECUTOR_KERNEL)
