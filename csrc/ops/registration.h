// Registering a family's operators with torch: each schema stands beside its implementation.
//
//   GENCORE_OPERATORS({"foo(Tensor x) -> Tensor", TORCH_BOX(&foo)},
//                     {"foo_(Tensor(a!) x) -> ()", TORCH_BOX(&foo_inplace)});
//
// Once a file, in namespace gencore. Derivatives and the shapes of results are registered in
// gencore/ops/.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <string>

namespace gencore {

struct Operator {
  std::string schema;
  void (*implementation)(StableIValue* stack, std::uint64_t, std::uint64_t);

  std::string name() const { return schema.substr(0, schema.find('(')); }
};

}  // namespace gencore

#define GENCORE_IMPLEMENT_ON(device)                  \
  STABLE_TORCH_LIBRARY_IMPL(gencore, device, m) {     \
    for (const ::gencore::Operator& op : operators()) \
      m.impl(op.name().c_str(), op.implementation);   \
  }

// For operators whose kernels are the CPU's alone.
#define GENCORE_CPU_OPERATORS(...)                                              \
  static const auto& operators() {                                              \
    static const ::gencore::Operator list[] = {__VA_ARGS__};                    \
    return list;                                                                \
  }                                                                             \
  STABLE_TORCH_LIBRARY_FRAGMENT(gencore, m) {                                   \
    for (const ::gencore::Operator& op : operators()) m.def(op.schema.c_str()); \
  }                                                                             \
  GENCORE_IMPLEMENT_ON(CPU)                                                     \
  static_assert(true)

#ifdef GENCORE_CUDA
#define GENCORE_OPERATORS(...)        \
  GENCORE_CPU_OPERATORS(__VA_ARGS__); \
  GENCORE_IMPLEMENT_ON(CUDA)          \
  static_assert(true)
#else
#define GENCORE_OPERATORS(...) GENCORE_CPU_OPERATORS(__VA_ARGS__)
#endif
