// CUDA's vector types, aligned so that a load of one is one access.
#pragma once

#define HOST_EXECUTOR_VECTORS(name, type, half, whole)                        \
  struct alignas(half) name##2 { type x, y; };                                \
  struct name##3 { type x, y, z; };                                           \
  struct alignas(whole) name##4 { type x, y, z, w; };                         \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

HOST_EXECUTOR_VECTORS(char, signed char, 2, 4)
HOST_EXECUTOR_VECTORS(uchar, unsigned char, 2, 4)
HOST_EXECUTOR_VECTORS(short, short, 4, 8)
HOST_EXECUTOR_VECTORS(ushort, unsigned short, 4, 8)
HOST_EXECUTOR_VECTORS(int, int, 8, 16)
HOST_EXECUTOR_VECTORS(uint, unsigned, 8, 16)
HOST_EXECUTOR_VECTORS(float, float, 8, 16)
HOST_EXECUTOR_VECTORS(double, double, 16, 16)
#undef HOST_EXECUTOR_VECTORS

struct dim3 {
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
  unsigned x, y, z;
};
