"""The likelihood of diffusion recovery energies: log Z along the levels, bits per dimension."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gencore.metrics import bits_per_dim
from gencore.models.diffusion.diffusion_recovery_ebm import DiffusionRecoveryEBM
from gencore.models.ebm.energy_density import EnergyDensity
from gencore.models.starts import like, normal_starts
from gencore.nn.held_norms import held_norms
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count
from gencore.ops.random import stream_key
from gencore.samplers import HMC
from gencore.samplers.energy import energies

__all__ = ["BitsCurve", "RecoveryLikelihood"]


class BitsCurve(NamedTuple):
    """Bits per dimension against the number of chains that log Z is estimated from.

    On average it grows with the number, since log Z is too low from few: where it still does, the
    last entry is no estimate of the bits but a lower bound.
    """

    num_samples: list[int]
    log_z: list[float]
    """Of the lowest level, as in `RecoveryLikelihood.log_z`."""
    bits: list[float]


@dataclass(frozen=True, eq=False)
class RecoveryLikelihood:
    r"""The density of data under level 0 of a `DiffusionRecoveryEBM`, with an estimate of log Z.

    Level t has the energy E(y, t) of y_t = b_t x_t, so that x_t has the density

    .. math:: p_t(x) = b_t^D \exp(-E(b_t x, t)) / Z_t, \qquad
              Z_t = \int \exp(-E(y, t)) \, dy

    with b_t = √(1 − σ_t²), and b_{T−1} = 1 of a last level that is marginal: its energy is of
    x_{T−1} itself. Above it lies x_T, with the known density p_T = N(0, I), of the energy ‖x‖²/2,
    b_T = 1 and log Z_T = (D/2) log 2π. Substituting y = b_t x, and taking the expectation under
    p_{t+1} of the ratio of the two unnormalised densities, is for any energies

    .. math:: \log\frac{Z_t}{Z_{t+1}} = D \log\frac{b_t}{b_{t+1}} +
              \log \mathbb E_{x \sim p_{t+1}} \exp\big(E(b_{t+1} x, t + 1) - E(b_t x, t)\big).

    It has a small variance where p_t and p_{t+1} are alike, which a diffusion that keeps variances
    at 1 makes them; without the factors b the densities of y_t and y_{t+1} would also differ in
    their scales. The ratio at the top is that of a Gaussian and of the last level. For a level that
    is given x_T this is one whose noise has hidden the data, ā_{T−1} ≈ 0. A marginal last level may
    lie lower, where p_{T−1} is farther from N(0, I) and its ratio the one that needs most samples:
    `log_z_errors` tells.

    The expectation takes the states x_{t+1} of long-run chains. They have the density p_{t+1} if
    the chains have converged and the energies of the levels fit each other, p_{t+1} being p_t after
    a step of noise; otherwise the estimate has an error that no number of samples removes, and
    `annealed` is the way. Where
    they do, it is too low on average (Jensen's inequality), and so log-densities are too high and
    bits per dimension too few until there are enough samples. Therefore look at `curve`, not at a
    single number.

    Args:
        model: the energies.
        log_weights: [T, N], float64: those of each level's ratio, in the order of t; or [1, N] of
            all ratios together.

    Example:
        >>> from gencore.models import LongRunChains, NoiseSchedule
        >>> from gencore.nn import TimeMLPEnergy
        >>> schedule = NoiseSchedule([0.1, 0.2, 0.3])
        >>> model = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), schedule)
        >>> run = LongRunChains.adapted(model, 100, num_steps=5).sample(100)
        >>> likelihood = RecoveryLikelihood.of(model, run.states)
        >>> likelihood.density.log_prob(torch.zeros(4, 2)).shape
        torch.Size([4])

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.3.5.2; his g(x) = a·p(ax) lacks the power D of a;
        Neal, "Annealed importance sampling", 2001 (`annealed`).
    """

    model: DiffusionRecoveryEBM
    log_weights: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: DiffusionRecoveryEBM, states: Tensor) -> "RecoveryLikelihood":
        """From the states of chains through all levels.

        Args:
            model: the energies.
            states: x_T, …, x_0, [T + 1, N, *shape], with x_T ~ N(0, I): of `LongRunChains.sample`,
                or `DiffusionRecoveryEBM.sample(return_trajectory=True)`.

        Raises:
            ValueError: for states of another shape.
        """
        num_levels = model.schedule.num_steps
        if states.shape[:1] != (num_levels + 1,) or states.shape[2:] != torch.Size(model.shape):
            raise ValueError(
                f"RecoveryLikelihood.of: states have shape {list(states.shape)}; expected "
                f"[{num_levels + 1}, N, {', '.join(map(str, model.shape))}], x_T first"
            )
        if not states.shape[1]:
            raise ValueError("RecoveryLikelihood.of: states have no chains; expected at least one")

        log_weights = []
        with held_norms(model.energy):
            for t in range(num_levels):
                x = states[num_levels - t - 1]  # x_{t+1}
                log_weights.append(_energy(model, x, t + 1) - _energy(model, x, t))
        return cls(model, torch.stack(log_weights))

    @classmethod
    @torch.no_grad()
    def annealed(
        cls,
        model: DiffusionRecoveryEBM,
        num: int,
        *,
        step_size: float,
        num_bridges: int = 1,
        num_leapfrog: int = 2,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> "RecoveryLikelihood":
        """From chains that anneal from N(0, I) through the levels, with one weight for each chain.

        Between the energies of two levels lie `num_bridges` steps of their weighted mean, each with
        an HMC transition that keeps its density (Neal 2001). Then E[w] is the ratio of Z_0 to the
        Gaussian's whether or not the energies of the levels fit each other, and from few samples
        log Z is too low: the assumptions of `of` are not needed, and few levels can be bridged. The
        transitions are of whole levels' densities though, whose modes they hardly change, while
        those of `LongRunChains` are given x_{t+1}.

        Args:
            model: the energies.
            num: number of chains N.
            step_size: of HMC, for states x_t, whose variances are about 1.
            num_bridges: steps from a level to the next.
            num_leapfrog: of an HMC transition.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of chains of the processes before this one.

        Returns:
            With `log_weights` [1, N], those of all ratios together.

        Example:
            >>> from gencore.models import NoiseSchedule
            >>> from gencore.nn import TimeMLPEnergy
            >>> model = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), NoiseSchedule([0.2, 0.4]))
            >>> RecoveryLikelihood.annealed(model, 50, step_size=0.5).log_weights.shape
            torch.Size([1, 50])
        """
        name = "RecoveryLikelihood.annealed"
        check_count(name, "num", num, least=1)
        check_count(name, "num_bridges", num_bridges, least=1)
        key = random_key(generator, device=like(model).device) if key is None else key
        num_levels = model.schedule.num_steps
        key = stream_key(key, "annealed importance")
        x = normal_starts(model, num, model.shape, key=key, first=first)
        log_weights = torch.zeros(num, dtype=torch.float64, device=x.device)
        keys = iter(split_key(key, num_levels * num_bridges))
        with held_norms(model.energy):
            for t in reversed(range(num_levels)):
                for bridge in range(1, num_bridges + 1):
                    log_weights += (_energy(model, x, t + 1) - _energy(model, x, t)) / num_bridges
                    path = partial(_bridge, model, t, bridge / num_bridges)
                    chains = HMC(path, step_size, num_leapfrog)
                    x = chains.sample(x, 1, key=next(keys), first=first)
        return cls(model, log_weights[None])

    @property
    def log_z(self) -> float:
        """The estimate of log Z_0 = log ∫ exp(−E(y, 0)) dy."""
        return self._log_z(self.log_weights)

    @property
    def log_z_errors(self) -> Tensor:
        """Standard error of each level's log-ratio, to first order, [T]."""
        relative = self._relative_weights()
        return relative.std(1) / math.sqrt(relative.shape[1])

    @property
    def standard_error(self) -> float:
        """Of `log_z`, to first order, from what each chain adds at all its levels together, since
        its states are correlated. It says nothing where a few chains have all the weight, and is
        NaN of a single one."""
        of_chains = self._relative_weights().sum(0)
        return of_chains.std().item() / math.sqrt(len(of_chains))

    @property
    def density(self) -> EnergyDensity:
        """log p(x₀) = −E(a_0 x₀, 0) − log Z_0 + D log a_0, and its score."""
        return self._density(self.log_z)

    def curve(
        self,
        x: Tensor,
        num_samples: Sequence[int],
        *,
        bins: int = 256,
        low: float = 0.0,
        high: float = 1.0,
    ) -> BitsCurve:
        """Mean bits per dimension of data, with log Z from fewer chains and from all.

        Of a number n that is smaller than that of the chains, log Z is the mean over as many groups
        of n as there are.

        Args:
            x: data, [M, *shape], dequantised as for `gencore.metrics.bits_per_dim`.
            num_samples: numbers of chains n, 1 to N.
            bins, low, high: as for `gencore.metrics.bits_per_dim`; with `bins=1` and an interval of
                length 1 the bits of the density itself.

        Raises:
            ValueError: for a number of chains that there are not.

        Example:
            >>> from gencore.models import NoiseSchedule
            >>> from gencore.nn import TimeMLPEnergy
            >>> model = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), NoiseSchedule([0.3]))
            >>> states = model.sample(64, return_trajectory=True)
            >>> curve = RecoveryLikelihood.of(model, states).curve(torch.rand(9, 2), (4, 16, 64))
            >>> curve.log_z[0] <= curve.log_z[1] <= curve.log_z[2]
            True
        """
        total = self.log_weights.shape[1]
        for num in num_samples:
            check_count("RecoveryLikelihood.curve", "one of num_samples", num, least=1)
            if num > total:
                raise ValueError(
                    f"RecoveryLikelihood.curve: num_samples has {num}; expected at most the "
                    f"{total} chains"
                )
        with torch.no_grad(), held_norms(self.model.energy):
            unnormalised = self._density(0.0).log_prob(x).double().mean()
        dims = math.prod(self.model.shape)
        log_z = []
        for num in num_samples:
            groups = self.log_weights[:, : total // num * num].unflatten(1, (-1, num)).unbind(1)
            log_z.append(sum(map(self._log_z, groups)) / len(groups))
        bits = [
            bits_per_dim(unnormalised - value, dims, bins=bins, low=low, high=high).item()
            for value in log_z
        ]
        return BitsCurve(list(num_samples), log_z, bits)

    def _relative_weights(self) -> Tensor:
        """Of mean 1 at each level, [T, N]."""
        return (self.log_weights - _log_mean(self.log_weights)[:, None]).exp()

    def _density(self, log_z: float) -> EnergyDensity:
        return EnergyDensity(self.model.level_energy(0), log_z, scale=self.model.level_scale(0))

    def _log_z(self, log_weights: Tensor) -> float:
        """The sum of all ratios: D log b_0 is what is left of the scales."""
        dims = math.prod(self.model.shape)
        scale = self.model.level_scale(0)
        top = dims / 2 * math.log(2 * math.pi)
        return top + dims * math.log(scale) + _log_mean(log_weights).sum().item()


def _energy(model: DiffusionRecoveryEBM, x: Tensor, t: int) -> Tensor:
    """E(b_t x, t) of states x_t, in float64 [N]; of level T that of N(0, I)."""
    if t == model.schedule.num_steps:
        return 0.5 * x.double().flatten(1).square().sum(1)
    y = model.level_scale(t) * x
    return energies("RecoveryLikelihood", model.level_energy(t), y).double()


def _bridge(model: DiffusionRecoveryEBM, t: int, weight: float, x: Tensor) -> Tensor:
    """The energy of x on the way from level t + 1 (weight 0) to level t (weight 1)."""
    energy = _energy(model, x, t)
    if weight != 1:
        energy = weight * energy + (1 - weight) * _energy(model, x, t + 1)
    return energy.to(x.dtype)


def _log_mean(log_weights: Tensor) -> Tensor:
    """log mean exp over the chains, of each level."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])
