"""Invertible 1×1 convolutions (Kingma and Dhariwal 2018)."""

import torch

from gencore.nn.transforms.lu_linear import LULinear
from gencore.sizes import check_positive

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(LULinear):
    r"""A learned mixing of channels, z = W x at every position, with the PLU form of `LULinear`.

    .. math:: \log\lvert\det\rvert = S \log\lvert\det W\rvert

    for S positions in a channel. W starts as a random rotation.

    Args:
        channels: C, entries of dimension 1 of the data [N, C, ...]; at least 1.
        generator: of the rotation; torch's default one if ``None``.

    Raises:
        ValueError: for no channels, and on a call for data with another number of channels.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, (9)–
        (11).

    Example:
        >>> import torch
        >>> from gencore.nn import InvertibleConv1x1
        >>> layer = InvertibleConv1x1(3)
        >>> z, log_det = layer(torch.ones(1, 3, 2, 2))
        >>> torch.allclose(layer.inverse(z)[0], torch.ones(1, 3, 2, 2), atol=1e-5)
        True
        >>> log_det.abs().item() < 1e-4  # a rotation preserves volume
        True
    """

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        check_positive("InvertibleConv1x1", channels=channels)
        super().__init__(channels, start="rotation", bias=False, generator=generator)
