"""The recovery likelihood: an energy learns from noisy copies of the data where they came from."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ChainKernel, ShortRunLoss, contrastive_loss
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import finite
from gencore.samplers.energy import Energy, energy_and_grad

__all__ = [
    "RecoveryEnergy",
    "normal_approximation",
    "recovery_loss",
    "recovery_mean",
    "row_scale",
]


@dataclass(frozen=True, eq=False)
class RecoveryEnergy:
    """The energy of clean points y given noisy ones x̃ = y + σε, row by row.

        E(y | x̃) = E(y) + ‖x̃ − y‖² / (2σ²),   p(y | x̃) ∝ exp(−E(y | x̃))        (2.11)

    For small σ this density has one mode near x̃, however many exp(−E) has: chains from x̃ mix fast.
    As σ → ∞ it becomes exp(−E). Noisy copies x̃ = a·x + σε of scaled data are those of y = a·x.

    Args:
        energy: E, [N, ...] → [N].
        noisy: x̃, [N, ...].
        noise_std: σ, a number or one a row, [N].

    Raises:
        ValueError: for a σ that is not positive or of another shape, and on a call with points of
            another shape than `noisy`.

    Example:
        >>> energy = RecoveryEnergy(lambda y: 0.5 * y.square().sum(1), torch.ones(1, 2), 0.5)
        >>> energy(torch.zeros(1, 2))
        tensor([4.])

    References:
        Gao, Song, Poole, Wu and Kingma, "Learning energy-based models by diffusion recovery
        likelihood", 2021; Gao, "Effective Learning of Descriptive and Generator Models and Learning
        Representations for Grid Cells and V1 Cells", 2021, §2.3.1, whose equation numbers are used.
    """

    energy: Energy
    noisy: Tensor
    noise_std: float | Tensor

    def __post_init__(self) -> None:
        row_scale("RecoveryEnergy", self.noise_std, self.noisy)

    def __call__(self, y: Tensor) -> Tensor:
        self._check(y)
        scale = row_scale("RecoveryEnergy", self.noise_std, y)
        return self.energy(y) + 0.5 * ((self.noisy - y) / scale).flatten(1).square().sum(1)

    def energy_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """E(y | x̃) [N] and its gradient in y, (y − x̃)/σ² beside that of E."""
        self._check(y)
        scale = row_scale("RecoveryEnergy", self.noise_std, y)
        value, grad = energy_and_grad(self.energy, y, owner="RecoveryEnergy")
        apart = (y - self.noisy) / scale
        return value + 0.5 * apart.flatten(1).square().sum(1), grad + apart / scale

    def _check(self, y: Tensor) -> None:
        if y.shape != self.noisy.shape:
            raise ValueError(
                f"RecoveryEnergy: got points of shape {list(y.shape)}; expected "
                f"{list(self.noisy.shape)}, as noisy has"
            )


def recovery_mean(
    energy: Energy, noisy: Tensor, noise_std: float | Tensor, *, differentiable: bool = False
) -> Tensor:
    """The mean of the normal approximation of p(y | x̃), by one gradient of the energy (2.16):

        x̃ − σ²∇E(x̃)

    The approximation N(x̃ − σ²∇E(x̃), σ²I) (2.17) has errors of order σ⁴ in its mean and variance.
    Where exp(−E) is the density of the noisy points instead of the clean ones, this is the exact
    posterior mean (Tweedie's formula).

    Args:
        energy: E, [N, ...] → [N].
        noisy: x̃, [N, ...].
        noise_std: σ, a number or one a row, [N].
        differentiable: build a graph to `noisy` and to the energy's parameters.

    Returns:
        [N, ...].

    Raises:
        ValueError: for a σ that is not positive or of another shape.

    Example:
        >>> recovery_mean(lambda y: 0.5 * y.square().sum(1), torch.tensor([[2.0]]), 0.5)
        tensor([[1.5000]])

    References:
        Gao, 2021, §2.3.2.1; Efron, "Tweedie's formula and selection bias", 2011.
    """
    scale = row_scale("recovery_mean", noise_std, noisy)
    with held_norms(energy):
        _, grad = energy_and_grad(energy, noisy, create_graph=differentiable, owner="recovery_mean")
    start = noisy if differentiable else noisy.detach()
    return start - scale**2 * grad


def normal_approximation(
    energy: Energy,
    noisy: Tensor,
    noise_std: float | Tensor,
    *,
    noise: Tensor | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
) -> Tensor:
    """Samples of the normal approximation of p(y | x̃), without a graph (2.18):

        y = x̃ − σ²∇E(x̃) + σε,   ε ~ N(0, I)

    This is no Langevin step, whose noise for the same drift would be √2·σε.

    Args:
        energy, noisy, noise_std: as for `recovery_mean`.
        noise: ε, [N, ...]; drawn where it is missing.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset] of the noise.
        first_element: number of elements in the rows of the processes before this one.

    Returns:
        [N, ...].

    Raises:
        ValueError: as `recovery_mean`, and for noise of another shape than `noisy`.

    Example:
        >>> noise = torch.tensor([[1.0]])
        >>> normal_approximation(
        ...     lambda y: 0.5 * y.square().sum(1), torch.tensor([[2.0]]), 0.5, noise=noise
        ... )
        tensor([[2.]])
    """
    if noise is None:
        key = random_key(generator, device=noisy.device) if key is None else key
        noise = philox_normal(noisy.shape, key, first_element=first_element, dtype=noisy.dtype)
    elif noise.shape != noisy.shape:
        raise ValueError(
            f"normal_approximation: noise has shape {list(noise.shape)}; expected "
            f"{list(noisy.shape)}, as noisy has"
        )
    scale = row_scale("normal_approximation", noise_std, noisy)
    return recovery_mean(energy, noisy, noise_std) + scale * noise


def recovery_loss(
    energy: nn.Module,
    x: Tensor,
    noisy: Tensor,
    noise_std: float | Tensor,
    *,
    kernel: ChainKernel | None = None,
    num_steps: int = 0,
    energy_penalty: float = 0.0,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> ShortRunLoss:
    """The objective of the recovery log-likelihood log p_θ(x | x̃), a mean over the rows (2.12).

    Its gradient compares the energies of the data and of samples x⁻ of p_θ(· | x̃), since the term
    ‖x̃ − x‖²/(2σ²) of `RecoveryEnergy` does not depend on θ:

        E[∂E_θ(x)/∂θ] − E[∂E_θ(x⁻)/∂θ]

    The samples come from K steps of chains from x̃ (2.13), or from the normal approximation where
    there is no kernel. With samples of p_θ(x⁻ | x̃) the maximum is the density of the data; with
    the approximation it lies between that and the density of the noisy points.

    Args:
        energy: E_θ, [N, ...] → [N].
        x: data, [N, ...]; for noisy copies x̃ = a·x + σε, the scaled data a·x.
        noisy: x̃, [N, ...].
        noise_std: σ, a number or one a row, [N].
        kernel: makes the sampler of a `RecoveryEnergy`, like `partial(Langevin, step_size=…)`.
        num_steps: K, with a kernel.
        energy_penalty: as for `contrastive_loss`.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset] of the noise.
        first: number of rows of the processes before this one.

    Raises:
        ValueError: if `noisy` is not of the shape of `x`, for a kernel without steps or steps
            without a kernel, and as `RecoveryEnergy`.

    Example:
        >>> from functools import partial
        >>> from gencore.nn import MLPEnergy
        >>> from gencore.samplers import Langevin
        >>> energy, x = MLPEnergy(2), torch.rand(16, 2)
        >>> noisy = x + 0.3 * torch.randn(16, 2)
        >>> kernel = partial(Langevin.from_noise_std, noise_std=0.1)
        >>> recovery_loss(energy, x, noisy, 0.3, kernel=kernel, num_steps=20).loss.backward()

    References:
        Gao et al., 2021, Algorithm 1; Gao, 2021, §2.3.2, whose equation numbers are used; Bengio,
        Yao, Alain and Vincent, "Generalized denoising auto-encoders as generative models", 2013.
    """
    if noisy.shape != x.shape:
        raise ValueError(
            f"recovery_loss: noisy has shape {list(noisy.shape)}; expected {list(x.shape)}, as x "
            "has"
        )
    if (kernel is None) != (num_steps == 0):
        raise ValueError(
            f"recovery_loss: num_steps is {num_steps} {'without' if kernel is None else 'with'} a "
            "kernel; expected both, or neither for the normal approximation"
        )
    if key is None:
        key = random_key(generator, device=x.device)
    first_element = first * x[:1].numel()
    noisy = noisy.detach()
    with held_norms(energy, advance=True):  # one energy in the chains and in both terms
        if kernel is None:
            samples = normal_approximation(
                energy, noisy, noise_std, key=key, first_element=first_element
            )
        else:
            chains = kernel(RecoveryEnergy(energy, noisy, noise_std))
            samples = chains.sample(noisy, num_steps, key=key, first_element=first_element)
        return contrastive_loss(energy, x, samples, energy_penalty=energy_penalty)


def row_scale(owner: str, noise_std: float | Tensor, x: Tensor) -> float | Tensor:
    """σ as a number, or as [N, 1, ...] beside rows [N, ...], or raise on behalf of `owner`."""
    if not isinstance(noise_std, Tensor):
        value = finite(owner, "noise_std", noise_std)
        if not value > 0:
            raise ValueError(f"{owner}: noise_std is {value:g}; expected a positive number")
        return value
    if noise_std.shape not in (torch.Size([]), x.shape[:1]):
        raise ValueError(
            f"{owner}: noise_std has shape {list(noise_std.shape)} for x of shape "
            f"{list(x.shape)}; expected a number or one a row, [{x.shape[0]}]"
        )
    # Values on a GPU are not looked at: that would stop the host.
    if noise_std.device.type == "cpu" and not bool((noise_std > 0).all()):
        raise ValueError(
            f"{owner}: noise_std is {noise_std.min().item():g} in a row; expected it positive"
        )
    return noise_std.detach().to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))
