"""An energy that corrects a generator in its latent space (Yan 2022, §3.3.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from gencore.models.hybrids.exponential_tilting import (
    BALANCED_LANGEVIN,
    ExponentialTilting,
)
from gencore.models.starts import normal_starts
from gencore.objectives.contrastive import ChainKernel
from gencore.ops._support.checks import shape as checked_shape
from gencore.samplers.energy import Energy
from gencore.samplers.flow_base import normal_log_prob

__all__ = ["LatentEBM"]


@dataclass(frozen=True)
class LatentEnergy:
    """z ↦ E(G(z)) − log N(z; 0, I)."""

    energy: nn.Module
    decode: Callable[[Tensor], Tensor]

    def __call__(self, z: Tensor) -> Tensor:
        value: Tensor = self.energy(self.decode(z))
        return value - normal_log_prob(z)


class LatentEBM(ExponentialTilting):
    r"""The latents of a generator x = G(z), z ~ N(0, I), reweighted by an energy of the data.

    .. math:: p_\theta(z) = \frac{N(z; 0, I)\, e^{-E_\theta(G(z))}}{Z_\theta} \qquad (3.6)

    G is the decoder of a VAE, or a decoder after a flow; for a flow alone there is
    :class:`gencore.models.FlowBackboneEBM`. Samples stay on what G can generate. The normaliser is
    an integral of exp(−`chain_energy`), which :class:`gencore.samplers.AnnealedImportance`
    estimates.

    Args:
        base: G, a module of latents [N, *latent_shape]; it is frozen.
        energy: E_θ, a network of G's outputs → [N].
        latent_shape: shape of one z.
        kernel: makes the sampler of an energy; (3.8), Langevin dynamics with ε = 0.01, if not
            given.
        num_steps: of a chain.
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)².

    Raises:
        ValueError: for a negative number of steps.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (3.6) to (3.8).

    Example:
        >>> import torch
        >>> from gencore.models import LatentEBM
        >>> from gencore.nn import MLPEnergy
        >>> decoder = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(),
        ...                               torch.nn.Linear(8, 3))
        >>> ebm = LatentEBM(decoder, MLPEnergy(3), (2,), num_steps=3)
        >>> ebm(torch.randn(16, 3), ebm.start(16)).loss.backward()
        >>> ebm.sample(4, num_steps=5).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        base: nn.Module,
        energy: nn.Module,
        latent_shape: Sequence[int],
        *,
        kernel: ChainKernel = BALANCED_LANGEVIN,
        num_steps: int = 60,
        energy_penalty: float = 0.1,
    ) -> None:
        super().__init__(
            base, energy, kernel=kernel, num_steps=num_steps, energy_penalty=energy_penalty
        )
        self.latent_shape = tuple(checked_shape(type(self).__name__, latent_shape))

    @property
    def chain_energy(self) -> Energy:
        return LatentEnergy(self.energy, self.decode)

    def start(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        return normal_starts(
            self, num, self.latent_shape, generator=generator, key=key, first=first
        )

    def decode(self, z: Tensor) -> Tensor:
        """The data G(z) of latents."""
        x: Tensor = self.base(z)
        return x

    def _data(self, state: Tensor) -> Tensor:
        return self.decode(state)
