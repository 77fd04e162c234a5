// What the kernel that trades image size for channels is called with.
#pragma once

#include <cstdint>

namespace gencore {

// Rows of pixels: row r of the image [N, C, H, W] goes to, or `inverse` comes from, `factor` rows
// of the squeezed one [N, C factor^2, H / factor, W / factor]. Elements are moved, whatever they
// are.
struct Squeeze2d {
  bool inverse;
  int element_bytes;
  std::int64_t rows;  // N C H
  std::int64_t height;
  std::int64_t width;
  std::int64_t factor;
  const void* x;
  void* out;
};

}  // namespace gencore
