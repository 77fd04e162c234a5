"""Exchanges between replicas of a chain at different temperatures."""

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    check_coefficient,
    check_fake_devices,
    check_like,
    check_not_differentiated,
    check_state,
    check_written,
    index,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.random import key_like, reference_words

__all__ = ["replica_swap_"]

_OP = "replica_swap_"
_swap = kernel(torch.ops.gencore.replica_swap_.default)
_increment_version = torch._C._increment_version


def replica_swap_(
    x: Tensor,
    energy: Tensor,
    inverse_temperature: Tensor,
    parity: int,
    *,
    grad: Tensor | None = None,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_pair: int = 0,
) -> Tensor:
    r"""Exchange neighbouring replicas of tempered chains in place, in one pass over memory.

    Replica r of a chain has the density exp(−β_r E). The pairs (r, r + 1) with r ≡ parity mod 2
    change places with probability

    .. math:: \min\big(1, \exp((β_r - β_{r+1})(E_r - E_{r+1}))\big),

    which leaves the product of the densities invariant. Not differentiable.

    Args:
        x: states [R, N, ...] of R replicas of N chains; exchanged.
        energy: E at ``x``, [R, N], float32 or float64; exchanged with them.
        inverse_temperature: β ≥ 0, [R], in any order, usually falling from 1.
        parity: 0 or 1; alternated from call to call.
        grad: whatever else belongs to the states, like ``x``; exchanged with them.
        uniform: [R − 1, N] in (0, 1); row r decides the pairs (r, r + 1), which accept where it is
            below the probability. Drawn if ``None``.
        generator: where the uniforms' key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator. Pair
            (r, r + 1) of chain n takes (w + ½)/2³² for word w = ``first_pair`` + n(R − 1) + r of
            its stream.
        first_pair: (R − 1) times the number of chains before these, where they are a part of more.

    Returns:
        is_accepted, bool [R, N]: whether a replica was exchanged, set for both members of a pair.
        A pair in which an energy is not finite never is.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, or if autograd would have to
            differentiate it.

    References:
        Geyer, "Markov chain Monte Carlo maximum likelihood", 1991. Earl and Deem, "Parallel
        tempering: theory, applications, and new perspectives", 2005, eq. (3).

    Example:
        >>> import torch
        >>> from gencore.ops import replica_swap_
        >>> x, energy = torch.tensor([[[3.0]], [[0.0]]]), torch.tensor([[4.5], [0.0]])
        >>> beta = torch.tensor([1.0, 0.1])
        >>> replica_swap_(x, energy, beta, parity=0)  # the cold one gets the lower energy
        tensor([[True],
                [True]])
        >>> x.flatten(), energy.flatten()
        (tensor([0., 3.]), tensor([0.0000, 4.5000]))
    """
    _check_states(x, energy, grad)
    beta = _inverse_temperature(x, inverse_temperature)
    if parity not in (0, 1):
        raise ValueError(f"{_OP}: parity must be 0 or 1, got {parity!r}")
    first_pair = index(_OP, "first_pair", first_pair)
    if uniform is not None:
        uniform = _uniform(x, uniform)
    key = key_like(_OP, x, key, generator, needed=uniform is None)
    check_not_differentiated(_OP, x=x, energy=energy, grad=grad, uniform=uniform)
    is_accepted = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    if state.reference:
        with torch.no_grad():
            if uniform is None:
                assert key is not None
                uniform = _reference_uniform(x, key, first_pair)
            _reference(x, energy, grad, is_accepted, beta, uniform, int(parity))
        return is_accepted
    _swap(x, energy, grad, is_accepted, beta, uniform, key, int(parity), first_pair)
    if not torch.compiler.is_compiling():
        _increment_version((x, energy) if grad is None else (x, energy, grad))
    return is_accepted


def _check_states(x: Tensor, energy: Tensor, grad: Tensor | None) -> None:
    check_state(_OP, x)
    if x.dim() < 2:
        raise ValueError(
            f"{_OP}: x has shape {list(x.shape)}, expected replicas of chains, [R, N, ...]"
        )
    _check(x, energy, "energy", list(x.shape[:2]))
    if energy.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{_OP}: energy is {energy.dtype}, expected float32 or float64")
    if grad is None:
        check_written(_OP, x=x, energy=energy)
    else:
        check_like(_OP, x, grad, "grad")
        check_written(_OP, x=x, energy=energy, grad=grad)


def _check(x: Tensor, tensor: Tensor, name: str, shape: list[int]) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{_OP}: {name} must be a tensor, got {type(tensor).__name__}")
    if list(tensor.shape) != shape:
        raise ValueError(
            f"{_OP}: {name} has shape {list(tensor.shape)}, expected {shape} for x of shape "
            f"{list(x.shape)}"
        )
    if tensor.device != x.device:
        raise ValueError(f"{_OP}: {name} is on {tensor.device}, x on {x.device}")


def _inverse_temperature(x: Tensor, beta: Tensor) -> Tensor:
    _check(x, beta, "inverse_temperature", [x.shape[0]])
    check_coefficient(_OP, "inverse_temperature", beta, x, positive=False)
    # A copy: it may be a view of an energy, which is written to.
    return beta.detach().to(torch.float64, copy=True, memory_format=torch.contiguous_format)


def _uniform(x: Tensor, uniform: Tensor) -> Tensor:
    _check(x, uniform, "uniform", [max(x.shape[0] - 1, 0), x.shape[1]])
    if not uniform.is_floating_point():
        raise TypeError(f"{_OP}: uniform is {uniform.dtype}, expected a floating dtype")
    return uniform.detach().to(torch.float64, copy=True, memory_format=torch.contiguous_format)


def _reference_uniform(x: Tensor, key: Tensor, first_pair: int) -> Tensor:
    chains, pairs = x.shape[1], max(x.shape[0] - 1, 0)
    words = reference_words(key, first_pair, chains * pairs).view(chains, pairs)
    return (words.double().T + 0.5) * 2.0**-32


def _reference(
    x: Tensor,
    energy: Tensor,
    grad: Tensor | None,
    is_accepted: Tensor,
    beta: Tensor,
    uniform: Tensor,
    parity: int,
) -> None:
    """The exchange in pure PyTorch: every replica takes the row of its partner, or its own."""
    wide = energy.double()
    exponent = (beta[:-1] - beta[1:]).unsqueeze(1) * (wide[:-1] - wide[1:])
    swaps = (uniform < exponent.exp()) & wide[:-1].isfinite() & wide[1:].isfinite()
    swaps[1 - parity :: 2] = False
    up = swaps.long()
    moves = functional.pad(up, (0, 0, 0, 1)) - functional.pad(up, (0, 0, 1, 0))
    is_accepted |= moves != 0
    rows = torch.arange(len(beta), device=x.device).unsqueeze(1) + moves
    chains = torch.arange(x.shape[1], device=x.device)
    for tensor in (x, energy) if grad is None else (x, energy, grad):
        tensor.copy_(tensor[rows, chains])


@torch.library.register_fake("gencore::replica_swap_")
def _(x: Tensor, *rest: object) -> None:
    check_fake_devices(_OP, x, rest)
