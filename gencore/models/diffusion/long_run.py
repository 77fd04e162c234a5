"""Long-run chains through the levels of diffusion recovery energies, by adapted HMC."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gencore.models.diffusion.diffusion_recovery_ebm import DiffusionRecoveryEBM
from gencore.models.starts import like, normal_starts
from gencore.nn.held_norms import held_norms
from gencore.objectives.recovery import RecoveryEnergy, normal_approximation
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count
from gencore.ops.random import stream_key
from gencore.samplers import HMC, warm_up
from gencore.samplers.energy import Energy

__all__ = ["LongRun", "LongRunChains"]

# The middle of the interval [0.6, 0.9] that Gao 2021, §2.3.5.2 asks for.
_TARGET = 0.75
_WARM_UP_STEPS = 60


class LongRun(NamedTuple):
    """Where long-run chains went."""

    states: Tensor
    """[T + 1, N, ...]: x_T, …, x_0."""
    acceptance_rate: Tensor
    """[T], float64: the mean over chains and HMC steps of each level t; NaN without any."""

    @property
    def samples(self) -> Tensor:
        """[N, ...]: x_0."""
        return self.states[-1]


@dataclass(frozen=True, eq=False)
class LongRunChains:
    """Chains of HMC at every level of a `DiffusionRecoveryEBM`, from noise to data.

    At level t they start from the normal approximation of p(y_t | x_{t+1}) (2.18), which is their
    first step, and go on with HMC of 2 leapfrog steps. That leaves the conditional density exactly
    invariant, as the Langevin steps of `DiffusionRecoveryEBM.sample` do not. A marginal last level
    has no such approximation: its chains start from x_T.

    Args:
        model: energies and schedule.
        step_sizes: of HMC at each level t, [T]: of `adapted`.
        num_steps: steps a level, the first one included; 1 is the normal approximation alone.
        num_leapfrog: of an HMC step.

    Raises:
        ValueError: for step sizes that are not one positive number a level, or no steps.

    Example:
        >>> from gencore.models import NoiseSchedule
        >>> from gencore.nn import TimeMLPEnergy
        >>> schedule = NoiseSchedule([0.1, 0.2, 0.3])
        >>> model = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), schedule)
        >>> chains = LongRunChains.adapted(model, 200, num_steps=5)
        >>> run = chains.sample(200)
        >>> run.samples.shape, bool(((run.acceptance_rate > 0.5) & (run.acceptance_rate < 1)).all())
        (torch.Size([200, 2]), True)

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.3.5.2: 1000 chains, 100 steps a level.
    """

    model: DiffusionRecoveryEBM
    step_sizes: Tensor
    num_steps: int = 100
    num_leapfrog: int = 2

    def __post_init__(self) -> None:
        check_count("LongRunChains", "num_steps", self.num_steps, least=1)
        num = self.model.schedule.num_steps
        if self.step_sizes.shape != (num,) or not bool((self.step_sizes > 0).all()):
            raise ValueError(
                f"LongRunChains: step_sizes are {self.step_sizes.tolist()}; expected one positive "
                f"number for each of {num} levels"
            )

    @classmethod
    def adapted(
        cls,
        model: DiffusionRecoveryEBM,
        num: int,
        *,
        num_steps: int = 100,
        num_leapfrog: int = 2,
        warm_up_steps: int = _WARM_UP_STEPS,
        target_acceptance: float = _TARGET,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> "LongRunChains":
        """Chains whose step size at each level has the acceptance rate that is asked for.

        `num` chains go through the levels; at each of them `gencore.samplers.warm_up` adapts one
        step size for all, from σ_t on, and the chains go on from where it ends.

        Args:
            model: energies and schedule.
            num: number of chains that adapt.
            num_steps, num_leapfrog: as of `LongRunChains`.
            warm_up_steps: transitions that adapt at a level, 20 or more.
            target_acceptance: mean acceptance rate, in (0, 1).
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; other draws than those of `sample`.

        Raises:
            ValueError: for no chains, too few transitions or a target outside (0, 1).
        """
        check_count("LongRunChains.adapted", "num", num, least=1)
        check_count("LongRunChains.adapted", "warm_up_steps", warm_up_steps, least=20)
        key = random_key(generator, device=like(model).device) if key is None else key
        key = stream_key(key, "diffusion")
        x = normal_starts(model, num, model.shape, key=key)
        schedule = model.schedule
        step_sizes = torch.zeros(schedule.num_steps, dtype=torch.float64, device="cpu")
        with torch.no_grad(), held_norms(model.energy):
            for t, level_key in _downwards(model, key, warm_up_steps + 1):
                energy, y = _start(model, t, x, level_key, 0)
                first_guess = schedule.variances[t].sqrt().item()
                sampler, y, _ = warm_up(
                    HMC(energy, first_guess, num_leapfrog), y, warm_up_steps,
                    target_acceptance=target_acceptance, adapt_mass=False,
                    key=_next(level_key),
                )  # fmt: skip
                step_sizes[t] = float(sampler.step_size)
                x = y / model.level_scale(t)
        return cls(model, step_sizes, num_steps, num_leapfrog)

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> LongRun:
        """`num` chains from x_T ~ N(0, I) to x_0.

        Args:
            num: number of chains.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of chains before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.
        """
        check_count("LongRunChains.sample", "num", num, least=1)
        model = self.model
        key = random_key(generator, device=like(model).device) if key is None else key
        key = stream_key(key, "samples")
        x = normal_starts(model, num, model.shape, key=key, first=first)
        states, rates = [x], torch.full_like(self.step_sizes, math.nan, dtype=torch.float64)
        with torch.no_grad(), held_norms(model.energy):
            for t, level_key in _downwards(model, key, self.num_steps):
                energy, y = _start(model, t, x, level_key, first)
                if self.num_steps > 1:
                    chains = HMC(energy, self.step_sizes[t].item(), self.num_leapfrog)
                    y, info = chains.sample(
                        y, self.num_steps - 1, key=_next(level_key), first=first, return_info=True
                    )
                    rates[t] = info.acceptance_rate.double().mean()
                x = y / model.level_scale(t)
                states.append(x)
        return LongRun(torch.stack(states), rates)


def _downwards(
    model: DiffusionRecoveryEBM, key: Tensor, num_draws: int
) -> Iterator[tuple[int, Tensor]]:
    """Each level from the last one on, with the key of the first of its draws."""
    levels = model.schedule.num_steps
    keys = split_key(key, levels * num_draws)[::num_draws]
    return zip(reversed(range(levels)), keys, strict=True)


def _next(key: Tensor) -> Tensor:
    return split_key(key, 2)[1]


def _start(
    model: DiffusionRecoveryEBM, t: int, later: Tensor, key: Tensor, first: int
) -> tuple[Energy, Tensor]:
    """The energy of y_t given x_{t+1}, and where its chains start."""
    energy = model.level_energy(t)
    if model.is_last_marginal and t == model.schedule.num_steps - 1:
        return energy, later
    noise_std = model.schedule.variances[t].sqrt().item()
    first_element = first * math.prod(model.shape)
    y = normal_approximation(energy, later, noise_std, key=key, first_element=first_element)
    return RecoveryEnergy(energy, later, noise_std), y
