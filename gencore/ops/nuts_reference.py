"""The tree of the No-U-Turn sampler, and the reference of the operator that grows a leaf of it."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.checks import check_fake_devices
from gencore.ops.leapfrog_reference import Coefficients, as_rows, rows, rows_like
from gencore.ops.random import reference_blocks

__all__ = ["FIRST_BLOCK", "LARGEST_DEPTH", "Leaf", "NutsTree", "reference_leaf"]

LARGEST_DEPTH = 20

FIRST_BLOCK = 2**59
"""Leaf k of chain n takes the block FIRST_BLOCK + n 2^LARGEST_DEPTH + k of its key's stream."""


class NutsTree(NamedTuple):
    """The trajectories that a transition has grown so far, one a chain.

    The chains double their trajectories together, so that a leaf's number says where in its subtree
    it is. Those that have stopped stay as they are.
    """

    position: Tensor
    """[N, ...]: the next leaf's, where the energy and its gradient are wanted; of a chain that has
    stopped, the state that it moves to."""
    momentum: Tensor
    """[N, ...]: on the way to that leaf, half a kick short of it."""
    ends: Tensor
    """[2, 3, N, ...]: position, momentum and gradient of the trajectory's first and last state."""
    checkpoints: Tensor
    """[max_tree_depth - 1, 4, N, ...]: position and momentum of the first leaves of those balanced
    subtrees that are still growing, and of the leaves before these."""
    drawn: Tensor
    """[2, 2, N, ...]: position and gradient of the states drawn from the newest subtree, and from
    the trajectory without it."""
    energies: Tensor
    """[2, N]: their energies."""
    weights: Tensor
    """[4, N], float64: the energy H that the transition began with; the logarithms of the sum of
    e^(-H) over the trajectory and over the subtree; the sum of the acceptance rates."""
    counts: Tensor
    """[2, N], int64: the leaves, and how often the trajectory was doubled."""
    flags: Tensor
    """[3, N], bool: whether a chain is running, grows ahead, and has diverged."""

    @property
    def is_running(self) -> Tensor:
        """[N], bool."""
        return self.flags[0]

    @property
    def is_divergent(self) -> Tensor:
        """[N], bool."""
        return self.flags[2]


class Leaf(NamedTuple):
    """Where in the tree leaf k = 0, 1, … is: number k + 1 − 2ᵈ of the subtree of 2ᵈ leaves."""

    number: int

    @property
    def depth(self) -> int:
        """d."""
        return (self.number + 1).bit_length() - 1

    @property
    def place(self) -> int:
        """The number in the subtree."""
        return self.number + 1 - 2**self.depth

    @property
    def is_last(self) -> bool:
        return self.place == 2**self.depth - 1

    @property
    def slot(self) -> int:
        """A checkpoint's number. A leaf of even place is stored as that checkpoint. For a leaf of
        odd place it is the latest checkpoint that begins a subtree which ends here."""
        return (self.place >> 1).bit_count()

    @property
    def begins_half(self) -> bool:
        """Whether it is the first leaf of the second half of a subtree. The first leaf of that
        subtree is checkpoint ``slot - 1``."""
        return self.place % 2 == 0 and self.place > 0

    @property
    def num_ended(self) -> int:
        """How many balanced subtrees of two leaves and more end here."""
        return (~self.place & (self.place + 1)).bit_length() - 1


