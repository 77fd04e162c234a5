"""A distance of images by the bands of their Laplacian pyramids."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

__all__ = ["laplacian_distance", "laplacian_pyramid"]

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def laplacian_pyramid(x: Tensor, num_levels: int) -> list[Tensor]:
    """The bands of images [N, C, H, W], from the finest to what is left.

    Each band is an image less its blurred, halved and again doubled self, x_j − up(x_{j+1}); the
    blur is binomial with five taps. The last entry is the coarsest image, so that the images follow
    from the bands.

    Args:
        x: images, with sides that are multiples of 2^num_levels.
        num_levels: bands beside the last entry, 0 or more.

    Raises:
        TypeError: for images of integers.
        ValueError: for sides that cannot be halved so often.

    Source:
        Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983.

    Example:
        >>> import torch
        >>> from gencore.objectives import laplacian_pyramid
        >>> [tuple(band.shape) for band in laplacian_pyramid(torch.ones(1, 1, 8, 8), 2)]
        [(1, 1, 8, 8), (1, 1, 4, 4), (1, 1, 2, 2)]
    """
    if not x.is_floating_point():
        raise TypeError(f"laplacian_pyramid: x is {x.dtype}; expected floating point")
    if num_levels < 0 or x.dim() != 4 or any(side % 2**num_levels for side in x.shape[2:]):
        raise ValueError(
            f"laplacian_pyramid: x has shape {list(x.shape)} with num_levels {num_levels}; "
            f"expected [N, C, H, W] with sides that are multiples of 2^num_levels"
        )
    taps = x.new_tensor(_TAPS)
    weight = torch.outer(taps, taps).expand(x.shape[1], 1, 5, 5)
    bands = []
    for _ in range(num_levels):
        padded = pad(x, (2, 2, 2, 2), mode="replicate")
        coarse = conv2d(padded, weight, stride=2, groups=x.shape[1])
        bands.append(x - interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))
        x = coarse
    return [*bands, x]


def laplacian_distance(x: Tensor, y: Tensor, *, num_levels: int = 2) -> Tensor:
    r"""Lap₁, a norm of the difference of images [N, C, H, W], [N].

    .. math:: Lap_1(x, y) = \sum_j 2^{2j} \lVert L^j(x) - L^j(y) \rVert_1

    Coarse bands, which have fewer pixels, weigh more; edges count where the ℓ₂ distance would see
    their blur alone.

    Args:
        x: images.
        y: images of the same shape.
        num_levels: bands beside the coarsest image.

    Raises:
        TypeError, ValueError: for shapes that differ, or as `laplacian_pyramid`.

    Source:
        Bojanowski, Joulin, Lopez-Paz and Szlam, "Optimizing the latent space of generative
        networks", 2018, (3); Ling and Okada, "Diffusion distance for histogram comparison", 2006.

    Example:
        >>> import torch
        >>> from gencore.objectives import laplacian_distance
        >>> x = torch.ones(2, 1, 8, 8)
        >>> laplacian_distance(x, x), laplacian_distance(x, 0 * x)  # 4 pixels of weight 16
        (tensor([0., 0.]), tensor([64., 64.]))
    """
    if x.shape != y.shape:
        raise ValueError(
            f"laplacian_distance: x and y have shapes {list(x.shape)} and {list(y.shape)}; "
            "expected equal ones"
        )
    bands = laplacian_pyramid(x - y, num_levels)
    sums = [4**j * band.abs().flatten(1).sum(1) for j, band in enumerate(bands)]
    return torch.stack(sums).sum(0)
