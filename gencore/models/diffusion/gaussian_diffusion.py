"""The diffusion model: Gaussian steps that undo those which turned data into noise."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.diffusion.gaussian_steps import GaussianSteps
from gencore.models.diffusion.names import DiffusionLoss, Prediction, ReverseVariance
from gencore.models.diffusion.noise_schedule import NoiseSchedule
from gencore.models.starts import like, normal_starts
from gencore.nn.evaluating import evaluating
from gencore.nn.likelihoods.discretized_normal import discretized_normal_log_prob
from gencore.ops import philox_normal, philox_words, random_key, split_key
from gencore.ops._support.checks import bounds, check_count, number
from gencore.ops._support.checks import shape as checked_shape
from gencore.ops.random import stream_key

__all__ = ["DiffusionBound", "GaussianDiffusion"]


class DiffusionBound(NamedTuple):
    """The terms of the variational bound of log p(x₀), in nats, each an average over one draw."""

    prior: Tensor
    """[N]: KL(q(x_T | x₀) ‖ N(0, I)), exactly."""
    steps: Tensor
    """[N, K - 1]: KL(q(x_s | x_t, x₀) ‖ p(x_s | x_t)) of each step but that from the data."""
    reconstruction: Tensor
    """[N]: log p(x₀ | x_t) of the step from the data."""

    @property
    def total(self) -> Tensor:
        """[N]: reconstruction less all divergences; its expectation is at most log p(x₀)."""
        return self.reconstruction - self.steps.sum(1) - self.prior


class _Reverse(NamedTuple):
    """p(x_s | x_t), of rows."""

    start: Tensor
    """x̂₀, what the network takes the data for, [N, ...]."""
    mean: Tensor
    """[N, ...]."""
    log_variance: Tensor
    """[N, 1, ...], or [N, ...] of learned variances."""


class GaussianDiffusion(nn.Module):
    r"""A diffusion model: a chain of Gaussians from noise to data, x_T ~ N(0, I) to x₀.

    .. math:: p_\theta(x_{t-1} \mid x_t) = N(\mu_\theta(x_t, t), \sigma_t^2 I), \quad
              \mu_\theta(x_t, t) = c_0 \hat x_0 + c_t x_t

    c₀ and c_t are those of the posterior q(x_{t−1} | x_t, x₀) (`GaussianSteps`), and x̂₀ is what the
    network takes the data for. By default it predicts the noise of x_t = ā_t x₀ + √(1 − ā_t²) ε,
    so that x̂₀ = (x_t − √(1 − ā_t²) ε̂)/ā_t. The bound of the likelihood is

    .. math:: \log p_\theta(x_0) \ge -KL(q(x_T | x_0) \,\|\, N(0, I))
        - \sum_{t=2}^T \mathbb E\, KL(q(x_{t-1} | x_t, x_0) \,\|\, p_\theta(x_{t-1} | x_t))
        + \mathbb E \log p_\theta(x_0 | x_1)

    A call is the training loss, so this module as a whole is what Fabric or DistributedDataParallel
    wraps. With ``levels`` samples and bounds skip levels of the schedule: the same network then
    serves a chain of fewer steps.

    Args:
        network: (x_t [N, *shape], t int64 [N]) → what it predicts, [N, *shape]. Levels t go from
            1 to T.
        shape: shape of one data point.
        schedule: of the noise.
        predicts: "noise", ε; "start", x₀; or "mean", that of q(x_{t−1} | x_t, x₀).
        loss: "simple" is the mean squared error of what the network predicts; "bound" is minus an
            unbiased estimate of the bound, in nats a dimension, at one random level a row.
        variance: σ² of a step: "step", β; "posterior", β̃; or "learned": the network has twice the
            channels, and sigmoid(v) of the second half is the weight of log β against log β̃.
        bound_weight: weight of the bound in the simple loss, where the variances are learned; it
            moves these alone.
        bins: number B of grey levels of data in [−1, 1], whose probability the bound is about:
            p(x₀ | x₁) is rounded to them. Without it data are real numbers with a density.
        clamp: lowest and highest value of x̂₀ in samples and bounds.

    Raises:
        ValueError: for another choice, a negative weight or fewer than two bins.

    Example:
        >>> from gencore.models import NoiseSchedule
        >>> from gencore.nn import DenoisingMLP
        >>> schedule = NoiseSchedule.linear(100, last=0.2)
        >>> diffusion = GaussianDiffusion(DenoisingMLP(2, [64, 64]), (2,), schedule)
        >>> x = torch.randn(16, 2)
        >>> diffusion(x).backward()
        >>> diffusion.sample(4, levels=range(0, 101, 10)).shape
        torch.Size([4, 2])
        >>> diffusion.bound(x).total.shape
        torch.Size([16])

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, "Deep unsupervised learning using
        nonequilibrium thermodynamics", 2015; Ho, Jain and Abbeel, "Denoising diffusion
        probabilistic models", 2020, (2)-(14); Nichol and Dhariwal, "Improved denoising diffusion
        probabilistic models", 2021, (15)-(16) (learned variances); Song, Meng and Ermon, "Denoising
        diffusion implicit models", 2021, (12) and (16) (fewer steps); Bao, Li, Zhu and Zhang,
        "Analytic-DPM", 2022 (optimal variances).
    """

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        schedule: NoiseSchedule,
        *,
        predicts: Prediction = "noise",
        loss: DiffusionLoss = "simple",
        variance: ReverseVariance = "posterior",
        bound_weight: float = 0.001,
        bins: int | None = None,
        clamp: tuple[float | None, float | None] | None = None,
    ) -> None:
        super().__init__()
        name = "GaussianDiffusion"
        if not isinstance(schedule, NoiseSchedule):
            raise TypeError(
                f"{name}: schedule is a {type(schedule).__name__}; expected a NoiseSchedule"
            )
        check_choice(name, "predicts", predicts, get_args(Prediction))
        check_choice(name, "loss", loss, get_args(DiffusionLoss))
        check_choice(name, "variance", variance, get_args(ReverseVariance))
        if bins is not None:
            check_count(name, "bins", bins, least=2)
        self.network = network
        self.shape = tuple(checked_shape(name, shape))
        self.schedule = schedule
        self.predicts: Prediction = predicts
        self.loss: DiffusionLoss = loss
        self.variance: ReverseVariance = variance
        self.bound_weight = number(name, "bound_weight", bound_weight)
        self.bins = bins
        self.clamp = bounds(name, clamp)
        # Those of all levels, and the last others, which a loop of samples asks for again.
        self._cached_steps: dict[bool, tuple[Any, GaussianSteps]] = {}

    def forward(
        self,
        x: Tensor,
        *,
        t: Tensor | None = None,
        noise: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The training loss, a mean over rows and dimensions.

        Args:
            x: data, [N, *shape].
            t: levels, int64 [N], 1 to T; uniform where they are missing.
            noise: ε, [N, *shape]; drawn where it is missing.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of levels and noise.
            first: number of rows of the processes before this one.

        Returns:
            Scalar.

        Raises:
            ValueError: for data, levels, noise or predictions that do not fit.
        """
        self._check_data("GaussianDiffusion", x)
        num, last = len(x), self.schedule.num_steps
        if key is None and (t is None or noise is None):
            key = random_key(generator, device=x.device)
        if key is not None:
            level_key, noise_key = split_key(key, 2)
        if t is None:
            words = philox_words((num,), level_key, first_element=first)
            t = 1 + (words * last >> 32)  # of 32 bits, so that each level is as likely
        elif t.device.type == "cpu" and not bool(((t >= 1) & (t <= last)).all()):
            raise ValueError(f"GaussianDiffusion: t has levels outside 1 to {last}")
        if noise is None:
            first_element = first * x[:1].numel()
            noise = philox_normal(x.shape, noise_key, first_element=first_element, dtype=x.dtype)
        noisy = self.schedule.diffuse(x, t, noise=noise)
        steps, step = self._steps(None, x.device), t - 1
        output, weight = self._predict(noisy, t)
        if self.loss == "bound":
            reverse = self._reverse(noisy, step, steps, output, weight, clamped=False)
            terms = self._any_term(x, noisy, step, steps, reverse)
            return (last * terms + self._prior(x)).mean() / math.prod(self.shape)
        target = {
            "noise": lambda: noise,
            "start": lambda: x,
            "mean": lambda: _posterior_mean(x, noisy, step, steps),
        }[self.predicts]()
        loss = (output - target).square().mean()
        if weight is None:
            return loss
        reverse = self._reverse(noisy, step, steps, output.detach(), weight, clamped=False)
        terms = self._any_term(x, noisy, step, steps, reverse)
        return loss + self.bound_weight * last * terms.mean() / math.prod(self.shape)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        levels: Sequence[int] | None = None,
        eta: float | None = None,
        variances: Tensor | None = None,
        final_noise: bool = False,
        return_trajectory: bool = False,
        noise: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples, from x_T ~ N(0, I) down to the data, without dropout and alike.

        Args:
            num: number of samples.
            levels: that the chain visits, ascending from 0; all of them where they are missing.
            eta: η of the implicit model, whose steps have the variance η²β̃ and the mean that keeps
                x_s at its level: 0 is deterministic, 1 the posterior variance.
            variances: σ² of each step, ascending, [K], in place of the model's: of
                `optimal_variances`.
            final_noise: draw x₀ from the last Gaussian instead of returning its mean, as Ho et al.
                do.
            return_trajectory: return the states of all levels, [K + 1, num, *shape], x_T first.
            noise: x_T and each step's noise, [K + 1, num, *shape]; drawn where it is missing.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the starts and the noise of the steps.
            first: number of samples before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.

        Returns:
            [num, *shape].

        Raises:
            ValueError: for levels, an η, variances or noise that do not fit.
        """
        of = like(self)
        steps = self._steps(levels, of.device)
        if eta is not None:
            if number("GaussianDiffusion.sample", "eta", eta) > 1:
                raise ValueError(f"GaussianDiffusion.sample: eta is {eta}; expected from 0 to 1")
            if variances is not None:
                raise ValueError(
                    "GaussianDiffusion.sample: got eta and variances; expected one of them"
                )
        self._check_variances("GaussianDiffusion.sample", variances, steps)
        size = (len(steps) + 1, num, *self.shape)
        if noise is not None and noise.shape != torch.Size(size):
            raise ValueError(
                f"GaussianDiffusion.sample: noise has shape {list(noise.shape)}; expected "
                f"{list(size)}, x_T and the noise of each step"
            )
        if noise is None:
            key = random_key(generator, device=of.device) if key is None else key
            start_key, chain_key = split_key(stream_key(key, "samples"), 2)
            x = normal_starts(self, num, self.shape, key=start_key, first=first)
            keys = split_key(chain_key, len(steps))
        else:
            x, keys = noise[0], ()
        states = [x]
        with evaluating(self):
            for count, place in enumerate(reversed(range(len(steps)))):
                mean, std = self._downward(x, place, steps, eta, variances)
                if place or final_noise:
                    if noise is None:
                        first_element = first * math.prod(self.shape)
                        step_noise = philox_normal(
                            x.shape, keys[count], first_element=first_element, dtype=x.dtype
                        )
                    else:
                        step_noise = noise[count + 1]
                    mean = mean + std * step_noise
                x = mean
                if return_trajectory:
                    states.append(x)
        return torch.stack(states) if return_trajectory else x

    def bound(
        self,
        x: Tensor,
        *,
        levels: Sequence[int] | None = None,
        variances: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> DiffusionBound:
        """The terms of the bound of log p(x₀), in nats, without dropout and alike.

        Each term is estimated without bias from one x_t a row; with `bins` they bound the
        logarithm of a probability, otherwise that of a density.

        Args:
            x: x₀, [N, *shape].
            levels: that the chain visits, ascending from 0; all of them where they are missing.
            variances: σ² of each step, ascending, [K], in place of the model's: of
                `optimal_variances`.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the noise.
            first: number of rows of the processes before this one.

        Raises:
            ValueError: for data, levels or variances that do not fit.
        """
        self._check_data("GaussianDiffusion.bound", x)
        steps = self._steps(levels, x.device)
        self._check_variances("GaussianDiffusion.bound", variances, steps)
        key = random_key(generator, device=x.device) if key is None else key
        divergences, reconstruction = [], x.new_zeros(len(x))
        with evaluating(self):
            for place, step_key in enumerate(split_key(key, len(steps))):
                noisy, step = self._noisy(x, place, steps, step_key, first)
                output, weight = self._predict(noisy, steps.level[step])
                reverse = self._reverse(
                    noisy, step, steps, output, weight, clamped=True, variances=variances
                )
                if place:
                    divergences.append(self._divergence(x, noisy, step, steps, reverse))
                else:
                    reconstruction = self._reconstruction(x, reverse)
        return DiffusionBound(
            prior=self._prior(x),
            steps=torch.stack(divergences, 1) if divergences else x.new_empty(len(x), 0),
            reconstruction=reconstruction,
        )

    @torch.no_grad()
    def optimal_variances(
        self,
        x: Tensor,
        *,
        levels: Sequence[int] | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """The variances of the steps, one a step, that maximise the bound of data.

            σ² = β̃ + c₀² E‖x₀ − x̂₀‖² / D

        Args:
            x: data, [N, *shape], that the expectation is an average over, one x_t a row.
            levels: that the chain visits, ascending from 0; all of them where they are missing.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the noise.

        Returns:
            [K], float64, for `sample` and `bound` with the same levels.

        Raises:
            ValueError: for data or levels that do not fit.
        """
        self._check_data("GaussianDiffusion.optimal_variances", x)
        steps = self._steps(levels, x.device)
        key = random_key(generator, device=x.device) if key is None else key
        errors = []
        with evaluating(self):
            for place, step_key in enumerate(split_key(key, len(steps))):
                noisy, step = self._noisy(x, place, steps, step_key, 0)
                output, weight = self._predict(noisy, steps.level[step])
                reverse = self._reverse(noisy, step, steps, output, weight, clamped=True)
                errors.append((x - reverse.start).double().square().mean())
        return steps.posterior_variance + steps.start_weight**2 * torch.stack(errors)

    def _steps(self, levels: Sequence[int] | None, device: torch.device) -> GaussianSteps:
        is_whole = levels is None
        levels = tuple(range(self.schedule.num_steps + 1) if levels is None else levels)
        if not levels or levels[-1] != self.schedule.num_steps:
            raise ValueError(
                f"GaussianDiffusion: levels end at {levels[-1] if levels else None}; expected the "
                f"last level, {self.schedule.num_steps}"
            )
        kept = self._cached_steps.get(is_whole)
        if kept is None or kept[0] != (levels, device):
            steps = GaussianSteps.between(self.schedule, levels).to(device)
            kept = self._cached_steps[is_whole] = ((levels, device), steps)
        return kept[1]

    def _noisy(
        self, x: Tensor, place: int, steps: GaussianSteps, key: Tensor, first: int
    ) -> tuple[Tensor, Tensor]:
        """x_t of the noisy end of one step, and that step for each row."""
        step = torch.full(x.shape[:1], place, device=x.device)
        first_element = first * x[:1].numel()
        noisy = self.schedule.diffuse(x, steps.level[step], key=key, first_element=first_element)
        return noisy, step

    def _predict(self, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the network predicts, and the weights of log β where variances are learned."""
        output = self.network(noisy, t)
        expected = list(noisy.shape)
        if self.variance == "learned":
            expected[1] *= 2
        if list(output.shape) != expected:
            raise ValueError(
                f"GaussianDiffusion: network(x, t) has shape {list(output.shape)} for x of shape "
                f"{list(noisy.shape)}; expected {expected}"
            )
        if self.variance != "learned":
            return output, None
        prediction, logits = output.chunk(2, 1)
        return prediction, logits.sigmoid()

    def _start(self, noisy: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """x̂₀ of what the network predicts."""
        # The mean is that of a step of the whole schedule, whatever steps are taken.
        steps, step = self._steps(None, noisy.device), t - 1
        if self.predicts == "noise":
            noise = _rows(steps.noise_std, step, noisy) * output
            return (noisy - noise) / _rows(steps.scale, step, noisy)
        if self.predicts == "mean":
            rest = output - _rows(steps.noisy_weight, step, noisy) * noisy
            return rest / _rows(steps.start_weight, step, noisy)
        return output

    def _reverse(
        self,
        noisy: Tensor,
        step: Tensor,
        steps: GaussianSteps,
        output: Tensor,
        weight: Tensor | None,
        *,
        clamped: bool,
        variances: Tensor | None = None,
    ) -> _Reverse:
        """p(x_s | x_t) of each row's step."""
        start = self._start(noisy, steps.level[step], output)
        if clamped:
            start = start.clamp(*self.clamp)
        if variances is not None:
            log_variance = _rows(variances.to(noisy.device).log(), step, noisy)
        elif self.variance == "posterior":
            log_variance = _rows(steps.positive_variance.log(), step, noisy)
        else:
            log_variance = _rows(steps.variance.log(), step, noisy)
        if weight is not None and variances is None:
            least = _rows(steps.positive_variance.log(), step, noisy)
            log_variance = torch.lerp(
                least.expand_as(weight), log_variance.expand_as(weight), weight
            )
        return _Reverse(start, _posterior_mean(start, noisy, step, steps), log_variance)

    def _divergence(
        self, x: Tensor, noisy: Tensor, step: Tensor, steps: GaussianSteps, reverse: _Reverse
    ) -> Tensor:
        """KL(q(x_s | x_t, x₀) ‖ p(x_s | x_t)) of each row's step, [N], where s > 0."""
        squares = (_posterior_mean(x, noisy, step, steps) - reverse.mean).square()
        log_variance = reverse.log_variance
        log_ratio = log_variance - _rows(steps.positive_variance.log(), step, noisy)
        terms = log_ratio + (-log_ratio).exp() - 1 + squares * (-log_variance).exp()
        return 0.5 * terms.flatten(1).sum(1)

    def _reconstruction(self, x: Tensor, reverse: _Reverse) -> Tensor:
        """log p(x₀ | x_t), [N], where s = 0."""
        log_variance = reverse.log_variance
        if self.bins is None:
            squares = (x - reverse.mean).square() * (-log_variance).exp()
            log_prob = -0.5 * (squares + log_variance + math.log(2 * math.pi))
        else:
            std = (0.5 * log_variance).exp()
            log_prob = discretized_normal_log_prob(x, reverse.mean, std, bins=self.bins)
        return log_prob.flatten(1).sum(1).to(x.dtype)

    def _any_term(
        self, x: Tensor, noisy: Tensor, step: Tensor, steps: GaussianSteps, reverse: _Reverse
    ) -> Tensor:
        """What each row's step takes from the bound, [N], whichever step it is."""
        return torch.where(
            step == 0,
            -self._reconstruction(x, reverse),
            self._divergence(x, noisy, step, steps, reverse),
        )

    def _prior(self, x: Tensor) -> Tensor:
        """KL(q(x_T | x₀) ‖ N(0, I)), [N]."""
        scale = self.schedule.mean_scales[-1].item()
        constant = -(scale**2) - math.log1p(-(scale**2))
        return 0.5 * ((scale * x).square() + constant).flatten(1).sum(1)

    def _downward(
        self,
        x: Tensor,
        place: int,
        steps: GaussianSteps,
        eta: float | None,
        variances: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the next state of samples."""
        step = torch.full(x.shape[:1], place, device=x.device)
        output, weight = self._predict(x, steps.level[step])
        reverse = self._reverse(x, step, steps, output, weight, clamped=True, variances=variances)
        if eta is None:
            return reverse.mean, (0.5 * reverse.log_variance).exp()
        variance = eta**2 * steps.posterior_variance[place].item()
        scale, before = steps.scale[place].item(), steps.scale_before[place].item()
        noise = (x - scale * reverse.start) / steps.noise_std[place].item()
        kept = math.sqrt(max(1 - before**2 - variance, 0.0))
        return before * reverse.start + kept * noise, x.new_tensor(math.sqrt(variance))

    def _check_data(self, owner: str, x: Tensor) -> None:
        if not x.is_floating_point():
            raise TypeError(f"{owner}: x is {x.dtype}; expected floating-point numbers")
        if x.shape[1:] != torch.Size(self.shape) or x.dim() != 1 + len(self.shape):
            raise ValueError(
                f"{owner}: x has shape {list(x.shape)}; expected [N, "
                f"{', '.join(map(str, self.shape))}]"
            )

    def _check_variances(self, owner: str, variances: Tensor | None, steps: GaussianSteps) -> None:
        if variances is not None and variances.shape != steps.variance.shape:
            raise ValueError(
                f"{owner}: variances have shape {list(variances.shape)}; expected one a step, "
                f"[{len(steps)}]"
            )
        if variances is not None and not bool((variances > 0).all()):
            raise ValueError(
                f"{owner}: a variance is {variances.min().item():g}; expected each positive"
            )

    def extra_repr(self) -> str:
        return (
            f"shape={self.shape}, schedule={self.schedule}, predicts={self.predicts!r}, "
            f"loss={self.loss!r}, variance={self.variance!r}, bins={self.bins}"
        )


def _rows(table: Tensor, step: Tensor, x: Tensor) -> Tensor:
    """The entries of each row's step, [N, 1, ...], beside rows x [N, ...]."""
    return table[step].to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))


def _posterior_mean(start: Tensor, noisy: Tensor, step: Tensor, steps: GaussianSteps) -> Tensor:
    """c₀ x₀ + c_t x_t."""
    start_weight = _rows(steps.start_weight, step, noisy)
    return start_weight * start + _rows(steps.noisy_weight, step, noisy) * noisy
