"""The No-U-Turn sampler's tree: how it starts, and a leaf for every chain in one fused operator."""

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_like,
    check_not_differentiated,
    check_per_chain,
    check_written,
    clip_bound,
    index,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.leapfrog import leapfrog_coefficients, leapfrog_start
from gencore.ops.leapfrog_reference import as_rows, rows_like
from gencore.ops.nuts_reference import LARGEST_DEPTH, Leaf, NutsTree, reference_leaf
from gencore.ops.random import key_like, philox_normal

__all__ = ["NutsTree", "nuts_leaf_", "nuts_tree"]

_OP = "nuts_leaf_"
_leaf = kernel(torch.ops.gencore.nuts_leaf_.default)
_increment_version = torch._C._increment_version  # torch.autograd.graph's, less its isinstance
_MOST_CHAINS = 2**38  # whose random numbers a stream has room for


def nuts_tree(
    x: Tensor,
    energy: Tensor,
    grad: Tensor,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
    *,
    max_tree_depth: int = 10,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> NutsTree:
    r"""Trajectories of one state each, with fresh momenta, on the way to their first leaves.

    .. math:: p = \varepsilon / \sqrt{m^{-1}}, \qquad \varepsilon \sim N(0, I), \qquad
              H_0 = E(x) + \tfrac12 \textstyle\sum m^{-1} p^2

    The momenta are those of :func:`leapfrog_start` with the same key.

    Args:
        x: states [N, ...], float64, float32, bfloat16 or float16.
        energy: E(x) [N], in float32, or float64 for float64. +∞ is allowed: such a chain moves to
            any state of a finite energy that its trajectory meets.
        grad: gradient of the energy at ``x``; same shape, dtype and device.
        step_size: ε ≥ 0 of the leapfrog steps; a number or one entry a chain: [N].
        inverse_mass: m⁻¹ > 0, as in :func:`leapfrog_start`.
        max_tree_depth: how often a trajectory is doubled at most, 1 to 20.
        generator: where the momenta's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, or where autograd would have to
            differentiate.

    Example:
        >>> import torch
        >>> from gencore.ops import nuts_tree
        >>> x = torch.zeros(100, 2)
        >>> tree = nuts_tree(x, x.sum(1), x, step_size=0.1, max_tree_depth=5)
        >>> tree.position.shape, tree.checkpoints.shape
        (torch.Size([100, 2]), torch.Size([4, 4, 100, 2]))
    """
    op = "nuts_tree"
    if not 1 <= index(op, "max_tree_depth", max_tree_depth) <= LARGEST_DEPTH:
        raise ValueError(
            f"{op}: max_tree_depth is {max_tree_depth}; expected 1 to {LARGEST_DEPTH} doublings"
        )
    first_element = index(op, "first_element", first_element)
    key = key_like(op, x, key, generator, needed=True)
    assert key is not None
    check_not_differentiated(op, x=x, energy=energy, grad=grad)
    wide = accumulation_dtype(x)
    noise = philox_normal(x.shape, key, first_element=first_element, dtype=x.dtype)
    position, momentum, kinetic = leapfrog_start(x, grad, step_size, inverse_mass, noise=noise)
    check_per_chain(op, x, energy, "energy")
    _, masses = as_rows(leapfrog_coefficients(op, x, step_size, inverse_mass))
    fresh = (
        rows_like(noise.to(wide).reshape(x.shape[0], -1) / masses**0.5, x) if x.numel() else noise
    )
    chains, none = x.shape[0], x.new_zeros(x.shape[0], dtype=torch.float64)
    outside = torch.where(energy.isfinite(), 0.0, -torch.inf).double()
    flag = torch.ones_like(energy, dtype=torch.bool)
    return NutsTree(
        position.contiguous(),
        momentum.contiguous(),
        torch.stack([x, fresh, grad]).expand(2, 3, *x.shape).contiguous(),
        x.new_empty(max_tree_depth - 1, 4, *x.shape),
        torch.stack([x, grad]).expand(2, 2, *x.shape).contiguous(),
        energy.expand(2, chains).contiguous(),
        torch.stack([energy.double() + kinetic.double(), outside, none, none]),
        torch.zeros(2, chains, dtype=torch.int64, device=x.device),
        # The first leaf is ahead: to momenta that are symmetric about 0, that is either direction.
        torch.stack([flag, flag, ~flag]),
    )


def nuts_leaf_(
    tree: NutsTree,
    energy: Tensor,
    grad: Tensor,
    leaf: int,
    step_size: float | Tensor,
    inverse_mass: float | Tensor = 1.0,
    *,
    key: Tensor,
    first_chain: int = 0,
    max_energy_error: float = 1000.0,
) -> None:
    r"""Grow leaf number ``leaf`` of every running chain's tree, in one pass over memory.

    The half kick that ends the leaf's leapfrog step gives its momentum and, with the weight
    w = e^(H₀ − H), each of what follows.

    * It replaces the state drawn from its subtree with probability w/Σw, the sum over the subtree
      up to it (multinomial sampling).
    * Every balanced subtree that it ends is tested: it has turned unless both

    .. math:: (x^+ - x^-) \cdot p^- > 0, \qquad (x^+ - x^-) \cdot p^+ > 0

      for its first and last leaf, and likewise for its first leaf and the first of its second half,
      and for the last of its first half and its last. Without these two a whole period passes whose
      halves have not turned yet. The first of them is tested when the second half begins.

    * After the subtree's last leaf the state drawn from it replaces that of the trajectory with
      probability min(1, Σ_new w/Σ_old w) (biased progressive sampling), the trajectory grows by the
      subtree, is tested likewise, and is doubled again in a direction drawn anew.
    * Then comes the half kick and the drift to the next leaf.

    A chain stops when its trajectory has turned, or the newest subtree, which is then left out, or
    when the tree has its full depth. It also stops, as divergent, at a leaf that is not finite or
    whose H exceeds H₀ by more than ``max_energy_error``, whose state is never drawn. Not
    differentiable.

    Args:
        tree: from :func:`nuts_tree`; updated.
        energy: E [N] at ``tree.position``, in the dtype of ``tree.energies``.
        grad: its gradient there, like ``tree.position``.
        leaf: 0, 1, … from call to call.
        step_size: ε, as given to :func:`nuts_tree`.
        inverse_mass: m⁻¹, as given to :func:`nuts_tree`.
        key: int64 ``[seed, offset]``, that of :func:`nuts_tree`. Leaf k of chain n takes its two
            uniforms and its direction from the words of block 2⁵⁹ + 2²⁰n + k of the stream.
        first_chain: index of the first chain in the whole batch, when these are a part of it.
        max_energy_error: positive, or infinite.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, or where autograd would have to
            differentiate.

    References:
        Hoffman and Gelman, "The No-U-Turn sampler", 2014. Betancourt, "A conceptual introduction to
        Hamiltonian Monte Carlo", 2017, A.3 and A.4: with a constant mass his ρ = ∫p dt is
        m (x⁺ − x⁻), which needs no sum. Stan, release 2.21: the tests of the halves. Phan, Pradhan
        and Jankowiak, "Composable effects for flexible and accelerated probabilistic programming in
        NumPyro", 2019, algorithm 2: the leaves to keep, by the bits of a leaf's number.

    Example:
        >>> import torch
        >>> from gencore.ops import nuts_leaf_, nuts_tree
        >>> x, key = torch.zeros(1, 1), torch.tensor([0, 0])
        >>> tree = nuts_tree(x, x.sum(1), x, step_size=0.5, key=key)
        >>> for leaf in range(7):  # E = x²/2: the third subtree turns
        ...     x = tree.position
        ...     nuts_leaf_(tree, 0.5 * x.square().sum(1), x.clone(), leaf, 0.5, key=key)
        >>> tree.flags[0].item(), tree.counts.flatten().tolist()
        (False, [6, 2])
    """
    x, place = tree.position, Leaf(index(_OP, "leaf", leaf))
    coefficients = leapfrog_coefficients(_OP, x, step_size, inverse_mass)
    first_chain = index(_OP, "first_chain", first_chain)
    bound = clip_bound(_OP, "max_energy_error", max_energy_error)
    check_not_differentiated(_OP, energy=energy, grad=grad)
    checked_key = key_like(_OP, x, key, None, needed=True)
    assert checked_key is not None
    if state.reference or (not torch.compiler.is_compiling() and any(map(Tensor.is_neg, tree))):
        _check(tree, energy, grad, place, first_chain)
    if state.reference:
        with torch.no_grad():
            reference_leaf(tree, energy, grad, checked_key, coefficients, place, first_chain, bound)
        return
    try:
        _leaf(*tree, energy, grad, checked_key, *coefficients, place.number, first_chain, bound)
    except (RuntimeError, TypeError):  # the kernel's checks come first: they cost less than these
        _check(tree, energy, grad, place, first_chain)
        raise
    if not torch.compiler.is_compiling():
        _increment_version(tuple(tree))


def _check(tree: NutsTree, energy: Tensor, grad: Tensor, leaf: Leaf, first_chain: int) -> None:
    """Raise for what the kernel refuses, in words that help."""
    x = tree.position
    chains, wide = x.shape[0], accumulation_dtype(x)
    expected = {
        "position": (x.shape, x.dtype),
        "momentum": (x.shape, x.dtype),
        "ends": ((2, 3, *x.shape), x.dtype),
        "checkpoints": ((len(tree.checkpoints), 4, *x.shape), x.dtype),
        "drawn": ((2, 2, *x.shape), x.dtype),
        "energies": ((2, chains), wide),
        "weights": ((4, chains), torch.float64),
        "counts": ((2, chains), torch.int64),
        "flags": ((3, chains), torch.bool),
    }
    for name, (shape, dtype) in expected.items():
        tensor: Tensor = getattr(tree, name)
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device != x.device:
            raise ValueError(
                f"{_OP}: tree.{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}; "
                f"expected {dtype} {list(shape)} on {x.device}, as nuts_tree makes it"
            )
        if not tensor.is_contiguous():
            raise ValueError(f"{_OP}: tree.{name} is not contiguous, as nuts_tree makes it")
    check_written(_OP, **{f"tree.{name}": tensor for name, tensor in tree._asdict().items()})
    check_per_chain(_OP, x, energy, "energy", "tree.position")
    check_like(_OP, x, grad, "grad", "tree.position")
    if leaf.depth > len(tree.checkpoints):
        raise ValueError(
            f"{_OP}: leaf is {leaf.number}, but the tree has "
            f"{2 ** (len(tree.checkpoints) + 1) - 1} leaves"
        )
    if first_chain + chains > _MOST_CHAINS:
        raise ValueError(f"{_OP}: first_chain is {first_chain}; expected it to be below 2**38")
