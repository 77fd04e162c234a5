// A leaf of the No-U-Turn sampler's trees over a range of chains, those that have stopped skipped.
// Bytes per element of b bytes: reads position, momentum and gradient (3b) and writes the first two
// (2b); it also writes half a checkpoint (2b), reads two halves on average (4b), and copies the
// leaf to where it is drawn (2b) or a subtree's last one to its end (3b).
#pragma once

#include "../arguments/nuts.h"
#include "../math/leapfrog.h"
#include "../math/nuts.h"
#include "coefficient.h"
#include "lane_sum.h"
#include "metropolis_kernel.h"

namespace gencore {
inline namespace GENCORE_LEVEL {

// One chain's tree, and its leaf.
template <class T>
class NutsChain {
  using A = accumulate_t<T>;

 public:
  NutsChain(const NutsLeaf& args, const NutsPlace& place, CoefficientBlock<A>& inverse_mass,
            std::int64_t chain)
      : args_(args),
        place_(place),
        inverse_mass_(inverse_mass),
        chain_(chain),
        draws_(nuts_draws(stream_of(args.key), args.first_chain + chain, args.leaf)),
        x_(plane(args.position, 0)),
        momentum_(plane(args.momentum, 0)),
        grad_(static_cast<const T*>(args.grad) + chain * args.chain_size),
        is_ahead_(flag(1)),
        step_(args.step_size.values == nullptr
                  ? static_cast<A>(args.step_size.number)
                  : static_cast<const A*>(
                        args.step_size.values)[chain * args.step_size.chain_stride]) {}

  void grow() {
    flag(0) = is_valid() && (!place_.is_last || is_doubled_again());
    if (flag(0))
      depart();
    else
      copy(plane(args_.drawn, 2), x_);
  }

 private:
  T* plane(void* tensor, std::int64_t number) const {
    return static_cast<T*>(tensor) + (number * args_.chains + chain_) * args_.chain_size;
  }
  bool& flag(int row) const { return args_.flags[row * args_.chains + chain_]; }
  double& weight(int row) const { return args_.weights[row * args_.chains + chain_]; }
  std::int64_t& count(int row) const { return args_.counts[row * args_.chains + chain_]; }
  A& energy(int row) const { return static_cast<A*>(args_.energies)[row * args_.chains + chain_]; }
  A signed_step() const { return flag(1) ? step_ : -step_; }

  void copy(const T* from, T* to) const { take<T>(from, 0, args_.chain_size, to); }

  // The sum of what body(at, count, terms) leaves for the elements [at, at + count).
  template <class Body>
  double sum(Body body) const {
    alignas(64) A terms[kBlock];
    LaneSum sum;
    for (std::int64_t at = 0; at < args_.chain_size; at += kBlock) {
      const std::int64_t count = std::min<std::int64_t>(kBlock, args_.chain_size - at);
      body(at, count, terms);
      sum.add(terms, count);
    }
    return sum.total();
  }

  // The leaf's momentum, and its kinetic energy.
  double arrive() const {
    const A time = A(0.5) * signed_step();
    return 0.5 * sum([&](std::int64_t at, std::int64_t count, A* terms) {
             inverse_mass_.move_to(chain_ * args_.chain_size + at, count);
             for (std::int64_t k = 0; k < count; ++k) {
               momentum_[at + k] =
                   store<T>(leapfrog_kick<A>(load(momentum_[at + k]), load(grad_[at + k]), time));
               const A p = load(momentum_[at + k]);
               terms[k] = inverse_mass_[k] * p * p;
             }
           });
  }

  // Weighs the leaf; whether the subtree may grow on, or is whole.
  bool is_valid() {
    const double kinetic = arrive();
    const A potential = static_cast<const A*>(args_.energy)[chain_];
    const bool usable = all_finite(x_, args_.chain_size) && all_finite(grad_, args_.chain_size);
    const NutsLeafVerdict verdict =
        nuts_judge(weight(0), potential + kinetic, usable, place_.is_first, weight(2), draws_.takes,
                   args_.max_energy_error);
    weight(2) = verdict.subtree_log_weight;
    weight(3) += verdict.acceptance_rate;
    count(0) += 1;
    flag(2) = verdict.is_divergent;
    if (verdict.is_divergent) return false;
    if (verdict.takes) {
      copy(x_, plane(args_.drawn, 0));
      copy(grad_, plane(args_.drawn, 1));
      energy(0) = potential;
    }
    if (place_.begins_half && has_turned(first_leaf(place_.slot - 1), here())) return false;
    for (int k = 0; k < place_.num_ended; ++k) {
      if (has_turned(first_leaf(place_.slot - k), here())) return false;
      if (k > 0 && has_turned(leaf_before(place_.slot - k + 1), here())) return false;
    }
    if (!place_.is_last)
      keep(place_.num_ended == 0 ? first_leaf(place_.slot) : leaf_before(place_.next_slot));
    return true;
  }

  struct State {
    T* x;
    T* momentum;
  };
  State state(void* tensor, std::int64_t number) const {
    return {plane(tensor, number), plane(tensor, number + 1)};
  }
  State here() const { return {x_, momentum_}; }
  State first_leaf(int slot) const { return state(args_.checkpoints, 4 * slot); }
  State leaf_before(int slot) const { return state(args_.checkpoints, 4 * slot + 2); }

  void keep(State to) const {
    copy(x_, to.x);
    copy(momentum_, to.momentum);
  }

  // Whether the trajectory from one state to the other no longer grows longer at both its ends.
  bool has_turned(State first, State last) const {
    const A sign = is_ahead_ ? A(1) : A(-1);
    const auto growth = [&](const T* momentum) {
      return sum([&](std::int64_t at, std::int64_t count, A* terms) {
        for (std::int64_t k = 0; k < count; ++k)
          terms[k] = sign * (load(last.x[at + k]) - load(first.x[at + k])) * load(momentum[at + k]);
      });
    };
    return !(growth(first.momentum) > 0.0 && growth(last.momentum) > 0.0);
  }

  // The trajectory, of which this is the newest subtree's last leaf: as a whole, and from either
  // half to the other's nearest state, which of halves of one state is the same.
  bool trajectory_has_turned() const {
    const int near = is_ahead_ ? 3 : 0, far = 3 - near;
    return has_turned(state(args_.ends, far), here()) ||
           (place_.depth > 0 && (has_turned(state(args_.ends, far), first_leaf(0)) ||
                                 has_turned(state(args_.ends, near), here())));
  }

  // Adds the subtree to the trajectory; whether that is to be doubled once more.
  bool is_doubled_again() {
    if (draws_.merges < exp(weight(2) - weight(1))) {
      copy(plane(args_.drawn, 0), plane(args_.drawn, 2));
      copy(plane(args_.drawn, 1), plane(args_.drawn, 3));
      energy(1) = energy(0);
    }
    weight(1) = log_add_exp(weight(1), weight(2));
    count(1) += 1;
    const bool is_whole = place_.depth + 1 == args_.max_depth || trajectory_has_turned();
    const int end = is_ahead_ ? 3 : 0;
    keep(state(args_.ends, end));
    copy(grad_, plane(args_.ends, end + 2));
    if (is_whole) return false;
    flag(1) = draws_.is_ahead;
    return true;
  }

  // Half a kick and the drift to the next leaf, from here or from the trajectory's other end.
  void depart() const {
    const bool turns = flag(1) != is_ahead_;
    const int there = is_ahead_ ? 0 : 3;
    const State from = turns ? state(args_.ends, there) : here();
    const T* g = turns ? plane(args_.ends, there + 2) : grad_;
    const A time = signed_step();
    for (std::int64_t at = 0; at < args_.chain_size; at += kBlock) {
      const std::int64_t count = std::min<std::int64_t>(kBlock, args_.chain_size - at);
      inverse_mass_.move_to(chain_ * args_.chain_size + at, count);
      for (std::int64_t k = 0; k < count; ++k) {
        const A kicked =
            leapfrog_kick<A>(load(from.momentum[at + k]), load(g[at + k]), A(0.5) * time);
        momentum_[at + k] = store<T>(kicked);
        x_[at + k] =
            store<T>(leapfrog_drift<A>(load(from.x[at + k]), kicked, inverse_mass_[k], time));
      }
    }
  }

  const NutsLeaf& args_;
  const NutsPlace& place_;
  CoefficientBlock<A>& inverse_mass_;
  const std::int64_t chain_;
  const NutsDraws draws_;
  T* const x_;
  T* const momentum_;
  const T* const grad_;
  const bool is_ahead_;
  const A step_;
};

template <class T>
void nuts_leaf_range(const NutsLeaf& args, std::int64_t begin, std::int64_t end) {
  const NutsPlace place = nuts_place(args.leaf);
  CoefficientBlock<accumulate_t<T>> inverse_mass(args.inverse_mass, args.chain_size);
  for (std::int64_t chain = begin; chain < end; ++chain)
    if (args.flags[chain]) NutsChain<T>(args, place, inverse_mass, chain).grow();
}

}  // namespace GENCORE_LEVEL
}  // namespace gencore
