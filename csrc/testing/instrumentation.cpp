// The functions that the compiler calls from device code. -fsanitize=thread makes it announce
// every load and store, -fsanitize=alignment,bounds,... the undefined behaviour it meets; neither
// sanitizer's own library is linked. Outside a kernel they do nothing.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "launch.h"

namespace host_executor {
namespace {

void access(const void* address, std::size_t size, Access kind, bool aligned, const void* code) {
  Launch* launch = active_launch();
  if (launch == nullptr) return;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (aligned && at % size != 0) {
    launch->pause_checks();
    launch->fail("misaligned: access of " + std::to_string(size) + " bytes" + place(code));
  }
  launch->check(at, size, kind, code);
}

// What every handler of -fsanitize=undefined is given first.
struct SourceLocation {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
};

void undefined(const void* data, const char* what) {
  Launch* launch = active_launch();
  if (launch == nullptr) return;
  launch->pause_checks();
  const auto& where = *static_cast<const SourceLocation*>(data);
  launch->fail(std::string(what) + " at " + where.file + ":" + std::to_string(where.line));
}

}  // namespace
}  // namespace host_executor

using host_executor::Access;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

#define HOST_EXECUTOR_ACCESS(size)                                                       \
  void __tsan_read##size(void* at) {                                                     \
    host_executor::access(at, size, Access::kRead, true, __builtin_return_address(0));   \
  }                                                                                      \
  void __tsan_write##size(void* at) {                                                    \
    host_executor::access(at, size, Access::kWrite, true, __builtin_return_address(0));  \
  }                                                                                      \
  void __tsan_unaligned_read##size(void* at) {                                           \
    host_executor::access(at, size, Access::kRead, false, __builtin_return_address(0));  \
  }                                                                                      \
  void __tsan_unaligned_write##size(void* at) {                                          \
    host_executor::access(at, size, Access::kWrite, false, __builtin_return_address(0)); \
  }
HOST_EXECUTOR_ACCESS(1)
HOST_EXECUTOR_ACCESS(2)
HOST_EXECUTOR_ACCESS(4)
HOST_EXECUTOR_ACCESS(8)
HOST_EXECUTOR_ACCESS(16)
#undef HOST_EXECUTOR_ACCESS

void __tsan_read_range(void* at, std::size_t size) {
  host_executor::access(at, size, Access::kRead, false, __builtin_return_address(0));
}
void __tsan_write_range(void* at, std::size_t size) {
  host_executor::access(at, size, Access::kWrite, false, __builtin_return_address(0));
}

// The C library's functions as device code calls them: cuda_runtime.h of host_cuda/ renames them
// there.
void* host_executor_memcpy(void* to, const void* from, std::size_t size) {
  host_executor::access(from, size, Access::kRead, false, __builtin_return_address(0));
  host_executor::access(to, size, Access::kWrite, false, __builtin_return_address(0));
  return std::memcpy(to, from, size);
}
void* host_executor_memmove(void* to, const void* from, std::size_t size) {
  host_executor::access(from, size, Access::kRead, false, __builtin_return_address(0));
  host_executor::access(to, size, Access::kWrite, false, __builtin_return_address(0));
  return std::memmove(to, from, size);
}
void* host_executor_memset(void* to, int value, std::size_t size) {
  host_executor::access(to, size, Access::kWrite, false, __builtin_return_address(0));
  return std::memset(to, value, size);
}

#define HOST_EXECUTOR_UNDEFINED(handler, what) \
  void __ubsan_handle_##handler(void* data, ...) { host_executor::undefined(data, what); }
HOST_EXECUTOR_UNDEFINED(type_mismatch_v1, "misaligned: access")
HOST_EXECUTOR_UNDEFINED(out_of_bounds, "out of bounds: index of an array")
HOST_EXECUTOR_UNDEFINED(shift_out_of_bounds, "undefined: shift")
HOST_EXECUTOR_UNDEFINED(add_overflow, "undefined: signed overflow in an addition")
HOST_EXECUTOR_UNDEFINED(sub_overflow, "undefined: signed overflow in a subtraction")
HOST_EXECUTOR_UNDEFINED(mul_overflow, "undefined: signed overflow in a product")
HOST_EXECUTOR_UNDEFINED(negate_overflow, "undefined: signed overflow in a negation")
HOST_EXECUTOR_UNDEFINED(divrem_overflow, "undefined: integer division")
#undef HOST_EXECUTOR_UNDEFINED
}
