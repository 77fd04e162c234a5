// The CUDA kernels' launch functions, free of CUDA headers. `stream` is a cudaStream_t.
#pragma once

#include <cstdint>

#include "../kernels.h"

namespace gencore::cuda {

#define GENCORE_DECLARE_KERNEL(name, Arguments, ...) void name(const Arguments& args, void* stream);
GENCORE_FOR_EACH_KERNEL(GENCORE_DECLARE_KERNEL, GENCORE_NO_KERNEL, GENCORE_DECLARE_KERNEL)
#undef GENCORE_DECLARE_KERNEL

// torch's current stream on a device.
void* current_stream(std::int32_t device_index);

}  // namespace gencore::cuda
