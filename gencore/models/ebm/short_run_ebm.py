"""The energy-based model trained on short, non-persistent chains (Yan 2022, §2.4)."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from gencore.models.starts import like, normal_starts
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ShortRunLoss, contrastive_loss
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count, finite, number
from gencore.ops._support.checks import shape as checked_shape
from gencore.ops.random import stream_key
from gencore.samplers import Langevin

__all__ = ["ShortRunEBM"]


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
