// The negative log-density of standard normal latents on CUDA. Reads each latent once.
#include "../math/gaussian_nll.h"
#include "chainwise.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct GaussianNllBody {
  GaussianNll args;
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    using A = accumulate_t<T>;
    double sum = 0.0;
    for_each_span(place, shape, [&](const Span& span) {
      A z[4], terms = 0;  // zero outside the span
      read<T>(args.z, span, z);
#pragma unroll
      for (int k = 0; k < 4; ++k) terms += z[k] * z[k];
      sum += terms;
    });
    sum = chain_sum(place, sum);
    if (!place.present || place.rank != 0) return;
    const double log_det = static_cast<const A*>(args.log_det)[place.chain];
    static_cast<A*>(args.out)[place.chain] =
        static_cast<A>(gencore::gaussian_nll(sum, shape.chain_size, log_det));
  }
};

}  // namespace

void gaussian_nll(const GaussianNll& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch_chainwise<T>(GaussianNllBody<T>{args}, args.chains, args.chain_size, 0, {args.z},
                        stream);
  });
}

}  // namespace gencore::cuda
