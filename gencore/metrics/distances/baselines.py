"""Sample sets that a generative model has to beat."""

import torch
from torch import Tensor

__all__ = ["independent_pixels"]


def independent_pixels(
    images: Tensor, num: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw images whose pixels follow the data's marginals and are independent of one another.

    Each pixel of each channel is copied from an image chosen uniformly, with replacement, for this
    pixel alone. The set has every per-pixel histogram of the data and none of its structure: the
    best that a model without correlations can do.

    Args:
        images: Data, [N, ...] with N ≥ 1, any dtype.
        num: Number of images to draw.
        generator: Source of randomness on the device of `images`; the default one if None.

    Returns:
        [num, ...], of the dtype and on the device of `images`.

    Raises:
        ValueError: `images` is empty, or `num` is negative.

    Example:
        >>> data = torch.tensor([[0, 10], [1, 11]])
        >>> drawn = independent_pixels(data, 5, torch.Generator().manual_seed(0))
        >>> drawn.shape, set(drawn[:, 0].tolist()) <= {0, 1}
        (torch.Size([5, 2]), True)
    """
    if images.ndim == 0 or images.numel() == 0:
        raise ValueError(
            f"independent_pixels: images have shape {tuple(images.shape)}, expected [N, ...] and "
            "not empty"
        )
    if num < 0:
        raise ValueError(f"independent_pixels: num = {num}, expected at least 0")
    pixels = images.flatten(1) if images.ndim > 1 else images[:, None]
    chosen = torch.randint(
        len(pixels), (num, pixels.shape[1]), generator=generator, device=images.device
    )
    return pixels.gather(0, chosen).view(num, *images.shape[1:])
