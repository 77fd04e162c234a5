// A leaf of the No-U-Turn sampler's trees on CUDA, in one pass: a thread keeps to its elements of
// the chain, so that whatever it reads again lies in its cache. Bytes per element of b bytes: reads
// position, momentum and gradient (3b) and writes the first two (2b); it also writes half a
// checkpoint (2b), reads two halves on average (4b), and copies the leaf to where it is drawn (2b)
// or a subtree's last one to its end (3b). Nothing is moved for chains that have stopped.
#include "../math/leapfrog.h"
#include "../math/nuts.h"
#include "chainwise.cuh"
#include "coefficient.cuh"
#include "kernels.h"

namespace gencore::cuda {
namespace {

template <class T>
struct NutsLeafBody {
  NutsLeaf args;
  NutsPlace tree;
  using A = accumulate_t<T>;

  // The branches that hold something of all threads depend on the leaf alone, not on the chain.
  __device__ void operator()(const Place& place, const ChainShape& shape) const {
    // What a chain has one of is read and written by its first thread alone.
    const bool is_first = place.present && place.rank == 0;
    Place running = place;  // one whose spans are empty where the chain has stopped
    running.present = chain_any(place, is_first && args.flags[place.chain]);
    const bool was_ahead = chain_any(place, is_first && args.flags[args.chains + place.chain]);
    const NutsDraws draws = nuts_draws(
        {static_cast<std::uint64_t>(args.key[0]), static_cast<std::uint64_t>(args.key[1])},
        args.first_chain + place.chain, args.leaf);
    const A step = step_size(running);

    bool is_usable = false;
    const double kinetic = arrive(running, shape, was_ahead ? step : -step, is_usable);
    bool takes = false, grows = false;
    if (running.present && place.rank == 0)
      grows = judge(place.chain, kinetic, is_usable, draws.takes, takes);
    grows = chain_any(place, grows);
    if (chain_any(place, takes)) {
      copy(running, shape, args.position, 0, args.drawn, 0);
      copy(running, shape, args.grad, 0, args.drawn, 1);
    }
    // `grows` waits for all of them: they hold something of all threads.
    const State here{plane(args.position, 0), plane(args.momentum, 0)};
    const auto turned = [&](const State& first, const State& last) {
      if (has_turned(running, shape, first, last, was_ahead)) grows = false;
    };
    if (tree.begins_half) turned(first_leaf(tree.slot - 1), here);
    for (int k = 0; k < tree.num_ended; ++k) {
      turned(first_leaf(tree.slot - k), here);
      if (k > 0) turned(leaf_before(tree.slot - k + 1), here);
    }
    if (!tree.is_last && grows) {
      const int kept = tree.num_ended == 0 ? 4 * tree.slot : 4 * tree.next_slot + 2;
      copy(running, shape, args.position, 0, args.checkpoints, kept);
      copy(running, shape, args.momentum, 0, args.checkpoints, kept + 1);
    }

    bool is_ahead = was_ahead;
    if (tree.is_last) {
      bool merges = false;
      if (grows && place.rank == 0) merges = merge(place.chain, draws.merges);
      if (chain_any(place, merges)) {
        copy(running, shape, args.drawn, 0, args.drawn, 2);
        copy(running, shape, args.drawn, 1, args.drawn, 3);
      }
      // The trajectory as a whole, and from either half to the other's nearest state, which of
      // halves of one state is the same.
      const int near = was_ahead ? 3 : 0, far = 3 - near;
      const bool joins = grows;
      turned(state(args.ends, far), here);
      if (tree.depth > 0) {
        turned(state(args.ends, far), first_leaf(0));
        turned(state(args.ends, near), here);
      }
      if (joins) {
        copy(running, shape, args.position, 0, args.ends, near);
        copy(running, shape, args.momentum, 0, args.ends, near + 1);
        copy(running, shape, args.grad, 0, args.ends, near + 2);
      }
      if (tree.depth + 1 == args.max_depth) grows = false;
      if (grows) is_ahead = draws.is_ahead;
    }
    if (grows)
      depart(running, shape, is_ahead ? step : -step, is_ahead == was_ahead, was_ahead ? 0 : 3);
    else
      copy(running, shape, args.drawn, 2, args.position, 0);
    if (running.present && place.rank == 0) {
      args.flags[place.chain] = grows;
      args.flags[args.chains + place.chain] = is_ahead;
    }
  }

 private:
  __device__ T* plane(void* tensor, int number) const {
    return static_cast<T*>(tensor) + number * args.chains * args.chain_size;
  }
  __device__ const T* plane(const void* tensor, int number) const {
    return static_cast<const T*>(tensor) + number * args.chains * args.chain_size;
  }

  struct State {
    const T* x;
    const T* momentum;
  };
  __device__ State state(const void* tensor, int number) const {
    return {plane(tensor, number), plane(tensor, number + 1)};
  }
  __device__ State first_leaf(int slot) const { return state(args.checkpoints, 4 * slot); }
  __device__ State leaf_before(int slot) const { return state(args.checkpoints, 4 * slot + 2); }

  __device__ A step_size(const Place& running) const {
    if (args.step_size.values == nullptr || !running.present)
      return static_cast<A>(args.step_size.number);
    return static_cast<const A*>(
        args.step_size.values)[running.chain * args.step_size.chain_stride];
  }

  __device__ void copy(const Place& running, const ChainShape& shape, const void* from,
                       int from_plane, void* to, int to_plane) const {
    for_each_span(running, shape, [&](const Span& span) {
      A values[4];
      read<T>(plane(from, from_plane), span, values);
      write<T>(plane(to, to_plane), span, values);
    });
  }

