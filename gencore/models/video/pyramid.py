"""Images in sizes that double from scale to scale."""

from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["check_sides", "image_pyramid"]


def image_pyramid(images: Tensor, num_scales: int) -> tuple[Tensor, ...]:
    """An image at each of K scales, from the coarsest to the image itself.

    A pixel of scale k is the mean of the four pixels of scale k + 1 that it covers:

        x_K = x,    x_{k−1}[i, j] = ¼ Σ_{a, b ∈ {0, 1}} x_k[2i + a, 2j + b]

    Args:
        images: [N, C, H, W], floating point. H and W are multiples of 2^(K − 1).
        num_scales: K.

    Returns:
        K tensors [N, C, H / 2^(K − k), W / 2^(K − k)], k = 1 … K.

    Raises:
        ValueError: for fewer than one scale, or sides that cannot be halved so often.

    Example:
        >>> import torch
        >>> [tuple(image.shape) for image in image_pyramid(torch.rand(2, 3, 32, 16), 3)]
        [(2, 3, 8, 4), (2, 3, 16, 8), (2, 3, 32, 16)]
    """
    check_sides("image_pyramid", images.shape[-2:], num_scales)
    scales = [images]
    for _ in range(num_scales - 1):
        scales.append(avg_pool2d(scales[-1], 2))
    return tuple(reversed(scales))


def check_sides(owner: str, sides: tuple[int, ...], num_scales: int) -> None:
    """Raise a ValueError on behalf of `owner` unless the sides can be halved K − 1 times."""
    if num_scales < 1:
        raise ValueError(f"{owner}: num_scales is {num_scales}; expected at least 1")
    divisor = 2 ** (num_scales - 1)
    if any(side < 1 or side % divisor for side in sides):
        given = " x ".join(str(side) for side in sides)
        raise ValueError(
            f"{owner}: the images are {given}; expected multiples of {divisor} for {num_scales} "
            "scales"
        )
