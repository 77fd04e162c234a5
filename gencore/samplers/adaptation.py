"""Step sizes and masses that fit a density, learned from chains while they approach it."""

from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Generator, Tensor
from torch import distributed as dist

from gencore.ops import random_key, split_key
from gencore.ops._support.checks import accumulation_dtype, check_count
from gencore.ops.random import stream_key
from gencore.samplers.chains import elements_before, rows
from gencore.samplers.dense_mass import DenseMass
from gencore.samplers.hmc import HMC
from gencore.samplers.mala import MALA
from gencore.samplers.nuts import NUTS
from gencore.samplers.step_size_adaptation import DualAveraging, RobbinsMonro

__all__ = ["Moments", "WarmUpInfo", "warm_up"]

Sampler = TypeVar("Sampler", HMC, MALA, NUTS)
_ADAPTABLE = (HMC, MALA, NUTS)

_FIRST_WINDOW = 25


class Moments(NamedTuple):
    """Mean and variance, or covariance, of all rows seen, with no sum that cancels (Welford; Chan
    et al.).

    Example:
        >>> x = torch.arange(6.0).reshape(6, 1) + 1e6
        >>> moments = Moments.of(x[:2]).merge(Moments.of(x[2:]))
        >>> moments.variance
        tensor([3.5000], dtype=torch.float64)

    References:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979, eq. (2.1).
    """

    num_rows: Tensor
    mean: Tensor
    deviation: Tensor
    """Sum over the rows of the squared distances to the mean, or of their outer products [D, D]."""

    @classmethod
    def of(cls, x: Tensor, *, dense: bool = False) -> "Moments":
        """Those of the rows of [N, ...], N ≥ 1, kept in float64; `dense`: of [N, D], with the
        covariance."""
        rows = x.double()
        mean = rows.mean(0)
        centred = rows - mean
        deviation = centred.T @ centred if dense else centred.square_().sum(0)
        return cls(mean.new_tensor(float(len(x))), mean, deviation)

    def _square(self, difference: Tensor) -> Tensor:
        is_dense = self.deviation.dim() > self.mean.dim()
        return torch.outer(difference, difference) if is_dense else difference.square()

    def merge(self, other: "Moments") -> "Moments":
        """Those of the rows of both."""
        count = self.num_rows + other.num_rows
        difference = other.mean - self.mean
        weight = other.num_rows / count
        return Moments(
            count,
            self.mean + difference * weight,
            self.deviation + other.deviation + self._square(difference) * (self.num_rows * weight),
        )

    def pool(self, group: "dist.ProcessGroup") -> "Moments":
        """Those of the rows of all processes in `group`."""
        count, total = self.num_rows.clone(), self.mean * self.num_rows
        dist.all_reduce(count, group=group)
        dist.all_reduce(total, group=group)
        mean = total / count
        deviation = self.deviation + self.num_rows * self._square(self.mean - mean)
        dist.all_reduce(deviation, group=group)
        return Moments(count, mean, deviation)

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, or covariance."""
        return self.deviation / (self.num_rows - 1)


class WarmUpInfo(NamedTuple):
    """What the adaptation saw and did, transition by transition."""

    step_size: Tensor
    """[num_steps], the geometric mean while chains differ, or [num_steps, N] with `per_chain`."""
    acceptance_rate: Tensor
    """[num_steps], the mean over the chains, or [num_steps, N] with `per_chain`."""
    divergence_rate: Tensor
    """[num_steps]: the fraction of chains whose transition was divergent."""


def warm_up(
    sampler: Sampler,
    x: Tensor,
    num_steps: int,
    *,
    target_acceptance: float | None = None,
    adapt_mass: bool = True,
    dense_mass: bool = False,
    per_chain: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
    first_element: int | None = None,
    process_group: "dist.ProcessGroup | None" = None,
) -> tuple[Sampler, Tensor, WarmUpInfo]:
    """Run the chains while the step size and the mass adapt to the density.

    In the first 15% of the transitions each chain follows dual averaging with a step size of its
    own, since a chain that starts where the energy is steep would never move with the step size
    that suits the others. Then they share one, whose acceptance rate is the mean over chains, and
    which Robbins and Monro's recursion brings to the target.

    From there on the inverse mass becomes the variance of each element over the chains and
    transitions of a window. Windows double in length from 25, up to the last 10%, in which only the
    step size adapts. A window's variance s² of n states enters as (n s² + 5·10⁻³)/(n + 5), as in
    Stan. With `dense_mass` it becomes the covariance, shrunk likewise: it pays where elements are
    strongly correlated, and takes windows of many more states than there are elements.

    The number of leapfrog steps of HMC stays, so a trajectory's length adapts with the step size.

    Args:
        sampler: HMC, MALA or NUTS; its step size is the first guess, its inverse mass that of the
            transitions before the first window has ended.
        x: starts [N, ...], one chain a row; left unchanged.
        num_steps: number of transitions, some hundred. With fewer than 20 the mass stays.
        target_acceptance: δ in (0, 1); by default 0.8 for HMC and NUTS, and for MALA 0.574, the
            best in high dimensions (Roberts and Rosenthal 1998).
        adapt_mass: whether the inverse mass adapts.
        dense_mass: whether it adapts to a `DenseMass` rather than a diagonal [1, ...], as it does
            where the sampler has one already.
        per_chain: whether each chain keeps a step size of its own to the end.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset]; it fixes all draws, which are others than those of `sample`.
        first: number of chains of the processes before this one.
        first_element: the same as the number of their elements.
        process_group: processes that hold the other chains; what is averaged over chains is
            averaged over theirs too. None for this process alone.

    Returns:
        The sampler with the adapted settings, the final states [N, ...] to start it from, and what
        happened on the way.

    Raises:
        ValueError: for starts that `init` refuses, no chains, a negative number of steps, a
            target outside (0, 1), a dense mass without `adapt_mass` or with too few steps, or a
            step size that is not positive or is one per chain without `per_chain`.

    Example:
        >>> scale = torch.tensor([0.1, 1.0, 10.0])
        >>> sampler = HMC(lambda x: 0.5 * (x / scale).square().sum(1), 0.01, num_leapfrog=5)
        >>> generator = torch.Generator().manual_seed(0)
        >>> sampler, x, info = warm_up(sampler, torch.randn(100, 3), 200, generator=generator)
        >>> (sampler.inverse_mass.sqrt() / scale).round(decimals=1)
        tensor([[1., 1., 1.]])

    References:
        Hoffman and Gelman, "The No-U-Turn sampler", JMLR 2014, §3.2; Carpenter et al., "Stan: a
        probabilistic programming language", 2017, §2.6 of the reference manual (windows); Kesten,
        "Accelerated stochastic approximation", 1958.
    """
    if not isinstance(sampler, _ADAPTABLE):
        adaptable = " or ".join(kind.__name__ for kind in _ADAPTABLE)
        raise TypeError(
            f"warm_up: the sampler is a {type(sampler).__name__}; expected {adaptable}, whose "
            "acceptance rates tell the step size"
        )
    target = _target(sampler, target_acceptance)
    check_count("warm_up", "num_steps", num_steps)
    if dense_mass and not adapt_mass:
        raise ValueError("warm_up: dense_mass is True, but adapt_mass is False; expected both True")
    state = sampler.init(x)
    first_element = elements_before("warm_up", x, first, first_element)
    if len(x) == 0:
        raise ValueError("warm_up: x has no chains to learn from; expected at least one")
    first_guess: Tensor = _first_guess(sampler.step_size, state.energy, per_chain)
    adaptation: DualAveraging | RobbinsMonro = DualAveraging.start(first_guess)
    is_pooled = False
    is_dense = dense_mass or isinstance(sampler.inverse_mass, DenseMass)
    windows = _MassWindows(num_steps if adapt_mass else 0, process_group, is_dense)
    if dense_mass and not windows.ends:
        raise ValueError(f"warm_up: num_steps is {num_steps}, too few to learn a dense mass from")
    info = _empty_info(num_steps, first_guess if per_chain else first_guess.new_empty(()))

    def pooled(values: Tensor) -> Tensor:
        return values if per_chain else _mean(values, process_group)

    if key is None:
        key = random_key(generator, device=x.device)
    for number, step_key in enumerate(split_key(stream_key(key, "warm-up"), num_steps)):
        if number == _pooled_from(num_steps):
            adaptation = RobbinsMonro.start(pooled(adaptation.log_average))
            is_pooled = not per_chain
        trial = replace(sampler, step_size=adaptation.step_size)
        state, seen = trial.step(state, key=step_key, first_element=first_element)
        rate = pooled(seen.acceptance_rate)
        info.step_size[number].copy_(
            adaptation.step_size if is_pooled else pooled(adaptation.log_step).exp()
        )
        info.acceptance_rate[number].copy_(rate)
        info.divergence_rate[number].copy_(
            _mean(seen.is_divergent.to(first_guess.dtype), process_group)
        )
        adaptation = adaptation.update(rate if is_pooled else seen.acceptance_rate, target)
        if (inverse_mass := windows.update(number, state.position)) is not None:
            sampler = replace(sampler, inverse_mass=inverse_mass)
            adaptation = RobbinsMonro.start(adaptation.log_average)

    found = adaptation.average_step_size if is_pooled else pooled(adaptation.log_average).exp()
    return replace(sampler, step_size=found if per_chain else found.item()), state.position, info


def _target(sampler: HMC | MALA | NUTS, target: float | None) -> float:
    if target is None:
        return 0.574 if isinstance(sampler, MALA) else 0.8
    if not 0.0 < target < 1.0:
        raise ValueError(f"warm_up: target_acceptance is {target}; expected a number in (0, 1)")
    return target


def _first_guess(step_size: float | Tensor, energy: Tensor, per_chain: bool) -> Tensor:
    guess = torch.as_tensor(step_size, dtype=energy.dtype, device=energy.device).flatten()
    if not bool((guess > 0).all()):
        raise ValueError(f"warm_up: the sampler's step_size is {step_size}; expected it positive")
    if guess.numel() != 1 and not per_chain:
        raise ValueError(
            f"warm_up: the sampler has {guess.numel()} step sizes; expected one, or per_chain=True"
        )
    return guess.expand_as(energy)


def _empty_info(num_steps: int, step_size: Tensor) -> WarmUpInfo:
    step_sizes, rates = (step_size.new_empty(num_steps, *step_size.shape) for _ in range(2))
    return WarmUpInfo(step_sizes, rates, step_size.new_empty(num_steps))


def _pooled_from(num_steps: int) -> int:
    """The first transition whose chains share a step size, and whose states a window may hold."""
    return round(0.15 * num_steps)


def _window_ends(num_steps: int) -> list[int]:
    """After how many transitions the inverse mass changes, as Stan schedules it."""
    if num_steps < 20:
        return []
    end, last = _pooled_from(num_steps), round(0.9 * num_steps)
    ends, length = [], _FIRST_WINDOW
    while end + 3 * length <= last:  # this window, and room for one twice as long after it
        end += length
        ends.append(end)
        length *= 2
    return [*ends, last]


# Step sizes answer to the last bit of what they learn from: a difference in rounding is a different
# warm-up some fifty transitions later. What is averaged over chains is therefore summed in float64
# and rounded to float32, which leaves nothing of the order in which processes added it up.


class _MassWindows:
    """The variances, or covariances, of the states in successive windows of a warm-up."""

    def __init__(self, num_steps: int, group: "dist.ProcessGroup | None", dense: bool) -> None:
        self.start, self.ends = _pooled_from(num_steps), _window_ends(num_steps)
        self.moments: Moments | None = None
        self.group = group
        self.dense = dense

    def update(self, number: int, x: Tensor) -> Tensor | DenseMass | None:
        """After transition `number` to `x`: the next inverse mass where a window ends."""
        if not self.ends or number < self.start:
            return None
        new = Moments.of(rows(x), dense=True) if self.dense else Moments.of(x)
        self.moments = new if self.moments is None else self.moments.merge(new)
        if number + 1 < self.ends[0]:
            return None
        moments = self.moments if self.group is None else self.moments.pool(self.group)
        self.moments, self.ends = None, self.ends[1:]
        weight = moments.num_rows / (moments.num_rows + 5)
        if self.dense:
            covariance = weight * moments.variance
            covariance.diagonal().add_(1e-3 * (1 - weight))
            return DenseMass(DenseMass.of(covariance).factor.float().to(accumulation_dtype(x)))
        inverse_mass = weight * moments.variance + 1e-3 * (1 - weight)
        return inverse_mass.float().to(accumulation_dtype(x)).unsqueeze(0)


def _mean(values: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
    """The mean over the chains of all processes."""
    mean = values.double().mean()
    if group is not None:
        total = torch.stack([values.double().sum(), mean.new_tensor(len(values))])
        dist.all_reduce(total, group=group)
        mean = total[0] / total[1]
    return mean.float().to(values.dtype)
