"""Features of length 1 at every pixel (Karras et al. 2018)."""

import torch
from torch import Tensor, nn

from gencore.ops._support.checks import number

__all__ = ["PixelNorm"]


class PixelNorm(nn.Module):
    r"""Features divided by their root mean square over channels, at every pixel apart.

    .. math:: b_c = \frac{a_c}{\sqrt{\frac1C \sum_{c'} a_{c'}^2 + \varepsilon}}

    Args:
        eps: ε.

    Shape:
        [N, C, ...] → the same.

    Raises:
        ValueError: for an ε that is negative or not finite.

    References:
        Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs for improved quality,
        stability, and variation", 2018, §4.2.

    Example:
        >>> import torch
        >>> from gencore.nn import PixelNorm
        >>> PixelNorm()(torch.tensor([[3.0, -3.0], [0.0, 2.0]]))
        tensor([[ 1.0000, -1.0000],
                [ 0.0000,  1.4142]])
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = number("PixelNorm", "eps", eps)

    def forward(self, a: Tensor) -> Tensor:
        return a * torch.rsqrt(a.square().mean(1, keepdim=True) + self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