  // The leaf's momentum, its kinetic energy, and whether the leaf is finite.
  __device__ double arrive(const Place& running, const ChainShape& shape, A step,
                           bool& is_usable) const {
    double sum = 0.0;
    bool others = false;
    for_each_span(running, shape, [&](const Span& span) {
      A x[4], momentum[4], grad[4], inverse_mass[4];
      read<T>(args.position, span, x);
      read<T>(args.momentum, span, momentum);
      read<T>(args.grad, span, grad);
      read_coefficient(args.inverse_mass, span, running.chain, running.chain * shape.chain_size,
                       inverse_mass);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        others = others || !is_finite(x[k]) || !is_finite(grad[k]);  // zero outside the span
        momentum[k] = load(store<T>(leapfrog_kick(momentum[k], grad[k], A(0.5) * step)));
        if (k >= span.begin && k < span.end) sum += inverse_mass[k] * momentum[k] * momentum[k];
      }
      write<T>(args.momentum, span, momentum);
    });
    sum = chain_sum(running, sum);
    is_usable = !chain_any(running, others);
    return 0.5 * sum;
  }

  // Weighs the leaf and writes what the chain has one of; whether it may grow on.
  __device__ bool judge(std::int64_t chain, double kinetic, bool is_usable, double uniform,
                        bool& takes) const {
    const std::int64_t chains = args.chains;
    double* weights = args.weights + chain;
    const A potential = static_cast<const A*>(args.energy)[chain];
    const NutsLeafVerdict verdict =
        nuts_judge(weights[0], potential + kinetic, is_usable, tree.is_first, weights[2 * chains],
                   uniform, args.max_energy_error);
    weights[2 * chains] = verdict.subtree_log_weight;
    weights[3 * chains] += verdict.acceptance_rate;
    args.counts[chain] += 1;
    args.flags[2 * chains + chain] = verdict.is_divergent;
    takes = verdict.takes;
    if (takes) static_cast<A*>(args.energies)[chain] = potential;
    return !verdict.is_divergent;
  }

  // Adds the subtree's weight to the trajectory's; whether the state drawn from it is taken.
  __device__ bool merge(std::int64_t chain, double uniform) const {
    double& trajectory = args.weights[args.chains + chain];
    const double subtree = args.weights[2 * args.chains + chain];
    const bool merges = uniform < exp(subtree - trajectory);
    trajectory = log_add_exp(trajectory, subtree);
    args.counts[args.chains + chain] += 1;
    A* energies = static_cast<A*>(args.energies) + chain;
    if (merges) energies[args.chains] = energies[0];
    return merges;
  }

  // Whether the trajectory from one state to the other no longer grows longer at both its ends.
  __device__ bool has_turned(const Place& running, const ChainShape& shape, const State& begin,
                             const State& end, bool is_ahead) const {
    const A sign = is_ahead ? A(1) : A(-1);
    double at_start = 0.0, at_end = 0.0;
    for_each_span(running, shape, [&](const Span& span) {
      A x[4], momentum[4], first[4], first_momentum[4];
      read<T>(end.x, span, x);
      read<T>(end.momentum, span, momentum);
      read<T>(begin.x, span, first);
      read<T>(begin.momentum, span, first_momentum);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k < span.begin || k >= span.end) continue;
        const A way = sign * (x[k] - first[k]);
        at_start += way * first_momentum[k];
        at_end += way * momentum[k];
      }
    });
    at_start = chain_sum(running, at_start);
    const bool turned = chain_any(running, !(at_start > 0.0));  // and a barrier between the sums
    at_end = chain_sum(running, at_end);
    return chain_any(running, !(at_end > 0.0)) || turned;
  }

  // Half a kick and the drift to the next leaf, from here or from the planes of the other end.
  __device__ void depart(const Place& running, const ChainShape& shape, A step, bool from_here,
                         int there) const {
    const T* positions = from_here ? plane(args.position, 0) : plane(args.ends, there);
    const T* momenta = from_here ? plane(args.momentum, 0) : plane(args.ends, there + 1);
    const T* grads = from_here ? plane(args.grad, 0) : plane(args.ends, there + 2);
    for_each_span(running, shape, [&](const Span& span) {
      A x[4], momentum[4], grad[4], inverse_mass[4];
      read<T>(positions, span, x);
      read<T>(momenta, span, momentum);
      read<T>(grads, span, grad);
      read_coefficient(args.inverse_mass, span, running.chain, running.chain * shape.chain_size,
                       inverse_mass);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        momentum[k] = leapfrog_kick(momentum[k], grad[k], A(0.5) * step);
        x[k] = leapfrog_drift(x[k], momentum[k], inverse_mass[k], step);
      }
      write<T>(args.momentum, span, momentum);
      write<T>(args.position, span, x);
    });
  }
};

}  // namespace

void nuts_leaf(const NutsLeaf& args, void* stream) {
  by_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    // Where the second plane is aligned, all are.
    const auto second = [&](void* tensor) {
      return static_cast<T*>(tensor) + args.chains * args.chain_size;
    };
    launch_chainwise<T>(
        NutsLeafBody<T>{args, nuts_place(args.leaf)}, args.chains, args.chain_size, 0,
        {args.position, args.momentum, args.grad, args.ends, second(args.ends), args.checkpoints,
         second(args.checkpoints), args.drawn, second(args.drawn)},
        stream);
  });
}

}  // namespace gencore::cuda
