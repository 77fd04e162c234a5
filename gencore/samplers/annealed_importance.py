"""Annealed importance sampling, forward and reverse: estimates and bounds of log Z."""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.nn.held_norms import held_norms
from gencore.ops import philox_normal, random_key, split_key
from gencore.ops._support.checks import check_count, finite, shape
from gencore.ops.random import Stream, stream_key
from gencore.samplers.chains import check_positions
from gencore.samplers.energy import Energy, check_energies, energies

__all__ = [
    "AnnealedImportance",
    "AnnealedImportanceResult",
    "GaussianBase",
    "Kernel",
    "annealing_schedule",
]


class Transition(Protocol):
    """What a sampler of `gencore.samplers` offers: chains, and a step that keeps its density."""

    def init(self, x: Tensor) -> Any: ...

    def step(
        self, state: Any, *, key: Tensor | None = None, first_element: int = 0
    ) -> tuple[Any, Any]: ...


Kernel = Callable[[Energy], Transition]
"""Makes the transition that leaves exp(-energy) invariant, like `partial(MALA, step_size=1)`."""


class Base(Protocol):
    """A normalised density that can be sampled."""

    def sample(self, num: int, *, key: Tensor, first: int = 0) -> Tensor: ...

    def log_prob(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class GaussianBase:
    """N(mean, std²I) of rows of a shape: a density that can be sampled and is normalised.

    Args:
        shape: shape of a row.
        std: standard deviation.
        mean: a number, or a tensor of that shape.
        dtype: dtype of the noise, and so of the samples.

    Example:
        >>> GaussianBase((2,)).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    shape: Sequence[int]
    std: float = 1.0
    mean: float | Tensor = 0.0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        shape("GaussianBase", self.shape)
        if not finite("GaussianBase", "std", self.std) > 0:
            raise ValueError(f"GaussianBase: std is {self.std}; expected a positive number")
        mean = torch.as_tensor(self.mean)
        if mean.dim() > 0 and mean.shape != torch.Size(self.shape):
            raise ValueError(
                f"GaussianBase: mean has shape {list(mean.shape)}; expected a number or the shape "
                f"of a row, {list(self.shape)}"
            )

    def sample(self, num: int, key: Tensor, first: int = 0) -> Tensor:
        """`num` rows, after `first` rows of other processes."""
        size = (num, *self.shape)
        first_element = first * math.prod(self.shape)
        noise = philox_normal(
            size, stream_key(key, "base"), first_element=first_element, dtype=self.dtype
        )
        return self.mean + self.std * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(xₙ; mean, std²I), [N]."""
        if x.shape[1:] != torch.Size(self.shape):
            raise ValueError(
                f"GaussianBase.log_prob: x has shape {list(x.shape)}; expected rows of shape "
                f"{list(self.shape)}"
            )
        squares = ((x - self.mean) / self.std).square().flatten(1).sum(1)
        constant = math.log(2 * math.pi * self.std**2)
        return -0.5 * (squares + math.prod(self.shape) * constant)


class AnnealedImportanceResult(NamedTuple):
    """What the chains of one run say about log Z."""

    log_weights: Tensor
    """[N], float64: log w. E[w] = Z in a forward run, E[1/w] = 1/Z in a reverse one."""
    log_z: float
    """log mean w (forward), on average too low, or -log mean 1/w (reverse), on average too high."""
    standard_error: float
    """Of `log_z`, to first order; it says nothing where a few chains carry all the weight, and is
    NaN for a single one."""
    effective_sample_size: float
    """(Σw)²/Σw², from 1 to N (with 1/w for a reverse run)."""
    acceptance_rate: Tensor
    """[T]: mean over the chains, for every β after the first."""
    samples: Tensor
    """[N, ...]: where the chains ended."""


@dataclass(frozen=True)
class AnnealedImportance:
    """The partition function Z = ∫exp(−E) from chains that go from a known density to exp(−E).

    Along 0 = β₀ < β₁ < … < β_T = 1 the chains meet the densities fₜ = exp(−Eₜ),

        Eₜ(x) = (1 − βₜ)E₀(x) + βₜE(x),   E₀ = −log p₀  of the normalised base p₀.

    Forward, a chain starts from p₀, and its weight w collects fₜ(x)/fₜ₋₁(x) before the transition
    that keeps fₜ; then E[w] = Z and, by Jensen's inequality, the expected log-estimate is a lower
    bound of log Z. Reverse, from exact samples of exp(−E)/Z through the same transitions in
    opposite order, E[1/w] = 1/Z and the estimate is an upper bound. Together they enclose log Z;
    their gap is what the schedule and the transitions leave to be wished for.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        base: p₀, with `sample(num, key=..., first=...)` and `log_prob(x)`: a `GaussianBase`, or a
            `gencore.models.Flow`.
        betas: β₀ = 0 to β_T = 1, increasing: from `annealing_schedule`.
        kernel: makes the transition of an energy. It has to leave the energy's density exactly
            invariant, as Metropolis-adjusted ones do and `Langevin` does not; the reverse run needs
            it to be reversible as well (MALA and HMC are).
        transitions: number of them at each β.

    Raises:
        ValueError: for a schedule that does not increase from 0 to 1, or no transitions.

    Example:
        >>> from functools import partial
        >>> from gencore.samplers import MALA
        >>> sampler = AnnealedImportance(  # Z = 2π/4
        ...     lambda x: 2 * x.square().sum(1),
        ...     GaussianBase((2,)),
        ...     annealing_schedule("linear", 50),
        ...     partial(MALA, step_size=0.1),
        ... )
        >>> result = sampler.run(500, key=torch.tensor([0, 0]))
        >>> abs(result.log_z - math.log(2 * math.pi / 4)) < 4 * result.standard_error
        True

    References:
        Neal, "Annealed importance sampling", 2001; Grosse, Ghahramani and Adams, "Sandwiching the
        marginal likelihood using bidirectional Monte Carlo", 2015.
    """

    energy: Energy
    base: Base
    betas: Tensor
    kernel: Kernel
    _: KW_ONLY
    transitions: int = 1

    def __post_init__(self) -> None:
        betas = self.betas
        if not (
            isinstance(betas, Tensor)
            and betas.dim() == 1
            and len(betas) > 1
            and betas[0] == 0
            and betas[-1] == 1
            and bool((betas.diff() > 0).all())
        ):
            raise ValueError(
                f"AnnealedImportance: betas are {betas}; expected a tensor of numbers that "
                "increase from 0 to 1"
            )
        check_count("AnnealedImportance", "transitions", self.transitions, least=1)
        has_both = hasattr(self.base, "sample") and hasattr(self.base, "log_prob")
        if not has_both or isinstance(self.base, torch.distributions.Distribution):
            raise TypeError(
                f"AnnealedImportance: base is a {type(self.base).__name__}; expected a "
                "GaussianBase, a flow, or another density with sample(num, key=..., first=...) and "
                "log_prob(x)"
            )
        if not callable(self.kernel):
            raise TypeError(
                f"AnnealedImportance: kernel is a {type(self.kernel).__name__}; expected a "
                "function that makes the transition of an energy, like partial(MALA, step_size=1)"
            )

    def run(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> AnnealedImportanceResult:
        """Forward, from the base to the energy: a stochastic lower bound of log Z.

        Args:
            num: number of chains N.
            generator: draws the key where none is given.
            key: int64 [seed, offset], on the device of the chains; it fixes the starts and the
                transitions, which are others than those of `reverse`.
            first: number of chains that the processes before this one run.
        """
        check_count("AnnealedImportance.run", "num", num, least=1)
        start_key, *keys = self._keys(
            random_key(generator) if key is None else key, "annealed importance"
        )
        with torch.no_grad():
            x = self.base.sample(num, key=start_key, first=first)
        log_weights = torch.zeros(num, dtype=torch.float64, device=x.device)
        rates = []
        betas = self.betas.tolist()
        with held_norms(self.energy):
            for before, beta, beta_keys in zip(betas, betas[1:], self._grouped(keys), strict=False):
                log_weights += (beta - before) * self._log_ratio(x)
                x, rate = self._move(x, beta, beta_keys, first)
                rates.append(rate)
        return _result(log_weights, 1, torch.stack(rates), x)

    def reverse(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> AnnealedImportanceResult:
        """Backward, from exact samples of the energy's density: a stochastic upper bound of log Z.

        Args:
            x: independent samples [N, ...] of exp(−E)/Z; from others the bound does not hold.
            generator: draws the key where none is given.
            key: int64 [seed, offset], as for `run`.
            first: number of chains that the processes before this one run.
        """
        check_positions("AnnealedImportance.reverse", x)
        if len(x) == 0:
            raise ValueError("AnnealedImportance.reverse: x has no rows; expected at least one")
        _, *keys = self._keys(
            random_key(generator, x.device) if key is None else key, "reverse annealed importance"
        )
        x = x.detach()
        log_weights = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        rates = []
        betas = self.betas.flip(0).tolist()
        with held_norms(self.energy):
            for beta, below, beta_keys in zip(betas, betas[1:], self._grouped(keys), strict=False):
                x, rate = self._move(x, beta, beta_keys, first)
                log_weights += (beta - below) * self._log_ratio(x)
                rates.append(rate)
        return _result(log_weights, -1, torch.stack(rates[::-1]), x)

    def _keys(self, key: Tensor, stream: Stream) -> tuple[Tensor, ...]:
        return split_key(stream_key(key, stream), 1 + (len(self.betas) - 1) * self.transitions)

    def _grouped(self, keys: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        size = self.transitions
        return [keys[at : at + size] for at in range(0, len(keys), size)]

    @torch.no_grad()
    def _log_ratio(self, x: Tensor) -> Tensor:
        """log f_T(x) − log f₀(x), [N]."""
        return -self._energies(x).double() - self._log_base(x).double()

    # Neither a sum over the chains nor [N, 1] may be broadcast unnoticed.
    def _energies(self, x: Tensor) -> Tensor:
        return energies("AnnealedImportance", self.energy, x)

    def _log_base(self, x: Tensor) -> Tensor:
        log_prob = self.base.log_prob(x)
        check_energies("AnnealedImportance", "base.log_prob(x)", log_prob, x)
        return log_prob

    def _move(
        self, x: Tensor, beta: float, keys: Sequence[Tensor], first: int
    ) -> tuple[Tensor, Tensor]:
        def path(y: Tensor) -> Tensor:
            return beta * self._energies(y) - (1 - beta) * self._log_base(y)

        transition = self.kernel(path)
        if not hasattr(transition, "init"):
            raise _not_invariant(transition)
        state, rates = transition.init(x), []
        for key in keys:
            state, info = transition.step(state, key=key, first_element=first * x[:1].numel())
            if not hasattr(info, "acceptance_rate"):
                raise _not_invariant(transition)
            rates.append(info.acceptance_rate.double().mean())
        return state.position, torch.stack(rates).mean()


def _not_invariant(transition: Any) -> TypeError:
    return TypeError(
        f"AnnealedImportance: kernel made a {type(transition).__name__}, which reports no "
        "acceptance rate; expected a transition that leaves the density exactly invariant, such as "
        "MALA or HMC"
    )


def annealing_schedule(
    kind: Literal["linear", "sigmoid"], num_steps: int, *, sharpness: float = 4.0
) -> Tensor:
    """β₀ = 0 < … < β_T = 1, float64 [T + 1].

    "linear" has equal steps; "sigmoid" small ones at both ends, where the densities change most:
    β̃ₜ = σ(δ(2t/T − 1)), moved and scaled to begin at 0 and end at 1.

    Args:
        kind: "linear" or "sigmoid".
        num_steps: T.
        sharpness: δ of the sigmoid.

    Raises:
        ValueError: for another kind, or a number of steps or sharpness that is not positive.

    Example:
        >>> annealing_schedule("linear", 4)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000], dtype=torch.float64)

    References:
        Grosse, Ghahramani and Adams, 2015, §6.
    """
    check_count("annealing_schedule", "num_steps", num_steps, least=1)
    places = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    check_choice("annealing_schedule", "kind", kind, ("linear", "sigmoid"))
    if kind == "linear":
        return places
    if not sharpness > 0:
        raise ValueError(f"annealing_schedule: sharpness is {sharpness}; expected more than 0")
    raw = torch.sigmoid(sharpness * (2 * places - 1))
    betas = (raw - raw[0]) / (raw[-1] - raw[0])
    betas[0], betas[-1] = 0, 1
    return betas


def _result(
    log_weights: Tensor, sign: int, rates: Tensor, samples: Tensor
) -> AnnealedImportanceResult:
    """The estimate from w (`sign` 1) or 1/w (−1): log Z = sign · log mean w^sign."""
    num = len(log_weights)
    signed = sign * log_weights
    log_mean = torch.logsumexp(signed, 0) - math.log(num)
    relative = (signed - log_mean).exp()  # of mean 1
    return AnnealedImportanceResult(
        log_weights=log_weights,
        log_z=sign * log_mean.item(),
        standard_error=relative.std().item() / math.sqrt(num) if num > 1 else math.nan,
        effective_sample_size=(relative.sum().square() / relative.square().sum()).item(),
        acceptance_rate=rates,
        samples=samples,
    )
