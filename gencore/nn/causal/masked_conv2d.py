"""The causal convolution of autoregressive models of images."""

from typing import get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.ops import masked_conv2d
from gencore.ops.masked_conv2d import MaskType, live_taps

__all__ = ["MaskedConv2d"]


class MaskedConv2d(nn.Module):
    """A convolution whose outputs see the pixels before their own in raster order.

    It is :func:`gencore.ops.masked_conv2d` with parameters, which start as those of
    :class:`torch.nn.Conv2d`: uniform between ±1/√n, n being the number of taps that an output sees.
    The taps that it does not see are zero then, and never used.

    Args:
        in_channels: I of images [N, I, H, W].
        out_channels: O of the results [N, O, H, W].
        kernel_size: k, odd.
        mask: "A", without the pixel itself, as a first layer needs it; or "B", with it.
        channel_groups: G, which divides both numbers of channels: 3 for red, green and blue. At the
            pixel itself, a group sees those before it and, with mask B, itself.
        dilation: pixels from one tap to the next.
        bias: whether there is one.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016, §3.4.

    Example:
        >>> import torch
        >>> from gencore.nn import MaskedConv2d
        >>> MaskedConv2d(3, 96, 7, mask="A", channel_groups=3)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 96, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        mask: MaskType,
        channel_groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, channel_groups, dilation) < 1:
            raise ValueError(
                f"MaskedConv2d: in_channels is {in_channels}, out_channels {out_channels}, "
                f"channel_groups {channel_groups} and dilation {dilation}; expected positive "
                "numbers"
            )
        if in_channels % channel_groups or out_channels % channel_groups:
            raise ValueError(
                f"MaskedConv2d: channel_groups is {channel_groups}, expected a divisor of "
                f"in_channels, {in_channels}, and of out_channels, {out_channels}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"MaskedConv2d: kernel_size is {kernel_size}, expected a positive odd number"
            )
        check_choice("MaskedConv2d", "mask", mask, get_args(MaskType))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.dilation = kernel_size, dilation
        self.mask: MaskType = mask
        self.channel_groups = channel_groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        live = live_taps(self.weight, self.mask, self.channel_groups)
        # An output that sees nothing has a weight of zeros, and a bias of zero as in nn.Conv2d.
        seen = live.sum((1, 2, 3))
        bound = seen.clamp(min=1).to(self.weight.dtype).rsqrt() * (seen > 0)
        self.weight.uniform_(-1, 1).mul_(bound[:, None, None, None]).mul_(live)
        if self.bias is not None:
            self.bias.uniform_(-1, 1).mul_(bound)

    def forward(self, x: Tensor) -> Tensor:
        return masked_conv2d(
            x,
            self.weight,
            self.bias,
            mask=self.mask,
            channel_groups=self.channel_groups,
            dilation=self.dilation,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"mask={self.mask!r}, channel_groups={self.channel_groups}, dilation={self.dilation}, "
            f"bias={self.bias is not None}"
        )
