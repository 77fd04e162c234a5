"""Langevin chains over the latents of data points, warm-started from where they stand."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gencore.inference.data_latents import DataLatents
from gencore.inference.latent_shapes import Latents, LatentShapes
from gencore.ops._support.checks import finite, index, number
from gencore.samplers.langevin import Langevin
from gencore.samplers.mala import MALA

__all__ = ["LatentChains", "LatentLangevin"]

LatentEnergy = Callable[[Latents], Tensor]


@dataclass(frozen=True)
class LatentLangevin:
    r"""Langevin dynamics on the posterior of latents z with a Gaussian prior.

    .. math:: z^{\tau+1} = z^\tau - \frac{\delta^2}{2}
              \Bigl(\frac{\partial E}{\partial z}(z^\tau) + \lambda z^\tau\Bigr)
              + \delta \varepsilon_\tau, \qquad \varepsilon_\tau \sim N(0, I) \qquad (3.4)

    E is what belongs to the data, −log p(x | z); the prior N(0, I/λ) is added in closed form by
    the fused step. Only the gradient by the latents is computed, and the results have no graph.

    Args:
        step_std: δ, the standard deviation of a step's noise.
        num_steps: l, steps of one call.
        noise: draw ε; without it this is gradient ascent of the posterior.
        metropolis: correct each step by the Metropolis-Hastings rule (MALA), all latents of a
            data point together. The chains then have no bias, and refuse steps that are too large.
        prior_precision: λ; 0 where E is the whole negative log joint density.

    Raises:
        ValueError: for settings that are negative, and a correction of steps without noise.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, (3.4).

    Example:
        >>> import torch
        >>> from gencore.inference import LatentLangevin
        >>> x = torch.full((2000, 1), 2.0)
        >>> energy = lambda latents: 0.5 * (latents["z"] - x).square().sum(1)
        >>> langevin = LatentLangevin(step_std=0.7, num_steps=50, metropolis=True)
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = langevin.sample(energy, {"z": torch.zeros(2000, 1)}, generator=generator)["z"]
        >>> round(z.mean().item(), 1), round(z.var().item(), 1)  # N(x/2, 1/2)
        (1.0, 0.5)
    """

    step_std: float = 0.03
    num_steps: int = 15
    noise: bool = True
    metropolis: bool = False
    prior_precision: float = 1.0

    def __post_init__(self) -> None:
        number("LatentLangevin", "step_std", self.step_std)
        index("LatentLangevin", "num_steps", self.num_steps)
        if finite("LatentLangevin", "prior_precision", self.prior_precision) < 0:
            raise ValueError(
                f"LatentLangevin: prior_precision is {self.prior_precision}; expected 0 or more"
            )
        if self.metropolis and not self.noise:
            raise ValueError(
                "LatentLangevin: metropolis=True corrects steps with noise, but noise is False"
            )

    def sample(
        self,
        energy: LatentEnergy,
        start: Mapping[str, Tensor],
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Latents:
        """Latents after `num_steps` steps from `start`, which is not changed.

        Args:
            energy: maps latents by name, each [N, ...], to E [N], each data point by itself.
            start: where the chains stand.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of data points before these, of other processes.

        Raises:
            TypeError, ValueError: for energies that are not [N] or do not depend on the latents.

        Warns:
            NonFiniteWarning: chains without a correction met NaN or infinity.
        """
        shapes = LatentShapes.of(start)
        rows, half = shapes.pack(start), 0.5 * self.prior_precision

        def data_energy(rows: Tensor) -> Tensor:
            return energy(shapes.unpack(rows))

        def whole_energy(rows: Tensor) -> Tensor:
            return data_energy(rows) + half * rows.square().sum(1)

        step_size = self.step_std**2 / 2
        sampler: Langevin | MALA
        if self.metropolis:
            sampler = MALA(whole_energy, step_size)
        else:
            sampler = Langevin(
                data_energy, step_size, math.sqrt(2 * step_size) if self.noise else 0.0,
                prior_precision=self.prior_precision,
            )  # fmt: skip
        moved = sampler.sample(rows, self.num_steps, generator=generator, key=key, first=first)
        return shapes.unpack(moved)


class LatentChains(nn.Module):
    """A chain over the latents of each of M data points, which goes on where it stood.

    A training step advances the chains of its batch, `advance`, and then the weights of the model
    with the latents held fixed. The table of rows is a buffer, which a checkpoint keeps; chains of
    data points that are not in a batch keep their bits.

    Args:
        start: latents of all data points, each [M, ...], such as `LatentShapes.normal` draws.
        gather: the parts of all processes as one tensor, as for `DataLatents`.

    Raises:
        TypeError, ValueError: as `DataLatents` and `LatentShapes`.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, Algorithm 4, line 3.

    Example:
        >>> import torch
        >>> from gencore.inference import LatentChains, LatentLangevin
        >>> chains = LatentChains({"noise": torch.zeros(100, 8, 2), "start": torch.zeros(100, 3)})
        >>> x = torch.ones(2, 8)
        >>> latents = chains.advance(
        ...     lambda z: (z["noise"].sum(2) + z["start"].sum(1, True) - x).square().sum(1),
        ...     torch.tensor([7, 3]), LatentLangevin(num_steps=5),
        ... )
        >>> latents["noise"].shape, bool((chains(torch.tensor([4]))["start"] == 0).all())
        (torch.Size([2, 8, 2]), True)
    """

    def __init__(
        self,
        start: Mapping[str, Tensor],
        *,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.shapes = LatentShapes.of(start)
        self.rows = DataLatents(self.shapes.pack(start), keep_state=False, gather=gather)

    def __len__(self) -> int:
        return len(self.rows)

    def forward(self, index: Tensor) -> Latents:
        """The latents of data points, copies of the rows of `index` [N]."""
        return self.shapes.unpack(self.rows(index))

    def advance(
        self,
        energy: LatentEnergy,
        index: Tensor,
        langevin: LatentLangevin,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Latents:
        """Move the chains of data points on from where they stand, and keep where they end.

        Args:
            energy: of the latents of these points, see `LatentLangevin.sample`.
            index: the points, int64 [N].
            langevin: the dynamics.
            generator, key, first: as of `LatentLangevin.sample`.

        Returns:
            The latents afterwards, without a graph.
        """
        latents = langevin.sample(energy, self(index), generator=generator, key=key, first=first)
        self.rows.write(index, self.shapes.pack(latents))
        return latents

    @torch.no_grad()
    def write(self, index: Tensor, latents: Mapping[str, Tensor]) -> None:
        """Put the chains of data points elsewhere."""
        self.rows.write(index, self.shapes.pack(latents))
