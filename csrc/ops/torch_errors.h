// torch's own message where a call into torch fails: it is thrown away at the C interface of the
// stable ABI, and what is left names a line of a header. Included before everything else
// (CMakeLists.txt), for torch's inline functions end in the macro that is defined here.
#pragma once

#include <torch/headeronly/util/shim_utils.h>

#include <stdexcept>
#include <string>

// Of torch 2.13 and later.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace gencore {

[[noreturn]] inline void throw_torch_error(const char* call) {
  if (torch_exception_get_what_without_backtrace != nullptr)
    throw std::runtime_error(torch_exception_get_what_without_backtrace());
  throw std::runtime_error(
      std::string("torch says on the standard error why it failed, which may ") +
      "be that it is out of memory; the call was " + call);
}

}  // namespace gencore

#undef TORCH_ERROR_CODE_CHECK
#define TORCH_ERROR_CODE_CHECK(call)     \
  if ((call) != TORCH_SUCCESS) {         \
    ::gencore::throw_torch_error(#call); \
  }
