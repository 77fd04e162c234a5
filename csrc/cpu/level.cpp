// One instruction-set level's table of kernels. CMake compiles this file once per level, with
// GENCORE_LEVEL naming it and the matching -march.
#include <type_traits>

#include "kernels.h"
#include "loops.h"  // generated: every *_kernel.h of this folder

namespace gencore {
inline namespace GENCORE_LEVEL {
namespace {

// Runs call(std::type_identity<T>{}) for the dtype's storage type.
template <class Call>
void by_storage(Dtype dtype, const Call& call) {
  switch (dtype) {
    case Dtype::kFloat64:
      return call(std::type_identity<double>{});
    case Dtype::kFloat32:
      return call(std::type_identity<float>{});
    case Dtype::kBFloat16:
      return call(std::type_identity<BFloat16>{});
    case Dtype::kFloat16:
      return call(std::type_identity<Float16>{});
  }
}

// For kernels that are there in the accumulation types alone.
template <class Call>
void by_accumulation(Dtype dtype, const Call& call) {
  if (dtype == Dtype::kFloat64) return call(std::type_identity<double>{});
  call(std::type_identity<float>{});
}

#define GENCORE_STRING_(name) #name
#define GENCORE_STRING(name) GENCORE_STRING_(name)

}  // namespace

// The calls of a kernel's loop, by the types in the list of kernels.
#define GENCORE_CALL_storage(name) \
  by_storage(args.dtype, [&]<class T>(std::type_identity<T>) { name##_range<T>(args, begin, end); })
#define GENCORE_CALL_accumulation(name) \
  by_accumulation(args.dtype,           \
                  [&]<class T>(std::type_identity<T>) { name##_range<T>(args, begin, end); })
#define GENCORE_CALL_untyped(name) name##_range(args, begin, end)

#define GENCORE_TABLE_ENTRY(name, Arguments, types)                         \
  .name = [](const Arguments& args, std::int64_t begin, std::int64_t end) { \
    GENCORE_CALL_##types(name);                                             \
  },

extern const cpu::KernelTable kernel_table;
const cpu::KernelTable kernel_table = {
    .level = GENCORE_STRING(GENCORE_LEVEL),
    GENCORE_FOR_EACH_KERNEL(GENCORE_TABLE_ENTRY, GENCORE_TABLE_ENTRY, GENCORE_NO_KERNEL)};

}  // namespace GENCORE_LEVEL
}  // namespace gencore
