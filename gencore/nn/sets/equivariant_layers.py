"""Linear layers and convolutions of the members of a set, which also see the set's mean."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from gencore.ops._support.checks import check_count
from gencore.sizes import check_positive

__all__ = ["EquivariantConv2d", "EquivariantLinear"]


class EquivariantLinear(nn.Module):
    r"""A linear map of each member of a set, plus another one of the mean of all its members.

    .. math:: y_b = \beta + \frac{B \Lambda x_b + \Gamma \rho(x)}{B + 1}, \qquad
              \rho(x) = \frac1B \sum_b x_b \qquad (4.11), (4.12)

    A permutation of the members permutes the outputs alike. The weights B/(B + 1) and 1/(B + 1)
    are those of the source, where B is the size of the set that is given; it puts an activation μ
    behind the layer, and has vectors as rows, so that Λ and Γ are transposed here. For one member
    the matrix is (Λ + Γ)/2, and for Γ = 0 the layer is linear with BΛ/(B + 1). Sets do not see
    each other. The second map costs as much as one more member.

    Args:
        in_features: F.
        out_features: O.
        bias: whether there is a β.

    Attributes:
        weight: Λ, [O, F], at first that of ``torch.nn.Linear``, like the next two.
        mean_weight: Γ, [O, F].
        bias: β, [O], or ``None``.

    Shape:
        [N, B, F] → [N, B, O].

    Raises:
        ValueError: for sizes below 1, and on a call for another shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.1,
        §4.4.3.

    Example:
        >>> import torch
        >>> from gencore.nn import EquivariantLinear
        >>> layer, x = EquivariantLinear(2, 5), torch.randn(3, 4, 2)
        >>> torch.allclose(layer(x).flip(1), layer(x.flip(1)), atol=1e-6)
        True
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        check_positive("EquivariantLinear", in_features=in_features, out_features=out_features)
        size = out_features, in_features
        self.weight, self.mean_weight, self.bias = _parameters(size, bias)

    def forward(self, x: Tensor) -> Tensor:
        features = self.weight.shape[1]
        if x.dim() != 3 or x.shape[2] != features or not x.shape[1]:
            raise ValueError(
                f"EquivariantLinear: x has shape {list(x.shape)}; expected [N, B, {features}], "
                "with B of 1 or more"
            )
        size = x.shape[1]
        of_members = linear(x, self.weight * (size / (size + 1)))
        of_means = linear(x.mean(1, keepdim=True), self.mean_weight / (size + 1), self.bias)
        return of_members + of_means

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, bias={self.bias is not None}"


class EquivariantConv2d(nn.Module):
    """A convolution of each image of a set, plus another one of the mean of all its images.

    It is :class:`EquivariantLinear` with kernels in the place of Λ and Γ, and B + 1 convolutions
    for a set of B images.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: of both kernels.
        stride: of both convolutions.
        padding: zeros around the images.
        bias: whether there is a β.

    Attributes:
        weight: Λ, [O, C, kernel_size, kernel_size], at first that of ``torch.nn.Conv2d``, like the
            next two.
        mean_weight: Γ, like Λ.
        bias: β, [O], or ``None``.

    Shape:
        [N, B, C, H, W] → [N, B, O, H', W'].

    Raises:
        ValueError: for sizes below 1, a negative padding, and on a call for another shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.4.1,
        §4.4.3.

    Example:
        >>> import torch
        >>> from gencore.nn import EquivariantConv2d
        >>> EquivariantConv2d(3, 8, 3, padding=1)(torch.randn(2, 4, 3, 6, 6)).shape
        torch.Size([2, 4, 8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(
            "EquivariantConv2d", in_channels=in_channels, out_channels=out_channels,
            kernel_size=kernel_size, stride=stride,
        )  # fmt: skip
        check_count("EquivariantConv2d", "padding", padding)
        self.stride, self.padding = stride, padding
        size = out_channels, in_channels, kernel_size, kernel_size
        self.weight, self.mean_weight, self.bias = _parameters(size, bias)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.weight.shape[1]
        if x.dim() != 5 or x.shape[2] != channels or not x.shape[1]:
            raise ValueError(
                f"EquivariantConv2d: x has shape {list(x.shape)}; expected "
                f"[N, B, {channels}, H, W], with B of 1 or more"
            )
        size = x.shape[1]

        def convolve(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return conv2d(images, weight, bias, stride=self.stride, padding=self.padding)

        of_members = convolve(x.flatten(0, 1), self.weight * (size / (size + 1)))
        of_means = convolve(x.mean(1), self.mean_weight / (size + 1), self.bias)
        return of_members.unflatten(0, x.shape[:2]) + of_means.unsqueeze(1)

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return (
            f"{in_channels}, {out_channels}, {kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )


def _parameters(
    size: tuple[int, ...], bias: bool
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
    """Λ, Γ and β, as ``torch.nn.Linear`` and ``torch.nn.Conv2d`` have them at first."""
    bound = 1 / math.sqrt(math.prod(size[1:]))

    def uniform(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    return uniform(*size), uniform(*size), uniform(size[0]) if bias else None
