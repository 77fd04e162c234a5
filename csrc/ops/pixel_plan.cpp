// Drawing images pixel by pixel: the program is checked here, once a call, so that the kernels can
// trust every place in it.
#include <algorithm>
#include <cstdint>
#include <optional>

#include "../math/pixel_draw.h"
#include "dispatch.h"
#include "registration.h"
#include "tensors.h"

namespace gencore {
namespace {

constexpr const char* kOp = "pixel_plan_";

void check(bool fits, const char* what) {
  STD_TORCH_CHECK(fits, kOp, ": the program is not one: ", what);
}

// Every number of a program that a kernel follows.
class ProgramCheck {
 public:
  ProgramCheck(const PixelPlan& args, std::int64_t size, std::int64_t weights)
      : args_(args), header_(args.header()), size_(size), weights_(weights) {}

  void run() const {
    const PlanHeader& h = header_;
    check(h.channels > 0 && h.height > 0 && h.width > 0 && h.levels > 1, "no images");
    check(std::max({h.channels, h.height, h.width, h.levels}) < kLargest &&
              h.channels * h.height < kLargest &&
              h.channels * h.height * h.width < std::int64_t{1} << 32,
          "large images");
    check(h.steps == 1 || h.steps == h.channels, "steps");
    check(
        h.maps > 0 && h.maps < kLargest && h.image_size > 0 && h.image_size < std::int64_t{1} << 48,
        "maps");
    const std::int64_t lists = PlanHeader::kSize + 4 * h.maps;
    const std::int64_t first = lists + h.steps + 2;
    check(first <= size_ && args_.list(0) == first && args_.list(h.steps + 1) == size_, "lists");
    for (std::int64_t k = 0; k < h.maps; ++k) {
      const PlanMap& map = args_.map(k);
      check(map.row >= 0 && map.row < kLargest && map.pixel >= 0 && map.pixel < kLargest &&
                map.shift >= 0 && map.shift < 16 && map.origin >= 0 && map.origin <= h.image_size,
            "a map's place");
    }
    check(h.embedding > 0 && h.embedding < kLargest, "embedding");
    check_weights(h.table, h.levels * h.embedding);
    check_weights(h.lowest, 1);
    check_place(h.input_map, 0, h.channels * h.embedding, 0, 0);
    check_place(h.parameters_map, 0, h.parameters, 0, 0);
    const auto draw = static_cast<PixelDraw>(h.draw);
    const std::int64_t pairs = h.coupled != 0 ? h.channels * (h.channels - 1) / 2 : 0;
    check(
        h.parameters > 0 && h.parameters < kLargest && h.components >= 0 && h.components < kLargest,
        "parameters");
    check(
        draw == PixelDraw::kNone ||
            (draw == PixelDraw::kCategorical && h.parameters == h.channels * h.levels) ||
            (draw == PixelDraw::kLogistic && h.components > 0 && h.parameters % h.components == 0 &&
             h.parameters / h.components == 1 + 2 * h.channels + pairs),
        "the draw");
    std::int64_t at = first;
    for (std::int64_t k = 0; k <= h.steps; ++k) {
      check(args_.list(k) == at && args_.list(k) <= args_.list(k + 1), "lists");
      while (at < args_.list(k + 1)) at = check_instruction(at);
    }
  }

 private:
  static constexpr std::int64_t kLargest = std::int64_t{1} << 24;

  std::int64_t check_instruction(std::int64_t at) const {
    check(at + PlanInstruction::kSize <= size_, "an instruction's end");
    const PlanInstruction& step = args_.instruction(at);
    check(
        step.length > PlanInstruction::kSize && step.length < kLargest && at + step.length <= size_,
        "an instruction's length");
    check(step.modulus > 0 && step.modulus < kLargest && step.row >= 0 && step.row < step.modulus &&
              step.column >= 0 && step.column < step.modulus,
          "an instruction's pixels");
    check(step.count > 0 && step.count < kLargest, "an instruction's channels");
    check_place(step.map, step.channel, step.count, 0, 0);
    const std::int64_t* const with = step.operands();
    const std::int64_t given = step.length - PlanInstruction::kSize;
    const auto check_operand = [&](int k) {
      check_place(with[2 * k], with[2 * k + 1], step.count, 0, 0);
    };
    check(step.kind >= 0 && step.kind < kPlanKinds, "an instruction's kind");
    const auto kind = static_cast<PlanKind>(step.kind);
    if (kind == PlanKind::kConvolution) {
      check(given >= 3 && with[2] >= 0 && with[2] < kLargest && given == 3 + 5 * with[2],
            "the terms of a convolution");
      std::int64_t inputs = 0;
      for (std::int64_t k = 0; k < with[2]; ++k) {
        const auto& term = reinterpret_cast<const PlanTerm*>(with + 3)[k];
        check(term.count > 0 && term.count < kLargest, "a term's channels");
        check_place(term.map, term.channel, term.count, term.down, term.right);
        inputs += term.count;
        check(inputs < kLargest, "a convolution's inputs");
      }
      check_weights(with[0], inputs * plan_columns(step.count));
      if (with[1] >= 0) check_weights(with[1], plan_columns(step.count));
    } else if (kind == PlanKind::kAdd || kind == PlanKind::kMultiply) {
      check(given == 4, "a pair of operands");
      check_operand(0);
      check_operand(1);
    } else {
      check(given == (kind == PlanKind::kScale ? 3 : 2), "an operand");
      check_operand(0);
      if (kind == PlanKind::kScale) check_weights(with[2], 1);
    }
    return at + step.length;
  }

