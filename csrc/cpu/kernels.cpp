// The choice among the levels this library was compiled for.
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>

#include "levels.h"  // GENCORE_FOR_EACH_LEVEL(X): X(name) for every level built, best first

namespace gencore {

#define GENCORE_DECLARE_LEVEL(name)           \
  namespace name {                            \
  extern const cpu::KernelTable kernel_table; \
  }
GENCORE_FOR_EACH_LEVEL(GENCORE_DECLARE_LEVEL)
#undef GENCORE_DECLARE_LEVEL

namespace cpu {
namespace {

bool runs_here(const char* level) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (std::strcmp(level, "x86_64_v4") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
  if (std::strcmp(level, "x86_64_v3") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (std::strcmp(level, "x86_64_v2") == 0) return __builtin_cpu_supports("sse4.2");
#endif
  return std::strcmp(level, "baseline") == 0;
}

const KernelTable& choose() {
#define GENCORE_LEVEL_TABLE(name) &name::kernel_table,
  static const KernelTable* const levels[] = {GENCORE_FOR_EACH_LEVEL(GENCORE_LEVEL_TABLE)};
#undef GENCORE_LEVEL_TABLE
  const char* wanted = std::getenv("GENCORE_CPU_LEVEL");
  std::string names;
  for (const KernelTable* table : levels) {
    if (!runs_here(table->level)) continue;
    if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, table->level) == 0)
      return *table;
    names += std::string(names.empty() ? "" : ", ") + table->level;
  }
  if (names.empty())
    throw std::runtime_error("gencore: this processor runs none of the levels built in");
  throw std::runtime_error("gencore: GENCORE_CPU_LEVEL=" + std::string(wanted) +
                           " is not a level this processor runs; expected one of: " + names);
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace cpu
}  // namespace gencore
