"""Convolutions whose kernels lie where a pixel may look."""

from torch import Tensor, nn
from torch.nn import functional

from gencore.sizes import check_positive

__all__ = ["CausalConv2d", "CausalConvTranspose2d"]


class CausalConv2d(nn.Module):
    r"""A convolution whose kernel is a rectangle that ends at a given place from the pixel.

    .. math:: y(p) = b + \sum_{0 \le i < k_1} \sum_{0 \le j < k_2}
              W_{i,j}\, x\big(s p + l - (k_1 - 1 - i,\; k_2 - 1 - j)\big)

    with the stride s, and x = 0 outside of the image. The last tap lies l = (l₁, l₂) pixels below
    and to the right of the pixel: (0, 0) makes the pixel itself the last, so that the rectangle
    lies above and to the left (PixelCNN++'s down-right shifted convolution); (0, (k₂ − 1)/2) lets
    it spread to both sides (the down shifted one), which is causal for features of the rows above;
    (−1, (k₂ − 1)/2) sees these rows alone. A bottom row is never looked below: l₁ ≤ 0.

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: k, rows and columns.
        last: l.
        stride: s; the sides of x are divisible by it.
        bias: whether there is a b.

    Raises:
        ValueError: for sizes that are not positive, or a last tap below the pixel.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++", 2017, section 2.4. van den Oord et al.,
        "Conditional image generation with PixelCNN decoders", 2016, section 2.2.

    Example:
        >>> import torch
        >>> from gencore.nn import CausalConv2d
        >>> above = CausalConv2d(1, 4, (2, 3), last=(-1, 1))
        >>> y = above(torch.zeros(2, 1, 8, 8))
        >>> y.shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        *,
        last: tuple[int, int] = (0, 0),
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        rows, columns = kernel_size
        check_positive(
            "CausalConv2d",
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_rows=rows,
            kernel_columns=columns,
            stride=stride,
        )
        if last[0] > 0:
            raise ValueError(f"CausalConv2d: last is {last}; expected a row of at most 0")
        self.kernel_size = (rows, columns)
        self.last = last
        self.stride = stride
        # Its weights and their start; the convolution is our own, for its padding.
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=bias)

    @property
    def taps(self) -> list[tuple[int, int]]:
        """(down, right) from the pixel, of each place of the kernel in its order."""
        rows, columns = self.kernel_size
        return [
            (self.last[0] - rows + 1 + i, self.last[1] - columns + 1 + j)
            for i in range(rows)
            for j in range(columns)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """y [N, out_channels, H/s, W/s] of x [N, in_channels, H, W]."""
        (rows, columns), (down, right), s = self.kernel_size, self.last, self.stride
        if x.shape[2] % s or x.shape[3] % s:
            raise ValueError(
                f"CausalConv2d: x has shape {list(x.shape)}; expected sides divisible by {s}"
            )
        # Negative padding crops. After the last multiple of s nothing is looked at.
        padding = (columns - 1 - right, right - s + 1, rows - 1 - down, down - s + 1)
        y: Tensor = self.conv(functional.pad(x, padding))
        return y


class CausalConvTranspose2d(nn.Module):
    r"""A transposed convolution of twice the resolution, which sees no later pixel.

    .. math:: y(p) = b + \sum_{i,j} W_{i,j}\, x(q), \quad 2 q + (i, j) = p + (0, c)

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: rows and columns.
        crop: c, columns that the kernel is moved to the left: 0 for features that may see what is
            to the left of them, (columns − 1)/2 for those that see the rows above alone.

    Raises:
        ValueError: for sizes that are not positive, or a crop that is not within the kernel.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++", 2017, section 2.3.

    Example:
        >>> import torch
        >>> from gencore.nn import CausalConvTranspose2d
        >>> CausalConvTranspose2d(4, 4, (2, 2))(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 4, 16, 16])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], *, crop: int = 0
    ) -> None:
        super().__init__()
        rows, columns = kernel_size
        check_positive(
            "CausalConvTranspose2d",
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_rows=rows,
            kernel_columns=columns,
        )
        if not 0 <= crop < columns:
            raise ValueError(f"CausalConvTranspose2d: crop is {crop}; expected 0 to {columns - 1}")
        self.kernel_size = (rows, columns)
        self.crop = crop
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride=2)

    def taps(self, row: int, column: int) -> list[tuple[int, int, int, int]]:
        """(i, j, down, right) of the places that a pixel p sees from q = p div 2, where row and
        column are those of p modulo 2."""
        rows, columns = self.kernel_size
        return [
            (i, j, (row - i) // 2, (column + self.crop - j) // 2)
            for i in range(rows)
            for j in range(columns)
            if (row - i) % 2 == 0 and (column + self.crop - j) % 2 == 0
        ]

    def forward(self, x: Tensor) -> Tensor:
        """y [N, out_channels, 2H, 2W] of x [N, in_channels, H, W]."""
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        y: Tensor = self.conv(x)
        return functional.pad(
            y,
            (
                -self.crop,
                width + self.crop - y.shape[3],
                0,
                height - y.shape[2],
            ),
        )
