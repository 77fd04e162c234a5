"""The normalised density of an energy, and its score (Gao 2021, §2.1)."""

import math

from torch import Tensor, nn

from gencore.models.starts import like
from gencore.ops._support.checks import finite
from gencore.samplers.energy import Energy, energies, energy_and_grad

__all__ = ["EnergyDensity"]


class EnergyDensity(nn.Module):
    """The density of data x whose scaled copies y = a·x have the energy E:

        p(x) = aᴰ exp(−E(a·x)) / Z,   Z = ∫ exp(−E(y)) dy                       (2.1)

    The score ∇ log p(x) = −a∇E(a·x) does not need Z. What does is refused where Z is not known. In
    two dimensions `gencore.metrics.SquareGrid.log_integral` integrates it, and in more
    `gencore.samplers.AnnealedImportance` estimates it: on average too low, so that log-densities
    with its estimate are on average too high. The factor aᴰ belongs to models of data in other
    units, such as a diffusion's y = √(1 − σ²)·x.

    Noise-contrastive estimation learns log Z with the energy's parameters, as one number c that is
    free: p(x) = aᴰ exp(−E(a·x) − c) then integrates to 1 as far as it has learned to.

    Args:
        energy: E, [N, ...] → [N]; f = −E in the source.
        log_z: log Z in nats, where it is known.
        scale: a > 0.
        learned: whether log Z is a parameter, which starts at `log_z`.

    Raises:
        ValueError: for a scale that is not positive, a learned log Z without a value to start at,
            and by `log_prob` without `log_z`.

    Example:
        >>> import torch
        >>> from gencore.metrics import SquareGrid
        >>> from gencore.nn import MLPEnergy
        >>> energy, grid = MLPEnergy(2, prior_precision=1.0), SquareGrid(6.0, 100)
        >>> with torch.no_grad():
        ...     log_z = grid.log_integral(-energy(grid.points()))
        ...     density = EnergyDensity(energy, log_z)
        ...     abs(grid.log_integral(density.log_prob(grid.points()))) < 1e-6
        True
        >>> density.score(torch.zeros(3, 2)).shape
        torch.Size([3, 2])

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.1 and §2.3.5.2.
    """

    def __init__(
        self,
        energy: Energy,
        log_z: float | None = None,
        *,
        scale: float = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        if not finite("EnergyDensity", "scale", scale) > 0:
            raise ValueError(f"EnergyDensity: scale is {scale}; expected a positive number")
        self.energy = energy
        self.log_z: float | nn.Parameter | None
        self.log_z = None if log_z is None else finite("EnergyDensity", "log_z", log_z)
        if learned:
            if self.log_z is None:
                raise ValueError(
                    "EnergyDensity: log_z is None; expected where a learned one starts"
                )
            of = like(self)  # the energy's, if it is a module
            self.log_z = nn.Parameter(of.new_tensor(self.log_z))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """E(a·x), [N]: −log p(x) but for a constant."""
        return energies("EnergyDensity", self.energy, self.scale * x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), [N], in nats."""
        if self.log_z is None:
            raise ValueError(
                "EnergyDensity.log_prob: log_z is not known; give that of a "
                "gencore.metrics.SquareGrid or of gencore.samplers.AnnealedImportance"
            )
        return x[:1].numel() * math.log(self.scale) - self(x) - self.log_z

    def score(self, x: Tensor, *, differentiable: bool = False) -> Tensor:
        """∇ log p(x), of the shape of x; with a graph to `x` and the parameters if asked for."""
        return -energy_and_grad(self, x, create_graph=differentiable, owner="EnergyDensity")[1]

    def extra_repr(self) -> str:
        log_z = "learned" if isinstance(self.log_z, nn.Parameter) else self.log_z
        return f"log_z={log_z}, scale={self.scale}"
