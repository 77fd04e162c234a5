"""The middle frequencies of images."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

__all__ = ["difference_of_gaussians"]

_RADIUS = 4


def difference_of_gaussians(images: Tensor, *, fine: float = 1.0, coarse: float = 4.0) -> Tensor:
    """What a Gaussian blur leaves of images, less what a wider one leaves.

    Both kernels have 9 × 9 pixels (the source has 8, which would move the image by half of one).
    Outside, the image is mirrored. A constant image becomes 0.

    Args:
        images: Floating point [N, C, H, W] with sides of more than 4 pixels.
        fine: Standard deviation of the narrow blur in pixels.
        coarse: Of the wide one.

    Returns:
        [N, C, H, W].

    Raises:
        ValueError: shapes or widths do not fit.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.4, as the input of cells of one size.

    Example:
        >>> difference_of_gaussians(torch.ones(1, 1, 8, 8)).abs().max() < 1e-6
        tensor(True)
    """
    if images.dim() != 4 or not images.is_floating_point() or min(images.shape[2:]) <= _RADIUS:
        raise ValueError(
            f"difference_of_gaussians: images are {images.dtype} {list(images.shape)}; expected "
            f"floating point [N, C, H, W] with sides of more than {_RADIUS} pixels"
        )
    if not 0 < fine < coarse:
        raise ValueError(
            f"difference_of_gaussians: fine is {fine} and coarse {coarse}; expected positive "
            "widths, the second one greater"
        )
    planes = pad(images, [_RADIUS] * 4, mode="reflect").flatten(0, 1).unsqueeze(1)
    narrow, wide = (_blur(planes, sigma) for sigma in (fine, coarse))
    return (narrow - wide).view(images.shape)


def _blur(planes: Tensor, sigma: float) -> Tensor:
    place = torch.arange(-_RADIUS, _RADIUS + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)
    kernel = kernel / kernel.sum()
    return conv2d(conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
