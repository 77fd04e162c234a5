"""Diffusion recovery likelihood: energies each of which undoes a step of a diffusion."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from gencore.choices import check_choice
from gencore.models.diffusion.diffusion_noise import DiffusionNoise
from gencore.models.diffusion.level_energy import LevelEnergy
from gencore.models.diffusion.noise_schedule import NoiseSchedule
from gencore.models.starts import like, normal_starts
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ShortRunLoss, contrastive_loss
from gencore.objectives.recovery import RecoveryEnergy, normal_approximation
from gencore.ops import langevin_step_, philox_normal, philox_words, random_key, split_key
from gencore.ops._support.checks import check_count, finite, index, number
from gencore.ops._support.checks import shape as checked_shape
from gencore.ops.random import stream_key
from gencore.samplers import ConditionalEnergy, Langevin
from gencore.samplers.energy import Energy, energy_and_grad

__all__ = ["DiffusionRecoveryEBM", "DiffusionRecoveryName", "released_settings"]

DiffusionRecoveryName = Literal["T6", "T1k"]


class _Level(NamedTuple):
    """The constants of the step from level t to t + 1."""

    noise_std: float
    """Of the quadratic term; infinite for a marginal level, which has none."""
    scale: float
    """y_t = scale · x_t."""
    step: float
    """δ_t: standard deviation of a Langevin step's noise."""
    factor: float
    """E_t = factor · network."""
    weight: float
    """Of the level's rows in the loss."""


