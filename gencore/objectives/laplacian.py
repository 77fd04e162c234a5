"""Laplacian pyramids of images, and the distance by their bands."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

__all__ = [
    "enlarge",
    "gaussian_pyramid",
    "laplacian_distance",
    "laplacian_pyramid",
    "laplacian_reconstruction",
]

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def gaussian_pyramid(x: Tensor, num_levels: int) -> list[Tensor]:
    """The images [N, C, H, W] and their blurred halves, from the finest to the coarsest.

    Each image but the first has every second pixel of the one before it, blurred by a binomial
    filter of five taps.

    Args:
        x: images, with sides that are multiples of 2^num_levels.
        num_levels: halves beside the images themselves, 0 or more.

    Raises:
        TypeError: for images of integers.
        ValueError: for sides that cannot be halved so often.

    Source:
        Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983.

    Example:
        >>> import torch
        >>> from gencore.objectives import gaussian_pyramid
        >>> [tuple(image.shape) for image in gaussian_pyramid(torch.ones(1, 1, 8, 8), 2)]
        [(1, 1, 8, 8), (1, 1, 4, 4), (1, 1, 2, 2)]
    """
    return _halves("gaussian_pyramid", x, num_levels)


def laplacian_pyramid(x: Tensor, num_levels: int) -> list[Tensor]:
    """The bands of images [N, C, H, W], from the finest to what is left.

    Each band is an image of `gaussian_pyramid` less the next one in twice its size,
    x_j − up(x_{j+1}), with up as `enlarge`. The last entry is the coarsest image, so that the
    images follow from the bands: `laplacian_reconstruction`.

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
    images = _halves("laplacian_pyramid", x, num_levels)
    bands = [image - enlarge(coarser) for image, coarser in pairwise(images)]
    return [*bands, images[-1]]


def _halves(owner: str, x: Tensor, num_levels: int) -> list[Tensor]:
    if not x.is_floating_point():
        raise TypeError(f"{owner}: x is {x.dtype}; expected floating point")
    if num_levels < 0 or x.dim() != 4 or any(side % 2**num_levels for side in x.shape[2:]):
        raise ValueError(
            f"{owner}: x has shape {list(x.shape)} with num_levels {num_levels}; "
            f"expected [N, C, H, W] with sides that are multiples of 2^num_levels"
        )
    taps = x.new_tensor(_TAPS)
    weight = torch.outer(taps, taps).expand(x.shape[1], 1, 5, 5)
    images = [x]
    for _ in range(num_levels):
        padded = pad(images[-1], (2, 2, 2, 2), mode="replicate")
        images.append(conv2d(padded, weight, stride=2, groups=x.shape[1]))
    return images


def laplacian_reconstruction(bands: Sequence[Tensor]) -> Tensor:
    """The images [N, C, H, W] of the bands of their Laplacian pyramid: its inverse.

    x_j = b_j + up(x_{j+1}) from the coarsest to the finest. It is exact but for the rounding of one
    difference and one sum a level, and to the last bit for whole levels of grey in float64.

    Args:
        bands: as `laplacian_pyramid` gives them, from the finest to the coarsest image.

    Raises:
        ValueError: for no bands, or one without twice the sides of the next.

    Example:
        >>> import torch
        >>> from gencore.objectives import laplacian_pyramid, laplacian_reconstruction
        >>> x = torch.randint(256, (2, 3, 16, 16)).double()
        >>> torch.equal(laplacian_reconstruction(laplacian_pyramid(x, 3)), x)
        True
    """
    if not len(bands):
        raise ValueError("laplacian_reconstruction: got no bands; expected at least one")
    *bands, x = bands
    for band in reversed(bands):
        coarse, x = x, enlarge(x)
        if band.shape != x.shape:
            raise ValueError(
                f"laplacian_reconstruction: a band of shape {list(band.shape)} is before one of "
                f"{list(coarse.shape)}; expected {list(x.shape)}"
            )
        x = band + x
    return x


def enlarge(x: Tensor) -> Tensor:
    """Images [N, C, H, W] of twice the sides, up of the Laplacian pyramid, by bilinear weights.

    Example:
        >>> import torch
        >>> from gencore.objectives.laplacian import enlarge
        >>> enlarge(torch.tensor([[[[0.0, 4.0]]]]))
        tensor([[[[0., 1., 3., 4.],
                  [0., 1., 3., 4.]]]])
    """
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


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
