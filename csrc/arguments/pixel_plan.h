// The program that draws images pixel by pixel, and what its kernels are called with.
//
// A causal network is a list of instructions on maps of features. Every map lies in the memory of
// its image, a pixel's channels next to each other, within a border of zeros as wide as is looked
// at. At each pixel the instructions of the pixel run in turn, each for the features of that pixel
// alone; at the first pixel of a row those that see the rows above alone run along the row.
//
// The program is numbers: a header, four numbers a map, the places where each list of instructions
// begins, and the instructions. It is made by gencore/nn/causal/plan.py.
#pragma once

#include <cstdint>

#include "../math/macros.h"
#include "common.h"

namespace gencore {

enum class PlanKind {
  kConvolution,  // weights, bias or -1, terms, then (map, channel, channels, down, right) a term
  kCopy,         // the rest: map and channel of each operand
  kScale,        // and here where the number is
  kRelu,
  kElu,
  kTanh,
  kSigmoid,
  kAdd,
  kMultiply,
};
inline constexpr std::int64_t kPlanKinds = 9;

// Columns of weights are filled up to this, whatever the level's vectors.
inline constexpr std::int64_t kPlanColumns = 16;
GENCORE_HD std::int64_t plan_columns(std::int64_t count) {
  return (count + kPlanColumns - 1) / kPlanColumns * kPlanColumns;
}

// A map's first pixel, its strides (0 where pixels share their place) and how far its resolution is
// below the image's, as a power of two.
struct PlanMap {
  std::int64_t origin, row, pixel, shift;

  GENCORE_HD std::int64_t at(std::int64_t y, std::int64_t x, std::int64_t down,
                             std::int64_t right) const {
    return origin + ((y >> shift) + down) * row + ((x >> shift) + right) * pixel;
  }
};

// What it does at pixels whose row and column modulo `modulus` are `row` and `column`.
struct PlanInstruction {
  std::int64_t kind, length, modulus, row, column, map, channel, count;
  static constexpr std::int64_t kSize = 8;

  GENCORE_HD const std::int64_t* operands() const {
    return reinterpret_cast<const std::int64_t*>(this) + kSize;
  }
  GENCORE_HD bool runs_in(std::int64_t y) const { return y % modulus == row; }
  GENCORE_HD bool runs_at(std::int64_t y, std::int64_t x) const {
    return runs_in(y) && x % modulus == column;
  }
};

struct PlanTerm {
  std::int64_t map, channel, count, down, right;
};

struct PlanHeader {
  std::int64_t channels, height, width, levels;
  std::int64_t draw;  // PixelDraw
  std::int64_t components;
  std::int64_t lowest;          // where the smallest log-scale of a logistic is among the weights
  std::int64_t coupled;         // whether a logistic follows the earlier channels of the pixel
  std::int64_t steps;           // lists of instructions a pixel: one, or one a channel
  std::int64_t parameters_map;  // whose channels are the parameters of the pixel's levels
  std::int64_t parameters;
  std::int64_t input_map;
  std::int64_t embedding;  // numbers that the network sees of a level
  std::int64_t table;      // where they are among the weights
  std::int64_t maps;
  std::int64_t image_size;  // elements of the memory of an image
  static constexpr std::int64_t kSize = 16;
};

struct PixelPlan {
  Dtype dtype;  // fp64 or fp32
  std::int64_t images;
  const std::int64_t* program;
  const void* weights;
  void* state;                 // [images, image_size]
  std::int64_t* x;             // [images, channels, height, width]
  const float* uniforms;       // [images, uniforms, height, width], or null: nothing is drawn
  std::int64_t uniforms_size;  // uniforms a pixel
  const bool* known;           // as x, or null
  void* parameters;            // [images, parameters, height, width], or null
  std::int32_t* frequencies;   // [images, end - begin, levels], or null
  std::int64_t begin, end;     // positions: channels of pixels
  std::int64_t scratch;        // numbers that a pixel's draw works on: levels and components

  GENCORE_HD const PlanHeader& header() const {
    return *reinterpret_cast<const PlanHeader*>(program);
  }
  GENCORE_HD const PlanMap& map(std::int64_t number) const {
    return reinterpret_cast<const PlanMap*>(program + PlanHeader::kSize)[number];
  }
  // Where list `number` begins, of which the first runs along rows, and the one behind the last.
  GENCORE_HD std::int64_t list(std::int64_t number) const {
    return program[PlanHeader::kSize + 4 * header().maps + number];
  }
  GENCORE_HD const PlanInstruction& instruction(std::int64_t at) const {
    return *reinterpret_cast<const PlanInstruction*>(program + at);
  }
};

}  // namespace gencore