class DiffusionRecoveryEBM(nn.Module):
    r"""Energies E_θ(y, t) of a diffusion's levels, learned from and sampled by its steps backwards.

    With the diffusion x_{t+1} = a_t x_t + σ_t ε of `schedule` and y_t = a_t x_t, step t of T has
    the conditional density (2.22)

    .. math:: p_\theta(y_t \mid x_{t+1}) \propto
              \exp\Big(-E_\theta(y_t, t) - \frac{\lVert x_{t+1} - y_t\rVert^2}{2 \sigma_t^2}\Big),

    which has one mode near x_{t+1} where σ_t is small: K Langevin steps from there (2.23),

    .. math:: y' = y - \frac{\delta_t^2}{2}\Big(\nabla E_\theta(y, t) +
              \frac{y - x_{t+1}}{\sigma_t^2}\Big) + \delta_t \varepsilon,
              \qquad \delta_t = b\, c_t\, \sigma_t,

    reach it. A call is the objective of training (Algorithm 2), `sample` goes through the levels
    from noise to data (Algorithm 3). exp(−E_θ(·, t)) is the density of y_t, up to its constant.

    σ_t is that of the step from level t to t + 1, Gao's σ_{t+1}; his (2.23) has σ_t for it.

    Args:
        energy: called with y [N, *shape] and t, int64 [N], gives [N].
        shape: of one data point.
        schedule: of the diffusion, T steps.
        num_steps: K; with 0 the normal approximation (2.18) of the conditional takes the place of
            the chain, which needs many levels of little noise.
        step_factor: b.
        is_last_marginal: whether the last level, t = T − 1, is an energy of x_{T−1} itself, whose
            chains start from N(0, I) and have no quadratic term. With T = 1 this is the energy of
            short chains from noise.
        level_factors: c_t, one a level; 1 where missing.
        is_output_per_step: the network's output is in units of δ_t²: E_θ(y, t) is the output over
            δ_t², so that a step moves by half the output's gradient at every level.
        level_weights: of the rows of each level in the loss; 1 where missing.
        noise_factor: of the noise of the steps that make samples; in training it is 1.
        energy_penalty: α of `contrastive_loss`, on the weighted outputs.

    Raises:
        ValueError: for numbers out of range, settings that are not one a level, or a marginal level
            without Langevin steps.

    Example:
        >>> from gencore.nn import TimeMLPEnergy
        >>> schedule = NoiseSchedule([0.1, 0.2, 0.3])
        >>> ebm = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), schedule, num_steps=5)
        >>> ebm(torch.rand(16, 2)).loss.backward()
        >>> ebm.sample(4, return_trajectory=True).shape
        torch.Size([4, 4, 2])

    References:
        Gao, Song, Poole, Wu and Kingma, "Learning energy-based models by diffusion recovery
        likelihood", 2021; Gao, "Effective Learning of Descriptive and Generator Models and Learning
        Representations for Grid Cells and V1 Cells", 2021, §2.3.4, whose equation numbers are used.
    """

    def __init__(
        self,
        energy: nn.Module,
        shape: Sequence[int],
        schedule: NoiseSchedule,
        *,
        num_steps: int = 30,
        step_factor: float = 0.1,
        is_last_marginal: bool = False,
        level_factors: Sequence[float] | None = None,
        is_output_per_step: bool = False,
        level_weights: Sequence[float] | None = None,
        noise_factor: float = 1.0,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        name = "DiffusionRecoveryEBM"
        if not isinstance(schedule, NoiseSchedule):
            raise TypeError(
                f"{name}: schedule is a {type(schedule).__name__}; expected a NoiseSchedule"
            )
        check_count(name, "num_steps", num_steps)
        if is_last_marginal and num_steps == 0:
            raise ValueError(
                f"{name}: num_steps is 0 with is_last_marginal; expected 1 or more, since a "
                "marginal level has no normal approximation"
            )
        self.energy = energy
        self.shape = tuple(checked_shape(name, shape))
        self.schedule = schedule
        self.num_steps = num_steps
        self.step_factor = _positive(name, "step_factor", step_factor)
        self.is_last_marginal = is_last_marginal
        self.is_output_per_step = is_output_per_step
        self.noise_factor = number(name, "noise_factor", noise_factor)
        self.energy_penalty = finite(name, "energy_penalty", energy_penalty)
        self._levels = self._made_levels(
            _per_level(name, "level_factors", level_factors, schedule),
            _per_level(name, "level_weights", level_weights, schedule),
        )
        # Copies on other devices: a lookup there must not wait for the host.
        self._tables: dict[torch.device, Tensor] = {}

    @classmethod
    def preset(
        cls,
        name: DiffusionRecoveryName,
        energy: nn.Module,
        shape: Sequence[int],
        **changes: Any,
    ) -> "DiffusionRecoveryEBM":
        r"""A published setting, some of whose options may be changed.

        Both cut the diffusion of Ho et al. (2020), 1000 steps with variances from 1e-4 to 0.02.

        - "T6": 6 levels, at 0, 101, 201, 301, 401, 501 and 1000, the last one marginal; K = 30,
          b² = 2e-4, c_t² = √(1 − ā²) of level t over that of the first of the 1000 steps, which is
          c_0² = 1; output in units of δ_t²; loss weights σ_0/σ_t; noise of samples times 0.99.
        - "T1k": all 1000 levels by their normal approximation.

        The source names T, K and the normal approximation; the other numbers are those of the
        authors' released program. That one adds the first of the 1000 steps to its data, noise of
        0.01, and starts the last level's chains in training from data diffused to level 1000.

        Example:
            >>> from gencore.nn import TimeMLPEnergy
            >>> ebm = DiffusionRecoveryEBM.preset("T6", TimeMLPEnergy(2), (2,), num_steps=10)
            >>> ebm.schedule.num_steps, ebm.num_steps, ebm.is_last_marginal
            (6, 10, True)
        """
        check_choice("DiffusionRecoveryEBM.preset", "name", name, get_args(DiffusionRecoveryName))
        settings = released_settings() if name == "T6" else _T1K
        return cls(energy, shape, **{**settings, **changes})

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> ShortRunLoss:
        """The objective on one batch (Algorithm 2), with a level t ~ Unif{0, …, T − 1} a row:

            mean of w_t (E_θ(y_t, t) − E_θ(y_t⁻, t)),   y_t⁻ ~ K steps from x_{t+1}

        Its energies are of the network's outputs times the levels' weights, and its samples are
        y_t⁻. Every row draws by its own place in the whole batch.

        Args:
            x: data, [N, *shape].
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of rows of the processes before this one.

        Raises:
            ValueError: for data of another shape.
        """
        self._check_points("forward", x)
        if key is None:
            key = random_key(generator, device=x.device)
        first_element = first * x[:1].numel()
        level_key, *noise_keys = split_key(stream_key(key, "diffusion"), 3)
        words = philox_words(x.shape[:1], level_key, first_element=first)
        t = (words * self.schedule.num_steps) >> 32
        noises = [
            philox_normal(x.shape, noise_key, first_element=first_element, dtype=x.dtype)
            for noise_key in noise_keys
        ]
        noise_std, scale, step, factor, weight = self._rows(t, x.dtype)
        beside = (-1, *(1,) * (x.dim() - 1))
        y = scale.reshape(beside) * self.schedule.diffuse(x, t, noise=noises[0])
        spread = self.schedule.step_std(t).to(x.dtype).reshape(beside)
        noisy = y + spread * noises[1]
        if self.is_last_marginal:
            is_marginal = (t == self.schedule.num_steps - 1).reshape(beside)
            noisy = torch.where(is_marginal, noises[1], noisy)
        with held_norms(self.energy, advance=True):  # one energy in the chains and in both terms
            level = LevelEnergy(self.energy, t, factor)
            # Its steps share the normalised weights; the loss needs others, with a graph.
            with parametrize.cached():
                if self.num_steps == 0:
                    samples = normal_approximation(
                        level, noisy, noise_std, key=key, first_element=first_element
                    )
                else:
                    chains = Langevin(RecoveryEnergy(level, noisy, noise_std), step**2 / 2, step)
                    samples = chains.sample(
                        noisy, self.num_steps, key=key, first_element=first_element
                    )
            weighted = LevelEnergy(self.energy, t, weight)
            return contrastive_loss(weighted, y, samples, energy_penalty=self.energy_penalty)

    def sample(
        self,
        num: int,
        *,
        return_trajectory: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        noise: DiffusionNoise | None = None,
    ) -> Tensor:
        """`num` samples by way of all levels, from noise on (Algorithm 3).

        Args:
            num: number of samples.
            return_trajectory: return the states x_T, …, x_0 of all levels.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of samples before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.
            noise: all noise, such as of `draw_noise`: no other is drawn. With the noise of a key
                the samples are those of the key, bit for bit.

        Returns:
            x_0 [num, *shape], or [T + 1, num, *shape] from x_T to x_0.

        Raises:
            ValueError: for noise of another shape, or beside a key, a generator or `first`.
        """
        if noise is not None:
            if key is not None or generator is not None or first:
                raise ValueError(
                    "DiffusionRecoveryEBM.sample: got noise beside a key, a generator or first; "
                    "expected either, since the noise is all that is random"
                )
            self._check_noise(num, noise)
            x = noise.start
        else:
            key = self._key(key, generator)
            x = self._start(num, key, first)
        return self._descend(x, return_trajectory, key=key, first=first, noise=noise)

    def draw_noise(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> DiffusionNoise:
        """The noise of which `sample(num, key=key, first=first)` is a function.

        Its memory is that of T·max(K, 1) + 1 samples.

        Example:
            >>> from gencore.nn import TimeMLPEnergy
            >>> ebm = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), NoiseSchedule([0.2, 0.5]))
            >>> key = random_key()
            >>> noise = ebm.draw_noise(4, key=key)
            >>> torch.equal(ebm.sample(4, noise=noise), ebm.sample(4, key=key))
            True
        """
        key = self._key(key, generator)
        start = self._start(num, key, first)
        steps = start.new_empty((*self._noise_lead, *start.shape))
        first_element = first * math.prod(self.shape)
        for t, of_level in enumerate(steps):
            level_keys = split_key(self._level_key(key, t), len(of_level))
            for of_step, step_key in zip(of_level, level_keys, strict=True):
                of_step.copy_(
                    philox_normal(
                        start.shape, step_key, first_element=first_element, dtype=start.dtype
                    )
                )
        return DiffusionNoise(start, steps)

    def interpolate(
        self, noise: DiffusionNoise, other: DiffusionNoise, weights: Sequence[float]
    ) -> Tensor:
        """Samples on the way from one sample to another (Gao 2021, §2.3.5.1).

        The starts and the noises of every step are interpolated spherically, by `slerp`. Weights 0
        and 1 give the two samples bit for bit.

        Args:
            noise, other: of the two ends, each of [num, *shape] samples.
            weights: of the other end.

        Returns:
            [len(weights), num, *shape].

        Raises:
            ValueError: for noise of another shape.

        Example:
            >>> from gencore.nn import TimeMLPEnergy
            >>> ebm = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), NoiseSchedule([0.2, 0.5]))
            >>> ebm.interpolate(ebm.draw_noise(4), ebm.draw_noise(4), (0.0, 0.5, 1.0)).shape
            torch.Size([3, 4, 2])
        """
        num = len(noise.start)
        for end in (noise, other):
            self._check_noise(num, end)
        # Each weight as a batch of its own: sums may round differently in batches of other sizes.
        ends = [self.sample(num, noise=noise.slerp(other, weight)) for weight in weights]
        return torch.stack(ends) if ends else noise.start.new_empty((0, *noise.start.shape))

    def inpaint(
        self,
        x: Tensor,
        is_free: Tensor,
        *,
        num_repeats: int = 1,
        return_trajectory: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Free elements of data filled in, given the others (Gao 2021, §2.3.5.1).

        At level t the observed elements have the noise of that level: they take one path of the
        diffusion from x. The chains of `sample` move the free elements, given those. A level's
        chains know the data only through its own noise and the next level's, so the result lies
        between the marginal and the conditional distribution, with many levels too. Repeats mend
        that. Each diffuses x_t to x_{t+1} again and undoes it again, which leaves
        p(free | observed) at level t as it is and brings the chains to it.

        Args:
            x: [N, *shape]; free elements are not looked at.
            is_free: bool, of a shape that broadcasts to that of x.
            num_repeats: how often each level but a marginal one is undone, at least 1.
            return_trajectory: return the states x_T, …, x_0 of all levels.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]. If everything is free, the result for one repeat is
                `sample(N, key=key)`.
            first: number of rows of the processes before this one.

        Returns:
            x_0 [N, *shape] with the observed elements of x bit for bit, or [T + 1, N, *shape] from
            x_T to x_0.

        Raises:
            TypeError: if `is_free` is not bool.
            ValueError: for data of another shape, observed elements that are not finite, or no
                repeat.

        Example:
            >>> from gencore.nn import TimeMLPEnergy
            >>> ebm = DiffusionRecoveryEBM(TimeMLPEnergy(2), (2,), NoiseSchedule([0.2, 0.5]))
            >>> x = ebm.inpaint(torch.ones(4, 2), torch.tensor([[False, True]]))
            >>> x[:, 0]
            tensor([1., 1., 1., 1.])

        References:
            Lugmayr, Danelljan, Romero, Yu, Timofte and Van Gool, "RePaint: inpainting using
            denoising diffusion probabilistic models", 2022, for the repeats.
        """
        self._check_points("inpaint", x)
        check_count("DiffusionRecoveryEBM.inpaint", "num_repeats", num_repeats, least=1)
        key = self._key(key, generator)
        whole = ConditionalEnergy(self.level_energy(0), x, is_free)  # it checks what is given
        observed = whole.complete(torch.zeros_like(x))
        last = torch.full((len(x),), self.schedule.num_steps, device=x.device)
        path_key = split_key(stream_key(key, "diffusion"), self.schedule.num_steps + 1)
        first_element = first * math.prod(self.shape)
        later = self.schedule.diffuse(observed, last, key=path_key[-1], first_element=first_element)
        start = torch.where(is_free, self._start(len(x), key, first), later)

        def given(x_next: Tensor, t: int) -> Tensor:
            """The observed elements at level t, on a path from x to their state at the next."""
            mean, std = self.schedule.step_posterior(observed, x_next, t)
            if std == 0:
                return mean
            noise = philox_normal(x.shape, path_key[t], first_element=first_element, dtype=x.dtype)
            return mean + std * noise

        return self._descend(
            start,
            return_trajectory,
            key=key,
            first=first,
            given=given,
            is_free=is_free,
            num_repeats=num_repeats,
        )

    def level_energy(self, t: int) -> Energy:
        """The energy y → E_θ(y, t) of level t, of y_t = `level_scale(t)`·x_t.

        Raises:
            ValueError: for a level that is not from 0 to T − 1.
        """
        return LevelEnergy(self.energy, self._checked("level_energy", t), self._levels[t].factor)

    def level_scale(self, t: int) -> float:
        """The factor of x_t in the argument of level t's energy: a_t, or 1 at a marginal level.

        Raises:
            ValueError: for a level that is not from 0 to T − 1.
        """
        return self._levels[self._checked("level_scale", t)].scale

    def step_std(self, t: int) -> float:
        """δ_t, the standard deviation of the noise of level t's Langevin steps in training.

        Raises:
            ValueError: for a level that is not from 0 to T − 1.
        """
        return self._levels[self._checked("step_std", t)].step

    def extra_repr(self) -> str:
        return (
            f"shape={self.shape}, schedule={self.schedule}, num_steps={self.num_steps}, "
            f"step_factor={self.step_factor:g}, is_last_marginal={self.is_last_marginal}"
        )

    # Levels.

    def _made_levels(self, factors: list[float], weights: list[float]) -> list[_Level]:
        levels = []
        for variance, factor, weight in zip(
            self.schedule.variances.tolist(), factors, weights, strict=True
        ):
            noise_std = math.sqrt(variance)
            step = self.step_factor * factor * noise_std
            output_factor = 1 / step**2 if self.is_output_per_step else 1.0
            scale = math.sqrt(1 - variance)
            levels.append(_Level(noise_std, scale, step, output_factor, weight))
        if self.is_last_marginal:
            levels[-1] = levels[-1]._replace(noise_std=math.inf, scale=1.0)
        return levels

    def _rows(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The constants of rows' levels, each [N]."""
        if t.device not in self._tables:
            table = torch.tensor(self._levels, dtype=torch.float64, device="cpu")
            self._tables[t.device] = table.to(t.device)
        return self._tables[t.device][t].to(dtype).unbind(1)

    def _checked(self, method: str, t: int) -> int:
        t = index(f"DiffusionRecoveryEBM.{method}", "t", t)
        if t >= self.schedule.num_steps:
            raise ValueError(
                f"DiffusionRecoveryEBM.{method}: t is {t}; expected 0 to "
                f"{self.schedule.num_steps - 1}"
            )
        return t

    # The way down.

    @property
    def _noise_lead(self) -> tuple[int, int]:
        return self.schedule.num_steps, max(self.num_steps, 1)

    def _key(self, key: Tensor | None, generator: Generator | None) -> Tensor:
        key = random_key(generator, device=like(self).device) if key is None else key
        return stream_key(key, "samples")

    def _start(self, num: int, key: Tensor, first: int) -> Tensor:
        return normal_starts(self, num, self.shape, key=key, first=first)

    def _level_key(self, key: Tensor, t: int, repeat: int = 0) -> Tensor:
        """The key of the first step at level t; those of its other steps follow it."""
        num_levels, num_draws = self._noise_lead
        place = repeat * num_levels + num_levels - 1 - t
        return torch.stack([key[0], key[1] + place * num_draws])

    def _descend(
        self,
        x: Tensor,
        return_trajectory: bool,
        *,
        key: Tensor | None,
        first: int,
        noise: DiffusionNoise | None = None,
        given: Callable[[Tensor, int], Tensor] | None = None,
        is_free: Tensor | None = None,
        num_repeats: int = 1,
    ) -> Tensor:
        """x_0, or all states, from x_T; `given` says what the elements are that are not free."""
        first_element = first * math.prod(self.shape)
        path = [x]
        with torch.no_grad(), held_norms(self.energy), parametrize.cached():
            for t in reversed(range(self.schedule.num_steps)):
                level, later = self._levels[t], x
                observed = None if given is None else given(later, t)
                for repeat in range(1 if math.isinf(level.noise_std) else num_repeats):
                    if repeat:
                        assert key is not None
                        draw = self._level_key(stream_key(key, "diffusion"), t, repeat + 1)
                        later = level.scale * x + level.noise_std * philox_normal(
                            x.shape, draw, first_element=first_element, dtype=x.dtype
                        )
                    x = self._undone(later, t, key, first_element, noise, observed, is_free, repeat)
                path.append(x)
        return torch.stack(path) if return_trajectory else x

    def _undone(
        self,
        later: Tensor,
        t: int,
        key: Tensor | None,
        first_element: int,
        noise: DiffusionNoise | None,
        observed: Tensor | None,
        is_free: Tensor | None,
        repeat: int,
    ) -> Tensor:
        """x_t given x_{t+1}, and what is observed of x_t."""
        level = self._levels[t]
        energy = self.level_energy(t)
        if observed is not None and is_free is not None:
            energy = ConditionalEnergy(energy, level.scale * observed, is_free)
        steps = None if noise is None else noise.steps[t]
        step_key = None if key is None else self._level_key(key, t, repeat)
        if self.num_steps == 0:
            if steps is None:
                assert step_key is not None
                steps = philox_normal(
                    (1, *later.shape), step_key, first_element=first_element, dtype=later.dtype
                )
            y = normal_approximation(
                energy, later, level.noise_std, noise=self.noise_factor * steps[0]
            )
        else:
            if not math.isinf(level.noise_std):
                energy = RecoveryEnergy(energy, later, level.noise_std)
            chains = Langevin(energy, level.step**2 / 2, self.noise_factor * level.step)
            if steps is None:
                y = chains.sample(later, self.num_steps, key=step_key, first_element=first_element)
            else:
                y = _with_noise(chains, later, steps)
        x = y / level.scale
        return x if observed is None or is_free is None else torch.where(is_free, x, observed)

    # What is given.

    def _check_points(self, method: str, x: Tensor) -> None:
        if x.shape[1:] != self.shape or x.dim() != len(self.shape) + 1:
            raise ValueError(
                f"DiffusionRecoveryEBM.{method}: x has shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.shape))}]"
            )

    def _check_noise(self, num: int, noise: DiffusionNoise) -> None:
        shape = (num, *self.shape)
        steps = (*self._noise_lead, *shape)
        if noise.start.shape != shape or noise.steps.shape != steps:
            raise ValueError(
                f"DiffusionRecoveryEBM: noise has a start of shape {list(noise.start.shape)} and "
                f"steps {list(noise.steps.shape)}; expected {list(shape)} and {list(steps)}"
            )


def _with_noise(chains: Langevin, x: Tensor, noise: Tensor) -> Tensor:
    """The chains' end after steps of given noise [K, N, ...]."""
    x = x.clone()
    for of_step in noise:
        _, grad = energy_and_grad(chains.energy, x, owner="DiffusionRecoveryEBM")
        langevin_step_(x, grad, chains.step_size, chains.noise_scale, noise=of_step)
    return x


def _per_level(
    owner: str, name: str, values: Sequence[float] | None, schedule: NoiseSchedule
) -> list[float]:
    if values is None:
        return [1.0] * schedule.num_steps
    if len(values) != schedule.num_steps:
        raise ValueError(
            f"{owner}: {name} are {len(values)} for {schedule.num_steps} levels; expected one each"
        )
    return [_positive(owner, f"one of {name}", value) for value in values]


def _positive(owner: str, name: str, value: float) -> float:
    value = finite(owner, name, value)
    if not value > 0:
        raise ValueError(f"{owner}: {name} is {value:g}; expected a positive number")
    return value


_T1K: dict[str, Any] = {"schedule": NoiseSchedule.linear(), "num_steps": 0}


def released_settings(levels: Sequence[int] = (0, 101, 201, 301, 401, 501, 1000)) -> dict[str, Any]:
    """Facts of the authors' program, in the terms of this class, for some of the 1000 steps."""
    fine = NoiseSchedule.linear()
    schedule = fine.merged(levels)
    # Their level 0 is the first of the 1000 steps, with noise of 0.01.
    noise_stds = (1 - fine.mean_scales[[1, *levels[1:-1]]] ** 2).sqrt()
    stds = schedule.variances.sqrt()
    return {
        "schedule": schedule,
        "num_steps": 30,
        "step_factor": math.sqrt(2e-4),
        "is_last_marginal": True,
        "level_factors": (noise_stds / noise_stds[0]).sqrt().tolist(),
        "is_output_per_step": True,
        "level_weights": (stds[0] / stds).tolist(),
        "noise_factor": 0.99,
    }
