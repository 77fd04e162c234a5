"""Codes of which few components are left."""

import torch
from torch import Tensor, nn

from gencore.ops._support.checks import index

__all__ = ["KSparse", "WinnerTakeAll", "keep_largest"]


def keep_largest(z: Tensor, k: int) -> Tensor:
    """The k largest numbers of each row of z, [..., D], with 0 in place of the others.

    Of equal numbers any may be kept, but never more than k. The gradient goes through what is kept.

    Raises:
        ValueError: for a k that is negative or above D.

    Example:
        >>> keep_largest(torch.tensor([[3.0, -1.0, 2.0]]), 2)
        tensor([[3., 0., 2.]])
    """
    if not 0 <= index("keep_largest", "k", k) <= z.shape[-1]:
        raise ValueError(
            f"keep_largest: k is {k} for rows of {z.shape[-1]}; expected 0 to {z.shape[-1]}"
        )
    kept, places = z.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(z).scatter(-1, places, kept)


class KSparse(nn.Module):
    """The k largest components of a code: the k-sparse auto-encoder's activation.

    Args:
        k: components that stay.

    Shape:
        codes [N, D] → [N, D]; codes with more dimensions are flattened for the choice.

    Raises:
        ValueError: for a k below 1, or on a call above the number of components.

    Example:
        >>> KSparse(1)(torch.tensor([[0.2, 0.5, -0.9]]))
        tensor([[0.0000, 0.5000, 0.0000]])

    References:
        Makhzani and Frey, "k-sparse autoencoders", 2014.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        if index("KSparse", "k", k) < 1:
            raise ValueError(f"KSparse: k is {k}; expected 1 or more")
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        return keep_largest(z.flatten(1), self.k).reshape(z.shape)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class WinnerTakeAll(nn.Module):
    """One active component: the largest of a code, or of each map of a convolutional code.

    Shape:
        [N, D] → [N, D] with one component a row; [N, C, H, W] → the same with one place a map.

    Raises:
        ValueError: for codes of other numbers of dimensions.

    Example:
        >>> WinnerTakeAll()(torch.tensor([[[[1.0, 2.0], [0.0, -1.0]]]]))
        tensor([[[[0., 2.],
                  [0., 0.]]]])

    References:
        Makhzani and Frey, "Winner-take-all autoencoders", 2015 (spatial sparsity); Mathieu,
        "Unsupervised Learning under Uncertainty", 2017, §2.1.2.1.
    """

    def forward(self, z: Tensor) -> Tensor:
        if z.dim() not in (2, 4):
            raise ValueError(
                f"WinnerTakeAll: codes have shape {list(z.shape)}; expected [N, D] or [N, C, H, W]"
            )
        return keep_largest(z.flatten(max(z.dim() - 2, 1)), 1).reshape(z.shape)
