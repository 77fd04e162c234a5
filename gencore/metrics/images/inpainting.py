"""How well hidden pixels are filled in: errors of these pixels alone."""

from typing import NamedTuple

from torch import Tensor

from gencore.metrics.images.masks import checked_pair, masked_mean
from gencore.metrics.images.psnr import psnr

__all__ = ["InpaintingScores", "inpainting_scores"]


class InpaintingScores(NamedTuple):
    """Of each image, float64 [B]."""

    error: Tensor
    """Mean absolute error of a hidden value, as a fraction of the data range."""
    psnr: Tensor
    """Peak signal-to-noise ratio of the hidden values, in decibels."""


def inpainting_scores(
    filled: Tensor, target: Tensor, is_free: Tensor, *, data_range: float | None = None
) -> InpaintingScores:
    r"""Compare what was filled in with what was hidden, on the hidden pixels M alone.

    .. math:: \frac{1}{R\,|M|} \sum_{i \in M} |y_i - \hat y_i|, \qquad
              10 \log_{10} \frac{R^2}{\frac{1}{|M|} \sum_{i \in M} (y_i - \hat y_i)^2}

    Args:
        filled: [B, C, H, W], uint8 or floating point.
        target: the whole images, the same.
        is_free: which pixels were hidden, bool [B, 1, H, W] or [1, 1, H, W].
        data_range: R, as for `psnr`.

    Raises:
        TypeError, ValueError: as `psnr`.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, table 2.4, which does not say on what scale its errors
        are; they fit values in [0, 1].

    Example:
        >>> import torch
        >>> y, is_free = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8) < 0.5
        >>> scores = inpainting_scores(y + 0.1 * is_free, y, is_free)
        >>> round(scores.error.mean().item(), 4), round(scores.psnr.mean().item(), 2)
        (0.1, 20.0)
    """
    if is_free.dim() != 4 or is_free.shape[1] != 1:
        raise ValueError(
            f"inpainting_scores: is_free has shape {list(is_free.shape)}; expected [B, 1, H, W] or "
            "[1, 1, H, W]"
        )
    mask = is_free[:, 0] if len(is_free) == len(filled) else is_free[0, 0]
    x, y, peak, checked = checked_pair(
        "inpainting_scores", filled, target, data_range, mask, "restrict"
    )
    error = masked_mean("inpainting_scores", (x - y).abs(), checked) / peak
    return InpaintingScores(error, psnr(filled, target, data_range=data_range, mask=mask))
