"""A network with parameters of its own for each data point, all of them in one pass."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

__all__ = ["NetworkOfRows", "with_parts"]

T = TypeVar("T", bound=nn.Module)


class NetworkOfRows(nn.Module):
    """The network f as N networks f(·; φₙ) that differ in their parameters alone.

    The parameters are rows [N, P], so that what optimises latents of data points optimises them
    too. Buffers, such as means of batch normalisation, are those of the network, which is left as
    it is. All N networks are computed in one pass of batched matrix products and grouped
    convolutions.

    Args:
        network: f, in evaluation mode.

    Attributes:
        start: φ, the network's own parameters as a row [P].
        rows: φₙ, [N, P], to be set before a call.

    Raises:
        ValueError: the network has no parameters.

    Shape:
        [N·K, ...] → what f gives of N·K rows, K of them for each data point.

    Example:
        >>> import torch
        >>> from gencore.inference.networks_of_rows import NetworkOfRows
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> of_rows = NetworkOfRows(network)
        >>> of_rows.rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> of_rows(torch.tensor([[5.0, 6.0], [5.0, 6.0]]))
        tensor([[ 5.],
                [12.]])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Not as a submodule: it is no part of this one, and stays in the mode that it is in.
        self._network = (network,)
        parameters = {name: part.detach() for name, part in network.named_parameters()}
        if not parameters:
            raise ValueError(
                f"NetworkOfRows: {type(network).__name__} has no parameters; expected some"
            )
        self._parameters_of = parameters
        self.start = torch.cat([part.flatten() for part in parameters.values()])
        self.rows = self.start[None]

    def forward(self, x: Tensor) -> Any:
        num = len(self.rows)
        (network,) = self._network

        def one(parameters: dict[str, Tensor], x: Tensor) -> Any:
            return functional_call(network, parameters, (x,))

        given = x.unflatten(0, (num, -1))
        return tree_map(lambda part: part.flatten(0, 1), vmap(one)(self._named(), given))

    def _named(self) -> dict[str, Tensor]:
        """The rows as parameters [N, ...]."""
        sizes = [part.numel() for part in self._parameters_of.values()]
        return {
            name: row.view(-1, *part.shape).to(part.dtype)
            for (name, part), row in zip(
                self._parameters_of.items(), self.rows.split(sizes, 1), strict=True
            )
        }


def with_parts(model: T, **parts: nn.Module) -> T:
    """A model that shares all with another one, which stays as it is, but for some of its modules.

    Example:
        >>> import torch
        >>> from gencore.inference.networks_of_rows import with_parts
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Tanh())
        >>> other = with_parts(model, **{"1": torch.nn.ReLU()})
        >>> model[1], other[1], other[0] is model[0]
        (Tanh(), ReLU(), True)
    """
    twin = copy.copy(model)
    twin.__dict__["_modules"] = {**model._modules, **parts}
    return twin
