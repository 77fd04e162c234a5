// The CPU kernels, one table of them per instruction-set level.
#pragma once

#include <cstdint>

#include "../kernels.h"

namespace gencore::cpu {

// Every kernel handles the elements [begin, end), or the chains where it adds up over them, or the
// pairs that it swaps, or pieces of rows, and may be called for disjoint ranges at once.
template <class Arguments>
using Kernel = void (*)(const Arguments&, std::int64_t begin, std::int64_t end);

struct KernelTable {
  const char* level;
#define GENCORE_DECLARE_KERNEL(name, Arguments, types) Kernel<Arguments> name;
  GENCORE_FOR_EACH_KERNEL(GENCORE_DECLARE_KERNEL, GENCORE_DECLARE_KERNEL, GENCORE_NO_KERNEL)
#undef GENCORE_DECLARE_KERNEL
};

// The table of the best level that this processor runs, chosen once. The environment variable
// GENCORE_CPU_LEVEL names a lower one.
const KernelTable& kernels();

}  // namespace gencore::cpu