def reference_leaf(
    tree: NutsTree,
    energy: Tensor,
    grad: Tensor,
    key: Tensor,
    coefficients: Coefficients,
    leaf: Leaf,
    first_chain: int,
    max_energy_error: float,
) -> None:
    """``nuts_leaf_`` in pure PyTorch."""
    step, inverse_mass = as_rows(coefficients)
    uniform, is_ahead = _draws(key, leaf, first_chain, len(energy))
    is_running, was_ahead, _ = tree.flags.clone()
    x, g = rows(tree.position), rows(grad)
    sign = _sign(was_ahead, x)
    momentum = rows_like(rows(tree.momentum) - 0.5 * sign * step * g, grad)
    p = rows(momentum)
    _write(tree.momentum, momentum, is_running)

    # The leaf's weight e^(H₀ − H), and its place among the candidates of the subtree.
    kinetic = 0.5 * (inverse_mass * p.square()).sum(1)
    start = tree.weights[0]
    total = energy.double() + kinetic.double()
    usable = x.isfinite().all(1) & g.isfinite().all(1) & energy.isfinite() & kinetic.isfinite()
    error = torch.where(usable, total - start, torch.inf)
    log_weight = torch.where(start.isfinite(), start, 0.0) - total
    is_divergent = ~usable | (error > max_energy_error)
    tree.weights[3] += torch.where(is_running, (-error).clamp(max=0.0).exp(), 0.0)
    tree.counts[0] += is_running
    tree.flags[2] |= is_running & is_divergent
    grows = is_running & ~is_divergent
    subtree = log_weight if leaf.place == 0 else torch.logaddexp(tree.weights[2], log_weight)
    tree.weights[2] = torch.where(grows, subtree, tree.weights[2])
    takes = grows & (uniform[0] < (log_weight - subtree).exp())
    _write(tree.drawn[0, 0], tree.position, takes)
    _write(tree.drawn[0, 1], grad, takes)
    _write(tree.energies[0], energy, takes)

    # Subtrees that end here must not have turned, nor from one half to the other's nearest leaf.
    firsts, before = tree.checkpoints[:, :2], tree.checkpoints[:, 2:]
    here = torch.stack([tree.position, momentum])
    if leaf.begins_half:
        grows = grows & ~_turned(firsts[leaf.slot - 1], here, sign)
    for slot in range(leaf.slot, leaf.slot - leaf.num_ended, -1):
        grows = grows & ~_turned(firsts[slot], here, sign)
        if slot < leaf.slot:
            grows = grows & ~_turned(before[slot + 1], here, sign)
    if not leaf.is_last:
        is_even = leaf.place % 2 == 0
        kept = firsts[leaf.slot] if is_even else before[Leaf(leaf.number + 1).slot]
        _write(kept[0], tree.position, grows)
        _write(kept[1], momentum, grows)

    if leaf.is_last:
        merges = grows & (uniform[1].log() < tree.weights[2] - tree.weights[1])
        _write(tree.drawn[1, 0], tree.drawn[0, 0], merges)
        _write(tree.drawn[1, 1], tree.drawn[0, 1], merges)
        _write(tree.energies[1], tree.energies[0], merges)
        both = torch.logaddexp(tree.weights[1], tree.weights[2])
        tree.weights[1] = torch.where(grows, both, tree.weights[1])
        tree.counts[1] += grows
        ahead = was_ahead.view(-1, *(1,) * (grad.dim() - 1))
        near, other = (torch.where(ahead, tree.ends[k], tree.ends[1 - k]) for k in (1, 0))
        for what, values in enumerate((tree.position, momentum, grad)):
            _write(tree.ends[1, what], values, grows & was_ahead)
            _write(tree.ends[0, what], values, grows & ~was_ahead)
        grows = grows & ~_turned(other, here, sign)
        if leaf.depth > 0:
            grows = grows & ~(_turned(other, firsts[0], sign) | _turned(near, here, sign))
        if leaf.depth == len(tree.checkpoints):
            grows = torch.zeros_like(grows)
        tree.flags[1] = torch.where(grows, is_ahead, was_ahead)
        turns = tree.flags[1] != was_ahead
        x = torch.where(turns.unsqueeze(1), rows(other[0]), x)
        p = torch.where(turns.unsqueeze(1), rows(other[1]), p)
        g = torch.where(turns.unsqueeze(1), rows(other[2]), g)

    # Half a kick and the drift to the next leaf; or the rest, in the state that was drawn.
    signed = _sign(tree.flags[1], x) * step
    kicked = p - 0.5 * signed * g
    _write(tree.momentum, rows_like(kicked, grad), grows)
    _write(tree.position, rows_like(x + signed * inverse_mass * kicked, grad), grows)
    _write(tree.position, tree.drawn[1, 0], is_running & ~grows)
    tree.flags[0] = grows


def _draws(key: Tensor, leaf: Leaf, first_chain: int, num: int) -> tuple[Tensor, Tensor]:
    """Two uniforms [2, N] and a direction [N] for each chain."""
    chains = first_chain + torch.arange(num, device=key.device)
    words = reference_blocks(key, FIRST_BLOCK + chains * 2**LARGEST_DEPTH + leaf.number)
    return (words[:, :2].double().T + 0.5) * 2.0**-32, words[:, 2] >= 2**31


def _sign(is_ahead: Tensor, like: Tensor) -> Tensor:
    """[N, 1], in the dtype of `like`."""
    return (2 * is_ahead.to(like.dtype) - 1).unsqueeze(1)


def _turned(start: Tensor, end: Tensor, sign: Tensor) -> Tensor:
    """Whether a trajectory from a state to another no longer grows longer at both ends."""
    way = sign * (rows(end[0]) - rows(start[0]))
    at_start, at_end = ((way * rows(p)).double().sum(1) for p in (start[1], end[1]))
    return ~((at_start > 0) & (at_end > 0))


def _write(target: Tensor, source: Tensor, where: Tensor) -> None:
    """Overwrite the rows of a tensor."""
    target.copy_(torch.where(where.view(-1, *(1,) * (target.dim() - 1)), source, target))


@torch.library.register_fake("gencore::nuts_leaf_")
def _(position: Tensor, *rest: object) -> None:
    check_fake_devices("nuts_leaf_", position, rest)
