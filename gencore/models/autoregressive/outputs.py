"""What networks of causal convolutions have in common: their likelihood and their last layers."""

import torch
from torch import Tensor, nn

from gencore.nn import MaskedConv2d
from gencore.nn.likelihoods import Categorical, PixelLikelihood
from gencore.sizes import check_whole

__all__ = ["OutputLayers", "check_kernel_sizes", "choose_groups", "choose_likelihood"]


def choose_likelihood(
    owner: str, levels: int | None, likelihood: PixelLikelihood | None
) -> PixelLikelihood:
    """The likelihood that was given, or `Categorical` of these levels, 256 by default.

    Raises:
        ValueError: if levels were given that are not those of the likelihood.
    """
    if likelihood is None:
        return Categorical(256 if levels is None else levels)
    if levels is not None and levels != likelihood.levels:
        raise ValueError(f"{owner}: levels is {levels}, but the likelihood has {likelihood.levels}")
    return likelihood


def choose_groups(
    owner: str,
    image_channels: int,
    likelihood: PixelLikelihood,
    groups: int | None,
    **widths: int,
) -> int:
    """The groups that were given, or one a channel of the image where the likelihood allows it.

    Args:
        owner: the name that errors begin with.
        image_channels: C.
        likelihood: only that of `Categorical` has its parameters in a block a channel.
        groups: what was given.
        widths: of the network's layers, by name.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for groups that the likelihood does not allow, or that divide not all widths.
    """
    check_whole(owner, channel_groups=groups, **widths)
    in_blocks = isinstance(likelihood, Categorical)
    if groups is None:
        groups = image_channels if in_blocks else 1
    if groups > 1 and not in_blocks:
        raise ValueError(
            f"{owner}: channel_groups is {groups}; expected 1 for {type(likelihood).__name__}, "
            "whose parameters are not in a block for each channel"
        )
    for name, width in widths.items():
        if width < 1 or (groups > 0 and width % groups):
            raise ValueError(
                f"{owner}: {name} is {width}; expected a positive multiple of channel_groups, "
                f"{groups}"
            )
    return groups


def check_kernel_sizes(owner: str, smallest: int, **sizes: int) -> None:
    """Raise a ValueError for the first of these kernel sizes that is even or too small."""
    check_whole(owner, **sizes)
    for name, size in sizes.items():
        if size < smallest or size % 2 == 0:
            raise ValueError(f"{owner}: {name} is {size}; expected odd and at least {smallest}")


class OutputLayers(nn.Module):
    """The parameters of a likelihood: two 1×1 convolutions, each after a ReLU."""

    def __init__(self, in_channels: int, width: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.first = MaskedConv2d(in_channels, width, 1, mask="B", channel_groups=groups)
        self.second = MaskedConv2d(width, out_channels, 1, mask="B", channel_groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(torch.relu(features))))
        return y
