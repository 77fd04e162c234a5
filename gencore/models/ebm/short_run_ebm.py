"""The energy-based model trained on short, non-persistent chains (Yan 2022, §2.4)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.starts import like, normal_starts
from gencore.nn import stop_gradient
from gencore.nn.held_norms import held_norms
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_coefficient, finite, number
from gencore.ops._support.checks import shape as checked_shape
from gencore.ops.random import stream_key
from gencore.samplers import Langevin
from gencore.samplers.chains import check_count
from gencore.samplers.energy import check_energies

__all__ = ["DivergenceError", "ShortRunEBM", "ShortRunLoss", "check_divergence", "contrastive_loss"]


class DivergenceError(RuntimeError):
    """The energies of data and samples drifted apart, or are not finite."""


class ShortRunLoss(NamedTuple):
    """The loss on one batch and what is worth watching of it; only `loss` carries a graph."""

    loss: Tensor
    """Scalar whose gradient trains the energy. With the generator loss its value says little."""
    energy_data: Tensor
    """Scalar: mean energy of the data, E(x⁺)."""
    energy_samples: Tensor
    """Scalar: mean energy of the samples, E(x⁻)."""
    samples: Tensor
    """[N, ...]: the samples x⁻ that the chains ended with."""


class ShortRunEBM(nn.Module):
    """An energy E_θ and the short chains that it is trained and sampled with.

    The density is p_θ(x) = exp(−E_θ(x)) / Z_θ (2.12). Samples G_θ(x₀) come from K steps of
    Langevin dynamics (2.15), or of gradient descent (2.20) where `noise_scale` is 0, from starts
    x₀ ~ N(0, I). Use the same K as in training: it is the chains' end points that learn the data's
    distribution, and not the density. In one dimension E = ½θx² with steps η/2 learns
    θ = (2/η)(1 − σ^(1/K)) from data of standard deviation σ, where the density would need 1/σ².

    A call is the training objective. It draws samples, evaluates the loss and returns a
    `ShortRunLoss`, so this module as a whole is what Fabric or DistributedDataParallel wraps.

    Args:
        energy: a network [N, *shape] → [N].
        shape: shape of one data point.
        num_steps: K.
        step_size: factor of the gradient in a step (η/2 in Yan's equations).
        noise_scale: standard deviation of a step's noise; 0 makes the sampler deterministic.
        start_scale: standard deviation of the chains' starts.
        grad_clamp: bound on the absolute value of each element of the sampler's gradient.
        clamp: lowest and highest value of the samples.
        generator_weight: weight w of the generator loss (2.24); 1 gives the joint loss (2.25).
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)² (Du and Mordatch 2019).

    Example:
        >>> import torch
        >>> from gencore.models import ConvEnergy
        >>> ebm = ShortRunEBM(ConvEnergy.preset("digits"), (1, 8, 8), num_steps=3)
        >>> x = torch.rand(16, 1, 8, 8)
        >>> ebm(x, ebm.start(16)).loss.backward()
        >>> ebm.sample(4).shape
        torch.Size([4, 1, 8, 8])

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.4, whose
        equation numbers are used; Nijkamp, Hill, Zhu and Wu, "Learning non-convergent
        non-persistent short-run MCMC toward energy-based model", 2019.
    """

    def __init__(
        self,
        energy: nn.Module,
        shape: Sequence[int],
        *,
        num_steps: int = 40,
        step_size: float = 0.1,
        noise_scale: float = 0.0,
        start_scale: float = 1.0,
        grad_clamp: float | None = None,
        clamp: tuple[float, float] | None = None,
        generator_weight: float = 0.0,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("ShortRunEBM", "num_steps", num_steps)
        for name, scale in (("noise_scale", noise_scale), ("start_scale", start_scale)):
            number("ShortRunEBM", name, scale)
        for name, weight in (
            ("generator_weight", generator_weight),
            ("energy_penalty", energy_penalty),
        ):
            finite("ShortRunEBM", name, weight)
        self.energy = energy
        self.shape = tuple(checked_shape("ShortRunEBM", shape))
        self.num_steps = num_steps
        self.step_size = step_size
        self.noise_scale = noise_scale
        self.start_scale = start_scale
        self.grad_clamp = grad_clamp
        self.clamp = clamp
        self.generator_weight = generator_weight
        self.energy_penalty = energy_penalty

    @property
    def dynamics(self) -> Langevin:
        """The sampler's step: (2.15) with noise, (2.20) without."""
        return Langevin(
            self.energy,
            self.step_size,
            self.noise_scale,
            grad_clamp=self.grad_clamp,
            clamp=self.clamp,
        )

    def forward(
        self,
        x: Tensor,
        start: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> ShortRunLoss:
        """The joint loss (2.25), with weights:

            E_θ(x) − E_θ(G_sg(θ)(x₀)) + w·E_sg(θ)(G_θ(x₀)) + α·(E_θ(x)² + E_θ(G_sg(θ)(x₀))²).

        Without the last two terms its gradient is that of maximum likelihood (2.13).

        Args:
            x: data x⁺, [N, *shape].
            start: where the chains start, [M, *shape]: from `start`, or from a
                `gencore.samplers.ReplayBuffer` for persistent chains.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the chains' noise.
            first: number of chains that the processes before this one run.
        """
        with held_norms(self.energy, advance=True):  # one energy in all terms
            samples = self.dynamics.sample(  # G_θ(x₀)
                start,
                self.num_steps,
                differentiable=self.generator_weight != 0 and torch.is_grad_enabled(),
                generator=generator,
                key=key,
                first=first,
            )
            return contrastive_loss(
                self.energy,
                x,
                samples,
                generator_weight=self.generator_weight,
                energy_penalty=self.energy_penalty,
            )

    def start(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Fresh starts x₀ of `num` chains, after `first` chains of other processes."""
        starts = normal_starts(self, num, self.shape, generator=generator, key=key, first=first)
        return self.start_scale * starts

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples, from the same number of steps as in training.

        Args:
            num: number of samples.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the starts and the noise of the steps.
            first: number of samples before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        start_key, chain_key = split_key(stream_key(key, "samples"), 2)
        start = self.start(num, key=start_key, first=first)
        return self.dynamics.sample(start, self.num_steps, key=chain_key, first=first)

    def extra_repr(self) -> str:
        return (
            f"shape={self.shape}, num_steps={self.num_steps}, step_size={self.step_size}, "
            f"noise_scale={self.noise_scale}, generator_weight={self.generator_weight}, "
            f"energy_penalty={self.energy_penalty}"
        )


def contrastive_loss(
    energy: nn.Module,
    x: Tensor,
    samples: Tensor,
    *,
    generator_weight: float = 0.0,
    energy_penalty: float = 0.0,
    weights: Tensor | None = None,
) -> ShortRunLoss:
    """The joint loss (2.25) of an energy's data and its sampler's output, as in `ShortRunEBM`.

    All terms see the same energy: a spectral norm in training makes one power iteration a call.

    Args:
        energy: E_θ, [N, ...] → [N].
        x: data x⁺, [N, ...].
        samples: x⁻ = G_θ(x₀), [M, ...], with its graph where `generator_weight` is not 0.
        generator_weight: w.
        energy_penalty: α.
        weights: importance weights [M] of the samples, 0 or more and of any sum: means over them
            become Σ wₘ(·)ₘ / Σ wₘ. No gradient goes through them.

    Raises:
        TypeError, ValueError: if the energies are not one real number a row, or for weights that
            are not.

    Example:
        >>> energy = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.ones_(energy[0].weight)
        >>> samples, weights = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 1.0])
        >>> terms = contrastive_loss(energy, torch.tensor([[1.25]]), samples, weights=weights)
        >>> terms.loss.item()  # ¾·1 + ¼·2 = 1.25
        0.0
    """
    if weights is not None:
        weights = _shares(weights, samples)

    def mean(values: Tensor) -> Tensor:
        return values.mean() if weights is None else (weights.to(values.dtype) * values).sum()

    with held_norms(energy, advance=True):
        energy_data = energy(x)  # E_θ(x⁺)
        energy_samples = energy(samples.detach())  # E_θ(x⁻), x⁻ = G_sg(θ)(x₀)
        check_energies("contrastive_loss", "energy(x)", energy_data, x)
        check_energies("contrastive_loss", "energy(samples)", energy_samples, samples)
        loss = energy_data.mean() - mean(energy_samples)  # (2.13)
        if generator_weight:
            generator_loss = mean(stop_gradient(energy)(samples))  # (2.24)
            loss = loss + generator_weight * generator_loss  # (2.25)
    if energy_penalty:
        squares = energy_data.square().mean() + mean(energy_samples.square())
        loss = loss + energy_penalty * squares
    return ShortRunLoss(
        loss, energy_data.detach().mean(), mean(energy_samples.detach()), samples.detach()
    )


def _shares(weights: Tensor, samples: Tensor) -> Tensor:
    """The weights [M], checked, over their sum."""
    name = "contrastive_loss"
    check_energies(name, "weights", weights, samples)
    weights = weights.detach()
    check_coefficient(name, "weights", weights, samples, positive=False)
    total = weights.sum()
    if weights.device.type == "cpu" and len(weights) > 0 and not total > 0:
        raise ValueError(f"{name}: weights are all 0; expected a positive one")
    return weights / total


def check_divergence(
    loss: Tensor, energy_data: Tensor, energy_samples: Tensor, *, max_gap: float
) -> None:
    """Raise where training has left the range from which it comes back.

    The losses of a healthy run oscillate about 0: the chains follow the energy as it changes. Once
    they lose it, the mean energies of data and samples run apart without a bound.

    Args:
        loss, energy_data, energy_samples: the scalars of a `ShortRunLoss`; with many processes,
            their averages, so that all processes raise together.
        max_gap: largest absolute difference of E(x⁺) and E(x⁻).

    Raises:
        DivergenceError: if the difference exceeds `max_gap` or one of the scalars is not finite.

    Example:
        >>> import torch
        >>> check_divergence(*torch.tensor([9.0, 5.0, -4.0]), max_gap=5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        gencore.models.ebm.short_run_ebm.DivergenceError: E(x⁺) = 5 and E(x⁻) = -4 differ by...
    """
    value, data, samples = (term.item() for term in (loss, energy_data, energy_samples))
    if not all(map(math.isfinite, (value, data, samples))):
        raise DivergenceError(f"the loss is {value:g}, E(x⁺) = {data:g} and E(x⁻) = {samples:g}")
    if abs(data - samples) > max_gap:
        raise DivergenceError(
            f"E(x⁺) = {data:g} and E(x⁻) = {samples:g} differ by more than {max_gap:g}"
        )
