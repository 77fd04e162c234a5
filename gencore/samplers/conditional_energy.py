"""The energy of some elements of a state, given the others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.samplers.energy import Energy, energy_and_grad

__all__ = ["ConditionalEnergy"]


@dataclass(frozen=True, eq=False)
class ConditionalEnergy:
    r"""The energy of the free elements of x given that the others are observed.

    .. math:: E(y \mid x_o) = E(x), \qquad x = y \text{ where free, else } x_o

    Chains of any sampler on it draw from p(x_free | x_o). They go in the space of x, where nothing
    depends on the observed elements of their states y: those wander, and `complete` puts what was
    observed in their place, bit for bit.

    Args:
        energy: E, [N, ...] → [N].
        observed: x_o, [N, ...], or [1, ...] for all chains; its free elements are not looked at.
        is_free: bool, of a shape that broadcasts to the states', such as [1, 1, H, W].

    Raises:
        TypeError: if `is_free` is not bool.
        ValueError: if the shapes do not broadcast, or `observed` has a number that is not finite
            among the observed.

    Example:
        >>> from gencore.samplers import Langevin
        >>> joint = lambda x: 0.5 * x.square().sum(1) - 0.8 * x[:, 0] * x[:, 1]
        >>> is_free = torch.tensor([[True, False]])
        >>> energy = ConditionalEnergy(joint, torch.tensor([[0.0, 2.0]]), is_free)
        >>> generator = torch.Generator().manual_seed(0)
        >>> y = Langevin(energy, 0.05).sample(torch.zeros(4000, 2), 100, generator=generator)
        >>> x = energy.complete(y)  # x₀ ~ N(0.8·2, 1)
        >>> round(x[:, 0].mean().item(), 1), x[:, 1].unique()
        (1.6, tensor([2.]))

    References:
        Besag, "Spatial interaction and the statistical analysis of lattice systems", 1974; Gao,
        "Effective Learning of Descriptive and Generator Models and Learning Representations for
        Grid Cells and V1 Cells", 2021, §2.2.3.3.
    """

    energy: Energy
    observed: Tensor
    is_free: Tensor

    def __post_init__(self) -> None:
        name = "ConditionalEnergy"
        if self.is_free.dtype != torch.bool:
            raise TypeError(f"{name}: is_free is {self.is_free.dtype}; expected bool")
        try:
            torch.broadcast_shapes(self.observed.shape, self.is_free.shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: is_free has shape {list(self.is_free.shape)} and observed "
                f"{list(self.observed.shape)}; expected shapes that broadcast to each other"
            ) from None
        # Values on a GPU are not looked at: that would stop the host.
        if self.observed.device.type == "cpu":
            visible = torch.where(self.is_free, 0.0, self.observed)
            if not bool(visible.isfinite().all()):
                raise ValueError(f"{name}: observed has elements that are not finite")

    def complete(self, y: Tensor) -> Tensor:
        """The states x [N, ...] of chains y [N, ...]: y where free, elsewhere what was observed."""
        self._check_broadcast(y)
        return torch.where(self.is_free, y, self.observed.to(y.dtype))

    def __call__(self, y: Tensor) -> Tensor:
        return self.energy(self.complete(y))

    def energy_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) [N] and its gradient in y, which is 0 in the observed elements."""
        value, grad = energy_and_grad(self.energy, self.complete(y), owner="ConditionalEnergy")
        return value, grad.masked_fill(~self.is_free, 0.0)

    def _check_broadcast(self, x: Tensor) -> None:
        shapes = x.shape, self.observed.shape, self.is_free.shape
        try:
            fits = torch.broadcast_shapes(*shapes) == x.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"ConditionalEnergy: is_free has shape {list(self.is_free.shape)} and observed "
                f"{list(self.observed.shape)} for states of shape {list(x.shape)}; expected shapes "
                "that broadcast to it"
            )