  void check_weights(std::int64_t first, std::int64_t count) const {
    check(first >= 0 && count >= 0 && first <= weights_ && count <= weights_ - first, "weights");
  }

  // That channels of a map lie within an image's memory, wherever the pixel is.
  void check_place(std::int64_t number, std::int64_t channel, std::int64_t count, std::int64_t down,
                   std::int64_t right) const {
    check(number >= 0 && number < header_.maps, "a map's number");
    check(count > 0 && count < std::int64_t{1} << 50, "channels");
    check(-kLargest < down && down < kLargest && -kLargest < right && right < kLargest &&
              channel >= 0 && channel < kLargest,
          "a place");
    const PlanMap& map = args_.map(number);
    const std::int64_t first = map.at(0, 0, down, right) + channel;
    const std::int64_t last = map.at(header_.height - 1, header_.width - 1, down, right) + channel;
    check(first >= 0 && last >= 0 && std::max(first, last) <= header_.image_size - count,
          "a place outside of the memory");
  }

  const PixelPlan& args_;
  const PlanHeader& header_;
  std::int64_t size_, weights_;
};

// Positions [begin, end) of images whose features `state` has up to there.
void pixel_plan_(Tensor program, Tensor weights, Tensor state, Tensor x, OptionalTensor uniforms,
                 OptionalTensor known, OptionalTensor parameters, OptionalTensor frequencies,
                 std::int64_t begin, std::int64_t end) {
  STD_TORCH_CHECK(program.is_cpu() && program.scalar_type() == ScalarType::Long &&
                      program.dim() == 1 && program.is_contiguous() &&
                      program.numel() > PlanHeader::kSize,
                  kOp, ": program must be a contiguous int64 vector on the CPU");
  PixelPlan args{};
  args.dtype = dtype_of(state, kOp);
  args.program = static_cast<const std::int64_t*>(program.const_data_ptr());
  ProgramCheck(args, program.numel(), weights.numel()).run();
  const PlanHeader header = args.header();
  const auto fits = [&](const Tensor& tensor, ScalarType type, std::int64_t numel,
                        const char* name) {
    STD_TORCH_CHECK(tensor.scalar_type() == type && tensor.numel() == numel &&
                        tensor.is_contiguous() && same_device(tensor, state),
                    kOp, ": ", name, " does not fit the program");
  };
  const std::int64_t plane = header.height * header.width, images = state.size(0);
  STD_TORCH_CHECK(state.scalar_type() == accumulation_type(state) && state.dim() == 2, kOp,
                  ": state must be [N, size], float32 or float64");
  STD_TORCH_CHECK(state.size(1) == header.image_size && state.is_contiguous(), kOp,
                  ": state does not fit the program");
  fits(weights, state.scalar_type(), weights.numel(), "weights");
  fits(x, ScalarType::Long, images * header.channels * plane, "x");
  STD_TORCH_CHECK(0 <= begin && begin <= end && end <= header.channels * plane, kOp,
                  ": positions are out of range");
  args.images = images;
  args.scratch = header.levels + std::max<std::int64_t>(header.components, 1);

  args.weights = weights.const_data_ptr();
  args.state = state.mutable_data_ptr();
  args.x = static_cast<std::int64_t*>(x.mutable_data_ptr());
  args.begin = begin;
  args.end = end;
  if (uniforms || frequencies)
    STD_TORCH_CHECK(static_cast<PixelDraw>(header.draw) != PixelDraw::kNone, kOp,
                    ": the program has no draw");
  if (uniforms) {
    args.uniforms_size =
        header.channels + (static_cast<PixelDraw>(header.draw) == PixelDraw::kLogistic ? 1 : 0);
    fits(*uniforms, ScalarType::Float, images * args.uniforms_size * plane, "uniforms");
    args.uniforms = static_cast<const float*>(uniforms->const_data_ptr());
  }
  if (known) {
    fits(*known, ScalarType::Bool, x.numel(), "known");
    args.known = static_cast<const bool*>(known->const_data_ptr());
  }
  if (parameters) {
    fits(*parameters, state.scalar_type(), images * header.parameters * plane, "parameters");
    args.parameters = parameters->mutable_data_ptr();
  }
  if (frequencies) {
    fits(*frequencies, ScalarType::Int, images * (end - begin) * header.levels, "frequencies");
    args.frequencies = static_cast<std::int32_t*>(frequencies->mutable_data_ptr());
  }
  if (begin == end) return;
  Tensor on_device = program;
  if (!state.is_cpu()) {
    on_device = torch::stable::new_empty(state, {program.numel()}, ScalarType::Long);
    torch::stable::copy_(on_device, program);
    args.program = static_cast<const std::int64_t*>(on_device.const_data_ptr());
  }
  // As many images a thread as there are threads for: a pixel's weights are read once for all.
  const std::int64_t threads = torch::stable::get_num_threads();
  launch_items(state, args, images, (images + threads - 1) / threads, GENCORE_KERNELS(pixel_plan));
}

}  // namespace

GENCORE_OPERATORS(
    {"pixel_plan_(Tensor program, Tensor weights, "
     "Tensor(a!) state, Tensor(b!) x, Tensor? uniforms, Tensor? known, "
     "Tensor(c!)? parameters, Tensor(d!)? frequencies, int begin, int end) -> ()",
     TORCH_BOX(&pixel_plan_)});

}  // namespace gencore
