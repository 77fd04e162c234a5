// The inverse of an autoregressive layer: a block of threads takes its samples from the
// first coordinate to the last, with every unit of the network in shared memory. Global memory sees
// z, x and, through the caches, half of the weights once a block.
//
// A thread owns one sample and a share of the columns of a product; shares are then added up in the
// order of the threads. A coordinate is solved by one thread a sample.
#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "../math/made.h"
#include "../math/storage.h"
#include "kernels.h"
#include "launch.cuh"
#include "spline_bins.cuh"

namespace gencore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxSamples = 16;
constexpr int kRows = 4;  // of a product, at a time

// Where each layer's units lie in shared memory, counted in elements: [units][samples].
struct MadeLayout {
  int samples;
  int values[kMaxMlpLayers];  // the coordinates and the hidden layers
  int outputs;                // [outputs of a coordinate][samples]
  int sums;                   // [threads / samples][kRows][samples]
  int free = 0;               // the first element behind

  MadeLayout(const MadeInverse& args, int samples) : samples(samples) {
    for (int l = 0; l <= args.hidden_layers(); ++l) values[l] = take(args.mlp.widths[l] * samples);
    outputs = take(args.outputs() * samples);
    sums = take(kRows * kThreads);
  }

 private:
  int take(std::int64_t elements) {
    const int at = free;
    free += static_cast<int>(elements);
    return at;
  }
};

template <class T>
class MadeTile {
 public:
  using A = accumulate_t<T>;

