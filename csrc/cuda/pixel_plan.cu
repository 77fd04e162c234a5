// Running the program of a causal network pixel by pixel: one launch for all layers and all pixels,
// a block an image. Threads share the channels of each step and then wait for each other; weights
// come from the second-level cache, which all blocks read in step. Products are not fused, and sums
// run in the order of the CPU's, so that the levels are the same.
#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>

#include "../math/pixel_draw.h"
#include "kernels.h"
#include "launch.cuh"

namespace gencore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostShared = 40 * 1024;

template <class A>
class PlanBlock {
 public:
  __device__ PlanBlock(const PixelPlan& args, double* shared)
      : args_(args),
        header_(args.header()),
        image_(static_cast<std::int64_t>(blockIdx.x)),
        thread_(static_cast<std::int64_t>(threadIdx.x)),
        plane_(header_.height * header_.width),
        weights_(static_cast<const A*>(args.weights)),
        state_(static_cast<A*>(args.state) + image_ * header_.image_size),
        levels_(shared),
        shares_(shared + header_.levels),
        x_(args.x + image_ * header_.channels * plane_) {}

  __device__ void run() {
    const std::int64_t channels = header_.channels;
    for (std::int64_t t = args_.begin; t < args_.end; ++t) {
      const std::int64_t pixel = t / channels, channel = t % channels;
      const std::int64_t y = pixel / header_.width, x = pixel % header_.width;
      if (t == args_.begin && t > 0) enter(t - 1);  // it may have been written since
      if (channel == 0 && x == 0) run_row(y);
      if (channel < header_.steps) run_pixel(channel, y, x);
      if (args_.parameters != nullptr && channel == header_.steps - 1) record(y, x);
      decide(t, y, x, channel);
      enter(t);
    }
  }

 private:
  __device__ void run_row(std::int64_t y) {
    for (std::int64_t at = args_.list(0); at < args_.list(1);) {
      const PlanInstruction& step = args_.instruction(at);
      if (step.runs_in(y))
        for (std::int64_t x = step.column; x < header_.width; x += step.modulus)
          execute(step, y, x);
      __syncthreads();
      at += step.length;
    }
  }

  __device__ void run_pixel(std::int64_t list, std::int64_t y, std::int64_t x) {
    for (std::int64_t at = args_.list(1 + list); at < args_.list(2 + list);) {
      const PlanInstruction& step = args_.instruction(at);
      if (step.runs_at(y, x)) {
        execute(step, y, x);
        __syncthreads();
      }
      at += step.length;
    }
  }

  __device__ void execute(const PlanInstruction& step, std::int64_t y, std::int64_t x) {
    A* const out = state_ + args_.map(step.map).at(y, x, 0, 0) + step.channel;
    const auto kind = static_cast<PlanKind>(step.kind);
    const std::int64_t* const with = step.operands();
    if (kind == PlanKind::kConvolution) {
      for (std::int64_t c = thread_; c < step.count; c += kThreads)
        out[c] = convolve(with, plan_columns(step.count), c, y, x);
      return;
    }
    const bool is_pair = kind == PlanKind::kAdd || kind == PlanKind::kMultiply;
    const A* const a = state_ + args_.map(with[0]).at(y, x, 0, 0) + with[1];
    const A* const b = is_pair ? state_ + args_.map(with[2]).at(y, x, 0, 0) + with[3] : nullptr;
    for (std::int64_t c = thread_; c < step.count; c += kThreads)
      out[c] = apply(kind, a[c], is_pair ? b[c] : A(0), with);
  }

  __device__ A apply(PlanKind kind, A a, A b, const std::int64_t* with) const {
    const double wide = static_cast<double>(a);
    switch (kind) {
      case PlanKind::kScale:
        return a * weights_[with[2]];
      case PlanKind::kRelu:
        return a > A(0) ? a : A(0);
      case PlanKind::kElu:
        return a > A(0) ? a : static_cast<A>(portable_exp(wide) - 1.0);
      case PlanKind::kTanh:
        return static_cast<A>(portable_tanh(wide));
      case PlanKind::kSigmoid:
        return static_cast<A>(portable_sigmoid(wide));
      case PlanKind::kAdd:
        return a + b;
      case PlanKind::kMultiply:
        return a * b;
      default:
        return a;
    }
  }

  __device__ A convolve(const std::int64_t* with, std::int64_t columns, std::int64_t c,
                        std::int64_t y, std::int64_t x) const {
    A sum = with[1] < 0 ? A(0) : weights_[with[1] + c];
    const A* weight = weights_ + with[0] + c;
    const PlanTerm* const terms = reinterpret_cast<const PlanTerm*>(with + 3);
    for (std::int64_t k = 0; k < with[2]; ++k) {
      const PlanTerm& term = terms[k];
      const A* const from =
          state_ + args_.map(term.map).at(y, x, term.down, term.right) + term.channel;
      for (std::int64_t i = 0; i < term.count; ++i, weight += columns)
        sum = sum + from[i] * *weight;
    }
    return sum;
  }

  __device__ const A* parameters(std::int64_t y, std::int64_t x) const {
    return state_ + args_.map(header_.parameters_map).at(y, x, 0, 0);
  }

