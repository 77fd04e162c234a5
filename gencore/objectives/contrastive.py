"""Contrastive objectives of an energy: its value at data against that at samples."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Generator, Tensor, nn
from torch import distributed as dist

from gencore.nn import stop_gradient
from gencore.nn.held_norms import held_norms
from gencore.ops import random_key
from gencore.ops._support.checks import check_coefficient
from gencore.samplers import ReplayBuffer
from gencore.samplers.energy import Energy, check_energies

__all__ = [
    "ChainKernel",
    "DivergenceError",
    "ShortRunLoss",
    "check_divergence",
    "contrastive_divergence",
    "contrastive_loss",
]


class Chains(Protocol):
    """What a sampler of `gencore.samplers` offers: chains that run for some steps."""

    def sample(
        self, x: Tensor, num_steps: int, *, key: Tensor | None = None, first_element: int = 0
    ) -> Tensor: ...


ChainKernel = Callable[[Energy], Chains]
"""Makes the sampler of an energy, like `partial(Langevin, step_size=0.1)`."""


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


def contrastive_loss(
    energy: Energy,
    x: Tensor,
    samples: Tensor,
    *,
    generator_weight: float = 0.0,
    energy_penalty: float = 0.0,
    weights: Tensor | None = None,
) -> ShortRunLoss:
    """The joint loss (2.25) of an energy's data x⁺ and of samples x⁻ = G_θ(x₀), with weights:

        E_θ(x⁺) − E_θ(G_sg(θ)(x₀)) + w·E_sg(θ)(G_θ(x₀)) + α·(E_θ(x⁺)² + E_θ(G_sg(θ)(x₀))²)

    Without the last two terms its gradient is that of the negative log-likelihood (2.13), where the
    samples are those of exp(−E_θ)/Z_θ. They are held fixed: with a derivative of the samples'
    distribution the difference would have another gradient.

    All terms see the same energy: a spectral norm in training makes one power iteration a call.

    Args:
        energy: E_θ, [N, ...] → [N]: a module where `generator_weight` is not 0.
        x: data x⁺, [N, ...].
        samples: x⁻ = G_θ(x₀), [M, ...], with its graph where `generator_weight` is not 0.
        generator_weight: w.
        energy_penalty: α.
        weights: importance weights [M] of the samples, 0 or more and of any sum: means over them
            become Σ wₘ(·)ₘ / Σ wₘ. No gradient goes through them.

    Raises:
        TypeError, ValueError: if the energies are not one real number a row, or for weights that
            are not.
        TypeError: for a `generator_weight` with an energy that is no module.

    Example:
        >>> import torch
        >>> energy = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.ones_(energy[0].weight)
        >>> samples, weights = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 1.0])
        >>> terms = contrastive_loss(energy, torch.tensor([[1.25]]), samples, weights=weights)
        >>> terms.loss.item()  # ¾·1 + ¼·2 = 1.25
        0.0

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.4, whose
        equation numbers are used; LeCun, Chopra, Hadsell, Ranzato and Huang, "A tutorial on
        energy-based learning", 2006.
    """
    if weights is not None:
        weights = _shares(weights, samples)
    if generator_weight and not isinstance(energy, nn.Module):
        raise TypeError(
            f"contrastive_loss: generator_weight is {generator_weight:g} with an energy of type "
            f"{type(energy).__name__}; expected a module, whose parameters can be held"
        )

    def mean(values: Tensor) -> Tensor:
        return values.mean() if weights is None else (weights.to(values.dtype) * values).sum()

    with held_norms(energy, advance=True):
        energy_data = energy(x)  # E_θ(x⁺)
        energy_samples = energy(samples.detach())  # E_θ(x⁻), x⁻ = G_sg(θ)(x₀)
        check_energies("contrastive_loss", "energy(x)", energy_data, x)
        check_energies("contrastive_loss", "energy(samples)", energy_samples, samples)
        loss = energy_data.mean() - mean(energy_samples)  # (2.13)
        if generator_weight and isinstance(energy, nn.Module):
            generator_loss = mean(stop_gradient(energy)(samples))  # (2.24)
            loss = loss + generator_weight * generator_loss  # (2.25)
    if energy_penalty:
        squares = energy_data.square().mean() + mean(energy_samples.square())
        loss = loss + energy_penalty * squares
    return ShortRunLoss(
        loss, energy_data.detach().mean(), mean(energy_samples.detach()), samples.detach()
    )


def _world_size() -> int:
    is_one_of_many = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if is_one_of_many else 1


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


def contrastive_divergence(
    energy: nn.Module,
    x: Tensor,
    kernel: ChainKernel,
    num_steps: int,
    *,
    start: Tensor | ReplayBuffer | None = None,
    energy_penalty: float = 0.0,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> ShortRunLoss:
    """The loss of samples that chains of K steps reach, from the data or from elsewhere.

    Its gradient is that of maximum likelihood (2.3), with the energy f = −E of the source,

        E[∂E_θ(x⁺)/∂θ] − E[∂E_θ(x⁻)/∂θ],   x⁻ ~ M_θ p₀,

    where M_θ is the kernel of the chains and p₀ the distribution of their starts:

    - the batch itself (`start` None): contrastive divergence (2.5), KL(p_data‖p_θ) −
      KL(M_θ p_data‖p_θ) but for the derivative of M_θ. For p_θ = p_data the expected gradient is 0
      where M_θ leaves p_θ invariant, as Metropolis-adjusted kernels do and `Langevin` nearly does;
    - a `ReplayBuffer`: persistent chains, which go on where they ended in the call before. With
      `reinit_fraction=0` and chains that began at data this is persistent contrastive divergence.
      The buffer is a module, so that a checkpoint keeps the chains;
    - a tensor: a cold start from samples of a fixed p₀ (2.6), such as noise.

    Args:
        energy: E_θ, [N, ...] → [N].
        x: data x⁺, [N, ...].
        kernel: makes the sampler of the energy.
        num_steps: K.
        start: as above; a tensor is [M, ...], a buffer has N chains or more.
        energy_penalty: as for `contrastive_loss`.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset] of the chains' noise and of the buffer's draw.
        first: number of chains that the processes before this one run.

    Raises:
        ValueError: for starts of another shape than the data's, and as the sampler does.
        RuntimeError: for a buffer in several processes, which have to put back what all of them
            gathered: draw and put beside this call, with `start` a tensor.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from gencore.nn import MLPEnergy
        >>> from gencore.samplers import Langevin
        >>> energy, x = MLPEnergy(2), torch.rand(16, 2)
        >>> kernel = partial(Langevin, step_size=0.1)
        >>> contrastive_divergence(energy, x, kernel, 1).loss.backward()
        >>> buffer = ReplayBuffer(100, (2,), reinit_fraction=0.0)
        >>> terms = contrastive_divergence(energy, x, kernel, 10, start=buffer)
        >>> bool((buffer.chains == terms.samples[0]).all(1).any())
        True

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence", 2002;
        Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
        gradient", 2008; Gao, "Effective Learning of Descriptive and Generator Models and Learning
        Representations for Grid Cells and V1 Cells", 2021, §2.1.2, whose equation numbers are used.
    """
    buffer = start if isinstance(start, ReplayBuffer) else None
    if buffer is not None and (world_size := _world_size()) > 1:
        raise RuntimeError(
            f"contrastive_divergence: start is a ReplayBuffer in {world_size} processes, each of "
            "which would put back its own chains only; draw from it and put back what all gathered "
            "beside this call, with start a tensor"
        )
    if key is None:
        key = random_key(generator, device=x.device)
    if buffer is not None:
        start, slots = buffer.draw(len(x), key=key)
    elif start is None:
        start = x
    assert isinstance(start, Tensor)
    if start.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"contrastive_divergence: start has shape {list(start.shape)} for x of shape "
            f"{list(x.shape)}; expected rows of the same shape, {list(x.shape[1:])}"
        )
    with held_norms(energy, advance=True):  # one energy in the chains and in both terms
        samples = kernel(energy).sample(
            start, num_steps, key=key, first_element=first * start[:1].numel()
        )
        terms = contrastive_loss(energy, x, samples, energy_penalty=energy_penalty)
    if buffer is not None:
        buffer.put(terms.samples, slots)
    return terms


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
        gencore.objectives.contrastive.DivergenceError: E(x⁺) = 5 and E(x⁻) = -4 differ by...
    """
    value, data, samples = (term.item() for term in (loss, energy_data, energy_samples))
    if not all(map(math.isfinite, (value, data, samples))):
        raise DivergenceError(f"the loss is {value:g}, E(x⁺) = {data:g} and E(x⁻) = {samples:g}")
    if abs(data - samples) > max_gap:
        raise DivergenceError(
            f"E(x⁺) = {data:g} and E(x⁻) = {samples:g} differ by more than {max_gap:g}"
        )
