"""The Metropolis decision of Hamiltonian Monte Carlo and MALA, fused with its consequence."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import (
    accumulation_dtype,
    check_chains,
    check_fake_devices,
    check_like,
    check_per_chain,
    check_state,
    check_written,
    clip_bound,
    index,
)
from gencore.ops._support.kernel import kernel
from gencore.ops.random import key_like, reference_words

__all__ = ["FIRST_DECISION", "MetropolisStep", "metropolis_accept", "metropolis_accept_"]

FIRST_DECISION = 2**61
"""A transition draws from one key: its momenta are elements 0, 1, … of the stream, its decisions
those from here on, which no batch of chains is large enough to reach."""

_ops = torch.ops.gencore
_accept = kernel(_ops.metropolis_accept.default)
_accept_inplace = kernel(_ops.metropolis_accept_.default)
_increment_version = torch._C._increment_version  # torch.autograd.graph's, less its isinstance


class MetropolisStep(NamedTuple):
    """The chains after a Metropolis decision, and what it saw."""

    position: Tensor
    """[N, ...]: the proposal where it was accepted, else the old state."""
    grad: Tensor
    """[N, ...]: the energy's gradient there."""
    energy: Tensor
    """[N]: the energy there."""
    is_accepted: Tensor
    """[N], bool."""
    acceptance_rate: Tensor
    """[N]: the probability with which the proposal was accepted."""
    is_divergent: Tensor
    """[N], bool: whether the proposal was not finite, or its energy error above the bound."""


class _Operands(NamedTuple):
    """The arguments of the two schemas, in their order."""

    x: Tensor
    grad: Tensor
    energy: Tensor
    proposal: Tensor
    proposal_grad: Tensor
    proposal_energy: Tensor
    kinetic: Tensor
    proposal_kinetic: Tensor
    uniform: Tensor | None
    key: Tensor | None
    first_chain: int
    max_energy_error: float


def metropolis_accept(
    x: Tensor,
    grad: Tensor,
    energy: Tensor,
    proposal: Tensor,
    proposal_grad: Tensor,
    proposal_energy: Tensor,
    kinetic: Tensor,
    proposal_kinetic: Tensor,
    *,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_chain: int = 0,
    max_energy_error: float = 1000.0,
) -> MetropolisStep:
    r"""Accept or reject the proposal of each chain by its energy error, in one pass over memory.

    .. math:: \Delta H = (E' + K') - (E + K), \qquad
              \text{accept where } u < \min(1, e^{-\Delta H}), \quad u \sim U(0, 1)

    A proposal with a position, gradient, energy or kinetic energy that is not finite is rejected
    and flagged as divergent, its acceptance rate 0; nothing of it is stored. An energy of +∞ at
    ``x`` accepts every finite proposal, one of NaN none. The error and the decision are computed in
    float64. Not differentiable.

    Args:
        x: states [N, ...], float64, float32, bfloat16 or float16.
        grad: gradient of the energy at ``x``; same shape, dtype and device.
        energy: E [N], in float32, or float64 for float64, as are all energies.
        proposal: proposed states, like ``x``.
        proposal_grad: gradient of the energy at ``proposal``, like ``x``.
        proposal_energy: E' [N].
        kinetic: K [N], of the trajectory's first momentum (:func:`leapfrog_start`).
        proposal_kinetic: K' [N], of its last (:func:`leapfrog_end`).
        uniform: u [N], of the dtype of ``energy``; drawn if ``None``.
        generator: where the key of u is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator: u of chain n is
            (w + ½)/2³² of word w = ``first_chain`` + n of the key's stream (:func:`philox_words`).
        first_chain: index of the first chain in the whole batch, when ``x`` is a part of it.
        max_energy_error: an energy error ΔH above it is flagged as divergent; positive, or
            infinite.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit, or where autograd would have to
            differentiate.

    References:
        Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011,
        section 5.3.2.

    Example:
        >>> import torch
        >>> from gencore.ops import metropolis_accept
        >>> x, proposal, zero = torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(2)
        >>> step = metropolis_accept(
        ...     x, x, zero, proposal, proposal, torch.tensor([1.0, torch.nan]), zero, zero,
        ...     uniform=torch.tensor([0.3, 0.3]),
        ... )
        >>> step.position.flatten().tolist(), step.is_divergent.tolist()
        ([1.0, 0.0], [False, True])
    """
    operands = _operands(
        "metropolis_accept", x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic,
        proposal_kinetic, uniform, generator, key, first_chain, max_energy_error,
    )  # fmt: skip
    if state.reference:
        return _reference(operands)
    return MetropolisStep(*_accept(*operands))