  __device__ void record(std::int64_t y, std::int64_t x) {
    const A* const from = parameters(y, x);
    A* const to = static_cast<A*>(args_.parameters) + image_ * header_.parameters * plane_ +
                  y * header_.width + x;
    for (std::int64_t p = thread_; p < header_.parameters; p += kThreads) to[p * plane_] = from[p];
  }

  __device__ void decide(std::int64_t t, std::int64_t y, std::int64_t x, std::int64_t channel) {
    const std::int64_t pixel = y * header_.width + x, place = channel * plane_ + pixel;
    const bool is_drawn =
        args_.uniforms != nullptr &&
        (args_.known == nullptr || !args_.known[image_ * header_.channels * plane_ + place]);
    if (!is_drawn && args_.frequencies == nullptr) return;
    const float* const uniforms =
        is_drawn ? args_.uniforms + image_ * args_.uniforms_size * plane_ + pixel : nullptr;
    const A* const from = parameters(y, x);
    const std::int64_t levels = header_.levels;
    if (static_cast<PixelDraw>(header_.draw) == PixelDraw::kLogistic) {
      const LogisticPixel<A> mixture{from,
                                     x_ + pixel,
                                     plane_,
                                     header_.channels,
                                     header_.components,
                                     levels,
                                     header_.coupled != 0,
                                     static_cast<double>(weights_[header_.lowest])};
      if (is_drawn && thread_ == 0)
        x_[place] = draw_logistic(mixture, channel, static_cast<double>(uniforms[0]),
                                  static_cast<double>(uniforms[(1 + channel) * plane_]));
      if (args_.frequencies != nullptr) add_logistics(mixture, channel);
    } else {
      const A* const logits = from + channel * levels;
      A largest = logits[0];
      for (std::int64_t k = 1; k < levels; ++k) largest = logits[k] > largest ? logits[k] : largest;
      for (std::int64_t k = thread_; k < levels; k += kThreads)
        levels_[k] = portable_exp(static_cast<double>(logits[k]) - static_cast<double>(largest));
      __syncthreads();
      if (thread_ == 0) {
        if (is_drawn)
          x_[place] =
              invert_weights(levels_, levels, static_cast<double>(uniforms[channel * plane_]));
        if (args_.frequencies != nullptr)
          for (std::int64_t k = 1; k < levels; ++k) levels_[k] = levels_[k - 1] + levels_[k];
      }
    }
    __syncthreads();
    if (args_.frequencies != nullptr && thread_ == 0)
      frequencies_of(
          levels_, levels,
          args_.frequencies + (image_ * (args_.end - args_.begin) + t - args_.begin) * levels);
    __syncthreads();
  }

  // Cumulative probabilities of a mixture, of whose components every thread adds up all.
  __device__ void add_logistics(const LogisticPixel<A>& mixture, std::int64_t channel) {
    if (thread_ == 0) logistic_shares(mixture, channel, shares_);
    __syncthreads();
    for (std::int64_t k = thread_; k < header_.levels; k += kThreads) levels_[k] = 0.0;
    const std::int64_t last = header_.levels - 1;
    for (std::int64_t m = 0; m < header_.components; ++m) {
      const double centre = mixture.mean(channel, m), share = shares_[m];
      const double precision = portable_exp(-mixture.log_scale(channel, m));
      for (std::int64_t k = thread_; k <= last; k += kThreads) {
        const double edge = LogisticPixel<A>::edge(k, header_.levels);
        levels_[k] = levels_[k] +
                     (k == last ? share : share * portable_sigmoid((edge - centre) * precision));
      }
    }
  }

  // Puts what the network sees of position t's levels into the input's map.
  __device__ void enter(std::int64_t t) {
    const std::int64_t pixel = t / header_.channels, channel = t % header_.channels;
    A* const to =
        state_ +
        args_.map(header_.input_map).at(pixel / header_.width, pixel % header_.width, 0, 0) +
        channel * header_.embedding;
    std::int64_t level = x_[channel * plane_ + pixel];
    level = level < 0 ? 0 : (level >= header_.levels ? header_.levels - 1 : level);
    const A* const row = weights_ + header_.table + level * header_.embedding;
    for (std::int64_t e = thread_; e < header_.embedding; e += kThreads) to[e] = row[e];
    __syncthreads();
  }

  const PixelPlan& args_;
  const PlanHeader& header_;
  std::int64_t image_, thread_, plane_;
  const A* weights_;
  A* state_;
  double* levels_;
  double* shares_;
  std::int64_t* x_;
};

template <class A>
__global__ void __launch_bounds__(kThreads) pixel_plan_kernel(PixelPlan args) {
  PlanBlock<A>(args, dynamic_shared<double>()).run();
}

}  // namespace

void pixel_plan(const PixelPlan& args, void* stream) {
  LaunchShape shape{};
  shape.blocks = dim3(static_cast<unsigned>(args.images));
  shape.threads = dim3(kThreads);
  shape.shared_bytes = static_cast<std::size_t>(args.scratch) * sizeof(double);
  if (static_cast<std::int64_t>(shape.shared_bytes) > kMostShared)
    throw std::runtime_error("gencore: a pixel has more levels than a CUDA block has memory for, " +
                             std::to_string(kMostShared / 8));
  if (args.dtype == Dtype::kFloat64)
    return launch_kernel(pixel_plan_kernel<double>, shape, stream, args);
  launch_kernel(pixel_plan_kernel<float>, shape, stream, args);
}

}  // namespace gencore::cuda
