"""The features of a whole set of images, batch by batch."""

import torch
from torch import Tensor

from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["extract_features"]


def extract_features(
    images: Tensor, features: Features = pixel_features, *, batch_size: int = 1024
) -> Tensor:
    """Features of a set of images, without gradients.

    Args:
        images: [N, ...] with N ≥ 1, in whatever format `features` takes.
        features: Maps [B, ...] to [B, D]. A module is used in the mode that it is in: put one with
            dropout or batch normalisation into evaluation mode before.
        batch_size: Number of images given to `features` at a time.

    Returns:
        [N, D], of the dtype that `features` returns.

    Raises:
        ValueError: there are no images, or `features` returns something else than finite [B, D].

    Example:
        >>> extract_features(torch.zeros(5, 3, 4, 4)).shape
        torch.Size([5, 48])
    """
    if batch_size < 1:
        raise ValueError(f"extract_features: batch_size = {batch_size}, expected at least 1")
    if images.ndim == 0 or len(images) == 0:
        raise ValueError(
            f"extract_features: images have shape {tuple(images.shape)}, expected [N, ...] with "
            "N ≥ 1"
        )
    parts = []
    with torch.no_grad():
        for batch in torch.split(images, batch_size):
            part = features(batch)
            if part.ndim != 2 or len(part) != len(batch) or not part.is_floating_point():
                raise ValueError(
                    f"extract_features: features of {part.dtype} and shape {tuple(part.shape)}, "
                    f"expected floating point [{len(batch)}, D]"
                )
            if not part.isfinite().all():
                raise ValueError("extract_features: features hold NaN or infinite values")
            parts.append(part)
    return torch.cat(parts)
