"""The general transform: a network says how a step changes the vector that stands for the place."""

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["NetworkTransform"]


class NetworkTransform(nn.Module):
    r"""v(x + Δx) = F(v(x), Δx), a recurrent network with a sub-network for each module.

    .. math:: F_k(v, \Delta r, \theta) = v_k + N_k(v_k, \Delta x) - N_k(v_k, 0),
              \quad \Delta x = \Delta r \, (\cos\theta, \sin\theta)^\top \qquad (5.1), (5.3)

    The form holds F(v, 0) = v. That two steps are one, condition 1, is learned, if at all.

    Args:
        num_modules: K.
        module_size: M, units of a module.
        hidden: width of the hidden layer of a sub-network, whose units are tanh.
        unit: metres; the network sees Δx / unit.

    Shape:
        v [G, ..., K, M], distance Δr [G, ...] in metres, direction θ [G] in radians →
        [G, ..., K, M].

    Raises:
        ValueError: for sizes that are not positive.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, §5.2 and §5.3.4, which
        leave the network open.

    Example:
        >>> import torch
        >>> from gencore.models import NetworkTransform
        >>> transform, v = NetworkTransform(2, 6), torch.randn(3, 10, 2, 6)
        >>> bool((transform(v, torch.zeros(3, 10), torch.rand(3)) == v).all())
        True
    """

    def __init__(
        self, num_modules: int, module_size: int, *, hidden: int = 32, unit: float = 1.0
    ) -> None:
        super().__init__()
        check_positive(
            "NetworkTransform", num_modules=num_modules, module_size=module_size, hidden=hidden
        )
        if not unit > 0:
            raise ValueError(f"NetworkTransform: unit is {unit}; expected a positive length")
        self.num_modules, self.module_size, self.unit = num_modules, module_size, unit
        self.first = _weights(num_modules, hidden, module_size)
        self.move = _weights(num_modules, hidden, 2)
        self.bias = nn.Parameter(torch.zeros(num_modules, hidden))
        self.second = _weights(num_modules, module_size, hidden)

    def forward(self, v: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
        """The vectors after steps; see the class."""
        along = self._along(v, direction)
        still = torch.einsum("...km,khm->...kh", v, self.first) + self.bias
        moved = still + along * (distance / self.unit)[..., None, None]
        return v + torch.einsum("...kh,kmh->...km", moved.tanh() - still.tanh(), self.second)

    def derivative(self, v: Tensor, direction: Tensor) -> Tensor:
        """f_θ(v) = ∂F/∂Δr at Δr = 0 (5.4): vectors [G, ..., K, M], directions [G]."""
        still = torch.einsum("...km,khm->...kh", v, self.first) + self.bias
        slope = (1 - still.tanh().square()) * self._along(v, direction) / self.unit
        return torch.einsum("...kh,kmh->...km", slope, self.second)

    def _along(self, v: Tensor, direction: Tensor) -> Tensor:
        """What the hidden layer gets a unit of distance, [G, ..., K, H]."""
        heading = torch.stack([direction.cos(), direction.sin()], -1)
        along = torch.einsum("gc,khc->gkh", heading, self.move)
        return along.view(len(along), *[1] * (v.ndim - 3), *along.shape[1:])

    def extra_repr(self) -> str:
        return f"{self.num_modules}, {self.module_size}, hidden={self.bias.shape[1]}"


def _weights(modules: int, outputs: int, inputs: int) -> nn.Parameter:
    """Of variance 1/inputs, [K, outputs, inputs]."""
    weight = torch.randn(modules, outputs, inputs)
    return nn.Parameter(weight / weight.shape[-1] ** 0.5)
