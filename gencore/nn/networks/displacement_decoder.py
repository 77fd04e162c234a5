"""Fields of displacements out of vectors, and how decoders of films start."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.networks.dcgan import DCGANGenerator
from gencore.ops._support.checks import finite

__all__ = ["DisplacementDecoder", "start_variance_preserving"]


def start_variance_preserving(decoder: DCGANGenerator, *, last_std: float | None = None) -> None:
    """Start a decoder without normalisation so that features have about the variance of latents.

    The start of its source, N(0, 0.02²), is meant for batch normalisation: without it gradients
    that have come through a few layers are too small to move latents. Here the weights of a layer
    that adds up n products are N(0, 2/n), as ReLU halves the square, those of the first N(0, 1/L).

    Args:
        decoder: whose weights are drawn anew, its biases zero.
        last_std: of the weights of the last layer, in place of the one that preserves variance.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.

    Example:
        >>> import torch
        >>> from gencore.nn import DCGANGenerator
        >>> decoder = DCGANGenerator(8, (1, 16, 16), normalization="none", pixel_range="free")
        >>> start_variance_preserving(decoder)
        >>> bool(0.3 < decoder(torch.randn(64, 8)).std() < 3)
        True
    """
    assert isinstance(decoder.first, nn.Linear)
    nn.init.normal_(decoder.first.weight, std=decoder.first.in_features**-0.5)
    for up in decoder.ups:
        assert isinstance(up, nn.ConvTranspose2d)
        # Of a 4×4 filter of stride 2, 4 weights a channel meet a feature.
        nn.init.normal_(up.weight, std=math.sqrt(2 / (4 * up.in_channels)))
    if last_std is not None:
        assert isinstance(up, nn.ConvTranspose2d)
        nn.init.normal_(up.weight, std=last_std)


class DisplacementDecoder(nn.Module):
    r"""Transposed convolutions from a vector to a displacement of every pixel.

    .. math:: M = \delta_{\max} \tanh(\mathrm{net}(s))

    It starts close to the field that moves nothing.

    Args:
        latent_size: L.
        sides: H and W, above 4.
        max_displacement: δ_max, in pixels along each axis.
        width: channels of the finest hidden maps; they double with each coarser scale.

    Shape:
        [N, L] → [N, 2, H, W], to the right in channel 0 and down in channel 1, in pixels.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, (3.16), which leaves the network open.

    Example:
        >>> import torch
        >>> from gencore.nn import DisplacementDecoder
        >>> decoder = DisplacementDecoder(6, (16, 24), max_displacement=2.0, width=4)
        >>> field = decoder(torch.randn(3, 6))
        >>> field.shape, bool(field.abs().max() < 0.1)
        (torch.Size([3, 2, 16, 24]), True)
    """

    def __init__(
        self,
        latent_size: int,
        sides: Sequence[int],
        *,
        max_displacement: float = 4.0,
        width: int = 16,
    ) -> None:
        super().__init__()
        self.max_displacement = finite("DisplacementDecoder", "max_displacement", max_displacement)
        if not self.max_displacement > 0:
            raise ValueError(
                f"DisplacementDecoder: max_displacement is {max_displacement}; expected positive"
            )
        self.decoder = DCGANGenerator(
            latent_size, (2, *sides), width=width, normalization="none", pixel_range="symmetric"
        )
        start_variance_preserving(self.decoder, last_std=1e-3)

    def forward(self, s: Tensor) -> Tensor:
        field: Tensor = self.decoder(s)
        return self.max_displacement * field