def metropolis_accept_(
    x: Tensor,
    grad: Tensor,
    energy: Tensor,
    proposal: Tensor,
    proposal_grad: Tensor,
    proposal_energy: Tensor,
    kinetic: Tensor,
    proposal_kinetic: Tensor,
    *,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_chain: int = 0,
    max_energy_error: float = 1000.0,
) -> MetropolisStep:
    """:func:`metropolis_accept` in place: ``x``, ``grad`` and ``energy`` are updated.

    A chain that rejects is not written to. Arguments and errors are those of
    :func:`metropolis_accept`; besides, a ``ValueError`` where two of these three share memory.

    Returns:
        The step, with ``x``, ``grad`` and ``energy`` themselves.

    Example:
        >>> import torch
        >>> from gencore.ops import metropolis_accept_
        >>> x, grad, energy = torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1)
        >>> one, kinetic = torch.ones(1, 1), torch.zeros(1)
        >>> step = metropolis_accept_(x, grad, energy, one, one, energy - 1, kinetic, kinetic)
        >>> x, energy
        (tensor([[1.]]), tensor([-1.]))
    """
    op = "metropolis_accept_"
    operands = _operands(
        op, x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic,
        proposal_kinetic, uniform, generator, key, first_chain, max_energy_error,
    )  # fmt: skip
    check_written(op, x=x, grad=grad, energy=energy)
    written = (x, grad, energy)
    if state.reference:
        step = _reference(operands)
        with torch.no_grad():
            for tensor, values in zip(written, step, strict=False):
                tensor.copy_(values)
        return MetropolisStep(*written, *step[3:])
    verdict = _accept_inplace(*operands)
    if not torch.compiler.is_compiling():
        _increment_version(written)
    return MetropolisStep(*written, *verdict)


def _operands(
    op: str,
    x: Tensor,
    grad: Tensor,
    energy: Tensor,
    proposal: Tensor,
    proposal_grad: Tensor,
    proposal_energy: Tensor,
    kinetic: Tensor,
    proposal_kinetic: Tensor,
    uniform: Tensor | None,
    generator: torch.Generator | None,
    key: Tensor | None,
    first_chain: int,
    max_energy_error: float,
) -> _Operands:
    """Check the arguments and bring them to the schemas' form, with the uniforms' key drawn."""
    check_state(op, x)
    check_chains(op, x)
    states = {"grad": grad, "proposal": proposal, "proposal_grad": proposal_grad}
    numbers = {
        "energy": energy,
        "proposal_energy": proposal_energy,
        "kinetic": kinetic,
        "proposal_kinetic": proposal_kinetic,
        **({} if uniform is None else {"uniform": uniform}),
    }
    for name, tensor in states.items():
        check_like(op, x, tensor, name)
    for name, tensor in numbers.items():
        check_per_chain(op, x, tensor, name)
    if torch.is_grad_enabled():
        for name, tensor in {"x": x, **states, **numbers}.items():
            if tensor.requires_grad:
                raise ValueError(
                    f"{op}: is not differentiable, but {name} requires grad; call it under "
                    "torch.no_grad(), or detach it"
                )
    return _Operands(
        x, grad, energy, proposal, proposal_grad, proposal_energy, kinetic, proposal_kinetic,
        uniform,
        key_like(op, x, key, generator, needed=uniform is None),
        index(op, "first_chain", first_chain),
        clip_bound(op, "max_energy_error", max_energy_error),
    )  # fmt: skip


def _reference(s: _Operands) -> MetropolisStep:
    """The decision in pure PyTorch."""
    uniform = s.uniform
    if uniform is None:
        assert s.key is not None
        words = reference_words(s.key, s.first_chain, s.x.shape[0])
        uniform = (words.double() + 0.5) / 2.0**32
    error = s.proposal_energy.double() - s.energy.double()
    error = error + (s.proposal_kinetic.double() - s.kinetic.double())
    usable = s.proposal_energy.isfinite() & s.proposal_kinetic.isfinite() & ~error.isnan()
    for tensor in (s.proposal, s.proposal_grad):
        chains = tensor.reshape(tensor.shape[0], math.prod(tensor.shape[1:]))
        usable = usable & chains.isfinite().all(1)
    rate = torch.where(usable, (-error).clamp(max=0.0).exp(), 0.0)
    accepted = usable & (uniform.double() < rate)

    def select(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(accepted.view(-1, *(1,) * (old.dim() - 1)), new, old)

    return MetropolisStep(
        select(s.proposal, s.x),
        select(s.proposal_grad, s.grad),
        select(s.proposal_energy, s.energy),
        accepted,
        rate.to(accumulation_dtype(s.x)),
        ~usable | (error > s.max_energy_error),
    )


@torch.library.register_fake("gencore::metropolis_accept")
def _(x: Tensor, grad: Tensor, energy: Tensor, *_: Any) -> tuple[Tensor, ...]:
    results = torch.empty_like(x), torch.empty_like(grad), torch.empty_like(energy)
    return (*results, *_fake_verdict(x))


@torch.library.register_fake("gencore::metropolis_accept_")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    check_fake_devices("metropolis_accept_", x, rest)
    return _fake_verdict(x)


def _fake_verdict(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    chains = x.shape[0]
    return (
        x.new_empty(chains, dtype=torch.bool),
        x.new_empty(chains, dtype=accumulation_dtype(x)),
        x.new_empty(chains, dtype=torch.bool),
    )
