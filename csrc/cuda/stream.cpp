// torch's current CUDA stream, found at run time.
//
// The symbol lives in libtorch_cuda.so, which a CPU-only torch does not have; a link-time or weak
// reference would stop this library from loading there (torch loads its libraries RTLD_LOCAL).
#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>

#include "kernels.h"

namespace gencore::cuda {

void* current_stream(std::int32_t device_index) {
  using GetStream = std::int32_t (*)(std::int32_t device_index, void** stream);
  static const GetStream get_stream = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return library == nullptr
               ? nullptr
               : reinterpret_cast<GetStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  }();
  void* stream = nullptr;
  if (get_stream == nullptr || get_stream(device_index, &stream) != 0)
    throw std::runtime_error("gencore: this torch has no CUDA stream to run on");
  return stream;
}

}  // namespace gencore::cuda
