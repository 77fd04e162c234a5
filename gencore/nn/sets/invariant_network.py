"""Functions of a set that do not depend on the order of its members."""

from torch import Tensor, nn

__all__ = ["InvariantNetwork"]


class InvariantNetwork(nn.Module):
    r"""The mean over the members of a set of what an equivariant network gives for each.

    .. math:: f(x) = \frac1B \sum_b (\phi_p \circ \dots \circ \phi_0(x))_b \qquad (4.10)

    Where the layers φ see the mean of the set, as those of :class:`EquivariantMLP` do, such
    networks approximate every continuous symmetric function of a set on a compact domain. Without
    it, f is a mean of a function of single members, and not even the variance is one.

    Args:
        network: of equivariant layers, [N, B, ...] → [N, B, ...].

    Shape:
        [N, B, ...] → [N, ...]: what the network gives, without its second dimension.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.1,
        §4.4.2, §4.8.

    Example:
        >>> import torch
        >>> from gencore.nn import EquivariantMLP, InvariantNetwork
        >>> InvariantNetwork(EquivariantMLP(2, [16], 3))(torch.randn(5, 4, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        of_members: Tensor = self.network(x)
        return of_members.mean(1)
