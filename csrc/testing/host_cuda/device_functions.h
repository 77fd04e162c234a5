// What kernels call: indices, barriers, exchanges within a warp, atomics, mathematics.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "../executor.h"
#include "vector_types.h"

inline constexpr int warpSize = 32;

// A declaration at the start of a kernel's scope: first what keeps it apart from its neighbours.
#define HOST_EXECUTOR_SHARED(number)                              \
  static thread_local ::host_executor::Tail shared_tail_##number; \
  static thread_local ::host_executor::Head shared_head_##number; \
  shared_head_##number.guard(shared_tail_##number);               \
  static thread_local
#define HOST_EXECUTOR_SHARED_NUMBERED(number) HOST_EXECUTOR_SHARED(number)
#define __shared__ HOST_EXECUTOR_SHARED_NUMBERED(__COUNTER__)

using host_executor::Site;

inline void __syncthreads(Site site = Site::current()) {
  host_executor::block_barrier(false, site);
}
inline int __syncthreads_count(int predicate, Site site = Site::current()) {
  return host_executor::block_barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate, Site site = Site::current()) {
  return host_executor::block_barrier(predicate != 0, site) > 0;
}
inline int __syncthreads_and(int predicate, Site site = Site::current()) {
  return host_executor::block_barrier(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, Site site = Site::current()) {
  host_executor::warp_exchange(mask, 0, true, site);
}
inline void __threadfence() { host_executor::fence(); }
inline void __threadfence_block() {}

namespace host_executor {

// The value of lane `from`; the caller's own where `from` is outside its segment.
template <class T>
T shuffle(unsigned mask, T value, int width, Site site, int (*from)(int lane, int by, int width),
          int by) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const WarpValues values = warp_exchange(mask, bits, false, site);
  const int lane = static_cast<int>(values.lane);
  const int source = from(lane, by, width);
  if ((values.participants >> source & 1) == 0)
    fail("shuffle from lane " + std::to_string(source) + ", which takes no part in it");
  std::memcpy(&value, &values.value[source], sizeof(T));
  return value;
}

inline unsigned vote(unsigned mask, int predicate, Site site) {
  const WarpValues values = warp_exchange(mask, predicate != 0, false, site);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    votes |= static_cast<unsigned>(values.value[lane]) << lane;
  return votes;
}

inline unsigned participants(unsigned mask, Site site) {
  return warp_exchange(mask, 0, false, site).participants;
}

// An atomic operation is its access announced as one, then done: fibres do not preempt each other.
template <class T, class Update>
__attribute__((noinline, no_sanitize("thread", "undefined"))) T atomic(T* address, const void* code,
                                                                       Update update) {
  before_atomic(address, sizeof(T), code);
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace host_executor

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Site site = Site::current()) {
  const auto from = [](int lane, int by, int size) { return (lane & -size) | (by & (size - 1)); };
  return host_executor::shuffle<T>(mask, value, width, site, from, source);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 Site site = Site::current()) {
  const auto from = [](int lane, int by, int size) {
    return lane - by < (lane & -size) ? lane : lane - by;
  };
  return host_executor::shuffle<T>(mask, value, width, site, from, static_cast<int>(delta));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   Site site = Site::current()) {
  const auto from = [](int lane, int by, int size) {
    return lane + by >= (lane & -size) + size ? lane : lane + by;
  };
  return host_executor::shuffle<T>(mask, value, width, site, from, static_cast<int>(delta));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, Site site = Site::current()) {
  const auto from = [](int lane, int by, int size) {
    return (lane ^ by) >= (lane & -size) + size ? lane : lane ^ by;
  };
  return host_executor::shuffle<T>(mask, value, width, site, from, bits);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return host_executor::vote(mask, predicate, site);
}
inline int __any_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return host_executor::vote(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return host_executor::vote(mask, predicate == 0, site) == 0;
}

#define HOST_EXECUTOR_ATOMIC(name, ...)                                         \
  template <class T>                                                            \
  __attribute__((noinline)) T name(T* address, std::type_identity_t<T> value) { \
    return host_executor::atomic(address, __builtin_return_address(0),          \
                                 [value](T old) -> T { return __VA_ARGS__; });  \
  }
HOST_EXECUTOR_ATOMIC(atomicAdd, old + value)
HOST_EXECUTOR_ATOMIC(atomicSub, old - value)
HOST_EXECUTOR_ATOMIC(atomicMin, std::min(old, value))
HOST_EXECUTOR_ATOMIC(atomicMax, std::max(old, value))
HOST_EXECUTOR_ATOMIC(atomicAnd, old& value)
HOST_EXECUTOR_ATOMIC(atomicOr, old | value)
HOST_EXECUTOR_ATOMIC(atomicExch, value)
#undef HOST_EXECUTOR_ATOMIC

template <class T>
__attribute__((noinline)) T atomicCAS(T* address, std::type_identity_t<T> expected,
                                      std::type_identity_t<T> value) {
  return host_executor::atomic(address, __builtin_return_address(0),
                               [expected, value](T old) { return old == expected ? value : old; });
}

// Loads and stores with a hint for the caches.
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
void __stwb(T* address, T value) {
  *address = value;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

// sin and cos of pi x; the nearest multiple of a half turn is taken off exactly.
inline void sincospi(double x, double* sine, double* cosine) {
  const double turns = x - 2.0 * nearbyint(0.5 * x);
  const double quarter = nearbyint(2.0 * turns);
  const double angle = 3.141592653589793 * (turns - 0.5 * quarter);
  const double s = sin(angle), c = cos(angle);
  const int quadrant = static_cast<int>(quarter) & 3;
  *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
  *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}
inline void sincospif(float x, float* sine, float* cosine) {
  double s, c;
  sincospi(x, &s, &c);
  *sine = static_cast<float>(s);
  *cosine = static_cast<float>(c);
}