  __device__ MadeTile(const MadeInverse& args, const MadeLayout& layout, A* shared)
      : args_(args),
        layout_(layout),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x)),
        sample_(thread_ % layout.samples),
        share_(thread_ / layout.samples),
        shares_(kThreads / layout.samples),
        first_(static_cast<std::int64_t>(blockIdx.x) * layout.samples),
        count_(args.rows - first_ < layout.samples ? static_cast<int>(args.rows - first_)
                                                   : layout.samples) {}

  __device__ void run() const {
    const int features = static_cast<int>(args_.features());
    A* const x = shared_ + layout_.values[0];
    const T* const z = static_cast<const T*>(args_.z) + first_ * features;
    for (int k = thread_; k < features * layout_.samples; k += kThreads) {
      const int c = k / features, i = k % features;
      x[i * layout_.samples + c] = c < count_ ? load(z[k]) : A(0);
    }
    __syncthreads();
    double log_det = 0.0;
    for (int i = 0; i < features; ++i) {
      for (int l = 0; l < args_.hidden_layers(); ++l) complete(l, i);
      solve(i, log_det);
    }
    T* const out = static_cast<T*>(args_.x) + first_ * features;
    for (int k = thread_; k < features * count_; k += kThreads)
      out[k] = store<T>(x[k % features * layout_.samples + k / features]);
    if (thread_ < count_)
      static_cast<A*>(args_.log_det)[first_ + thread_] = static_cast<A>(log_det);
  }

 private:
  __device__ const A* weight(int l) const { return static_cast<const A*>(args_.mlp.weights[l]); }
  __device__ const A* bias(int l) const { return static_cast<const A*>(args_.mlp.biases[l]); }

  // Each thread's share of weight[r][:columns] in, for `rows` <= kRows rows, of its sample. Ready
  // for all threads when it returns.
  __device__ void add_shares(const A* weight, std::int64_t stride, int rows, int columns,
                             const A* in) const {
    A sums[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums[r] = A(0);
    for (int j = share_; j < columns; j += shares_) {
      const A value = in[j * layout_.samples + sample_];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (r < rows) sums[r] = multiply_add(weight[r * stride + j], value, sums[r]);
    }
    A* const to = shared_ + layout_.sums + share_ * kRows * layout_.samples + sample_;
#pragma unroll
    for (int r = 0; r < kRows; ++r) to[r * layout_.samples] = sums[r];
    __syncthreads();
  }
  __device__ A total(int row, int sample, int columns) const {
    const A* const sums = shared_ + layout_.sums + row * layout_.samples + sample;
    const int used = columns < shares_ ? columns : shares_;
    A total = A(0);
    for (int k = 0; k < used; ++k) total += sums[k * kRows * layout_.samples];
    return total;
  }

  // Calls put(row, sample, weight[row][:columns] in) for rows [from, end), a row `stride` behind
  // the one before, with all threads. Ready for all of them when it returns.
  template <class Put>
  __device__ void multiply(const A* weight, std::int64_t stride, int from, int end, int columns,
                           const A* in, Put put) const {
    for (int row = from; row < end; row += kRows) {
      const int rows = end - row < kRows ? end - row : kRows;
      add_shares(weight + row * stride, stride, rows, columns, in);
      for (int k = thread_; k < rows * layout_.samples; k += kThreads) {
        const int r = k / layout_.samples, c = k % layout_.samples;
        put(row + r, c, total(r, c, columns));
      }
      __syncthreads();
    }
  }

  // The units of hidden layer l of degree `degree`, for which `degree` coordinates are known.
  __device__ void complete(int l, int degree) const {
    const int width = static_cast<int>(args_.mlp.widths[l + 1]);
    const int columns = l == 0 ? degree : static_cast<int>(args_.units(l - 1, degree));
    multiply(weight(l), args_.mlp.widths[l], static_cast<int>(args_.units(l, degree - 1)),
             static_cast<int>(args_.units(l, degree)), columns, shared_ + layout_.values[l],
             [&](int unit, int c, A sum) {
               A z = bias(l)[unit] + sum;
               if (l == 0 && args_.context_term != nullptr && c < count_)
                 z += static_cast<const A*>(args_.context_term)[(first_ + c) * width + unit];
               shared_[layout_.values[l + 1] + unit * layout_.samples + c] = activated(z);
             });
  }

  __device__ A activated(A z) const {
    const A negative_slope = static_cast<A>(args_.mlp.negative_slope);
    switch (args_.mlp.activation) {
      case Activation::kSilu:
        return activate<Activation::kSilu>(z, negative_slope).value;
      case Activation::kSoftplus:
        return activate<Activation::kSoftplus>(z, negative_slope).value;
      case Activation::kTanh:
        return activate<Activation::kTanh>(z, negative_slope).value;
      default:
        return activate<Activation::kLeakyRelu>(z, negative_slope).value;
    }
  }

  // Coordinate i; thread c adds to the log-determinant of sample c.
  __device__ void solve(int i, double& log_det) const {
    const int last = args_.hidden_layers(), row = static_cast<int>(args_.first_row(i));
    const std::int64_t inputs = args_.mlp.widths[last], stride = args_.row_stride();
    A* const outputs = shared_ + layout_.outputs;
    multiply(weight(last) + row * inputs, stride * inputs, 0, static_cast<int>(args_.outputs()),
             static_cast<int>(args_.units(last - 1, i)), shared_ + layout_.values[last],
             [&](int p, int c, A sum) {
               outputs[p * layout_.samples + c] = bias(last)[row + p * stride] + sum;
             });
    if (thread_ < layout_.samples) {
      A& x = shared_[layout_.values[0] + i * layout_.samples + thread_];
      const SolvedCoordinate<A> solved =
          args_.is_spline() ? inverted_spline(x, outputs) : inverted_affine(x, outputs);
      x = solved.value;
      log_det += static_cast<double>(solved.log_slope);
    }
    __syncthreads();
  }

  __device__ SolvedCoordinate<A> inverted_affine(A z, const A* outputs) const {
    const A shift = outputs[thread_];
    const A s = within_bound(outputs[layout_.samples + thread_], static_cast<A>(args_.bound));
    return args_.step == AutoregressiveStep::kGate ? solve_gate(z, shift, s)
                                                   : solve_exponential(z, shift, s);
  }

  __device__ SolvedCoordinate<A> inverted_spline(A z, const A* outputs) const {
    const auto from = [&](std::int64_t row) {
      return RawParameters<A>{outputs + row * layout_.samples + thread_, layout_.samples};
    };
    const std::int64_t bins = args_.spline.bins;
    const SplineValue solved = map(args_.spline, RawSpline<A>{from(0), from(bins), from(2 * bins)},
                                   true, static_cast<double>(z));
    return {static_cast<A>(solved.value), -log_slope(static_cast<A>(solved.slope))};
  }

  const MadeInverse& args_;
  const MadeLayout& layout_;
  A* shared_;
  int thread_, sample_, share_, shares_;
  std::int64_t first_;
  int count_;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    made_inverse_kernel(const __grid_constant__ MadeInverse args,
                        const __grid_constant__ MadeLayout layout) {
  MadeTile<T>(args, layout, dynamic_shared<accumulate_t<T>>()).run();
}

template <class T>
void launch_made(const MadeInverse& args, void* stream) {
  using A = accumulate_t<T>;
  int device = 0, limit = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "shared memory");
  for (int samples = kMaxSamples; samples >= 1; samples /= 2) {
    std::int64_t units = args.outputs();
    for (int l = 0; l <= args.hidden_layers(); ++l) units += args.mlp.widths[l];
    const std::int64_t elements = units * samples + kRows * kThreads;
    if (elements * static_cast<std::int64_t>(sizeof(A)) > limit) continue;
    const MadeLayout layout(args, samples);
    const std::size_t bytes = static_cast<std::size_t>(layout.free) * sizeof(A);
    const auto blocks = static_cast<unsigned>((args.rows + samples - 1) / samples);
    return launch_kernel(made_inverse_kernel<T>, {blocks, kThreads, bytes}, stream, args, layout);
  }
  throw std::runtime_error(
      "gencore: one sample's coordinates and hidden units do not fit into this GPU's shared memory "
      "of " +
      std::to_string(limit) +
      " bytes a block; use narrower layers, float32, or gencore.ops._support.backend('reference')");
}

}  // namespace

void made_inverse(const MadeInverse& args, void* stream) {
  switch (args.dtype) {
    case Dtype::kFloat64:
      return launch_made<double>(args, stream);
    case Dtype::kFloat32:
      return launch_made<float>(args, stream);
    case Dtype::kBFloat16:
      return launch_made<BFloat16>(args, stream);
    case Dtype::kFloat16:
      return launch_made<Float16>(args, stream);
  }
}

}  // namespace gencore::cuda
