// C functions for the test suite. A wrapped kernel launch returns null, or its error's text.
#pragma once

#include <exception>
#include <string>

#define HOST_EXECUTOR_EXPORT __attribute__((visibility("default")))

namespace host_executor {

template <class Call>
const char* error_of(const Call& call) {
  static std::string message;
  try {
    call();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace host_executor
