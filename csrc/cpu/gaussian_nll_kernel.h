// The negative log-density of standard normal latents over a range of chains. Reads each latent
// once.
#pragma once

#include "../arguments/gaussian_nll.h"
#include "../math/gaussian_nll.h"
#include "chainwise.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

template <class T>
void gaussian_nll_range(const GaussianNll& args, std::int64_t begin, std::int64_t end) {
  using A = accumulate_t<T>;
  const T* z = static_cast<const T*>(args.z);
  const A* log_det = static_cast<const A*>(args.log_det);
  A* out = static_cast<A*>(args.out);
  sum_over_chains<T>(
      {}, false, args.chain_size, begin, end,
      [&](std::int64_t at, std::int64_t count, const A*, A* terms) {
        for (std::int64_t k = 0; k < count; ++k) {
          const A value = load(z[at + k]);
          terms[k] = value * value;
        }
      },
      [&](std::int64_t chain, double sum) {
        out[chain] = static_cast<A>(gaussian_nll(sum, args.chain_size, log_det[chain]));
      });
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
