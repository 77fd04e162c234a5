"""Step sizes that adapt until chains accept as often as they should."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DualAveraging", "RobbinsMonro"]

_SHRINKAGE, _FAST, _WEIGHT = 0.05, 10.0, 0.75  # γ, t₀ and κ of Hoffman and Gelman 2014, §3.2.1
_GAIN = 1.5


class DualAveraging(NamedTuple):
    """A step size ε, or one per chain, whose mean acceptance rate approaches a target δ.

    After transition t with acceptance rate α,

        H ← (1 − 1/(t + t₀)) H + (δ − α)/(t + t₀)
        log ε ← μ − √t/γ · H
        log ε̄ ← t^(−κ) log ε + (1 − t^(−κ)) log ε̄

    and ε̄ is the step size to go on with.

    Example:
        >>> adaptation = DualAveraging.start(torch.tensor(1.0))
        >>> for _ in range(1000):  # a chain that accepts with probability exp(-ε)
        ...     adaptation = adaptation.update(torch.exp(-adaptation.step_size), target=0.8)
        >>> round(math.exp(-adaptation.average_step_size), 2)
        0.8

    References:
        Hoffman and Gelman, "The No-U-Turn sampler", JMLR 2014, eq. (6).
    """

    center: Tensor
    """μ = log 10ε₀: large steps are tried first, since they are found out cheaply."""
    log_step: Tensor
    log_average: Tensor
    error: Tensor
    """H, the running mean of the acceptance that is missing."""
    num_steps: int
    """t."""

    @classmethod
    def start(cls, step_size: Tensor) -> "DualAveraging":
        """From a first guess ε₀ > 0, of any shape."""
        log_step = step_size.log()
        return cls(log_step + math.log(10.0), log_step, log_step, torch.zeros_like(log_step), 0)

    @property
    def step_size(self) -> Tensor:
        """ε, for the next transition of the adaptation."""
        return self.log_step.exp()

    @property
    def average_step_size(self) -> Tensor:
        """ε̄, for the chains after it."""
        return self.log_average.exp()

    def update(self, acceptance_rate: Tensor, target: float) -> "DualAveraging":
        """After a transition with this acceptance rate, of the step size's shape."""
        num_steps = self.num_steps + 1
        error = self.error + (target - acceptance_rate - self.error) / (num_steps + _FAST)
        log_step = self.center - (math.sqrt(num_steps) / _SHRINKAGE) * error
        log_average = torch.lerp(self.log_average, log_step, num_steps**-_WEIGHT)
        return DualAveraging(self.center, log_step, log_average, error, num_steps)


class RobbinsMonro(NamedTuple):
    """A step size ε, or one per chain, that comes to rest where the acceptance rate is the target.

    After a transition with acceptance rate α, k the number of times that α − δ has changed its
    sign,

        log ε ← log ε + 3/2 · (α − δ)/(1 + k)
        log ε̄ ← (1 + k)^(−3/4) log ε + (1 − (1 + k)^(−3/4)) log ε̄

    so that the way to the target is covered in steps that do not shrink, and noise is averaged once
    it is there. `DualAveraging` moves log ε by 20(δ − α)/√t. That keeps a shared step size swinging
    over a range in which α is far from linear, or even periodic, and α(ε̄) is not δ then.

    Example:
        >>> adaptation = RobbinsMonro.start(torch.tensor(0.0))
        >>> for _ in range(50):  # a chain that accepts with probability exp(-ε)
        ...     adaptation = adaptation.update(torch.exp(-adaptation.step_size), target=0.8)
        >>> round(math.exp(-adaptation.average_step_size), 3)
        0.8

    References:
        Robbins and Monro, "A stochastic approximation method", 1951; Kesten, "Accelerated
        stochastic approximation", 1958; Polyak and Juditsky, "Acceleration of stochastic
        approximation by averaging", 1992.
    """

    log_step: Tensor
    log_average: Tensor
    excess: Tensor
    """The acceptance above the target, of the last transition."""
    num_turns: Tensor
    """k."""

    @classmethod
    def start(cls, log_step: Tensor) -> "RobbinsMonro":
        """From log ε, of any shape."""
        none = torch.zeros_like(log_step)
        return cls(log_step, log_step, none, none)

    @property
    def step_size(self) -> Tensor:
        """ε, for the next transition of the adaptation."""
        return self.log_step.exp()

    @property
    def average_step_size(self) -> Tensor:
        """ε̄, for the chains after it."""
        return self.log_average.exp()

    def update(self, acceptance_rate: Tensor, target: float) -> "RobbinsMonro":
        """After a transition with this acceptance rate, of the step size's shape."""
        excess = acceptance_rate - target
        num_turns = self.num_turns + (excess * self.excess < 0)
        log_step = self.log_step + _GAIN * excess / (1 + num_turns)
        log_average = torch.lerp(self.log_average, log_step, (1 + num_turns) ** -_WEIGHT)
        return RobbinsMonro(log_step, log_average, excess, num_turns)
