"""Peak signal-to-noise ratio."""

from torch import Tensor

from gencore.metrics.images.masks import Masked, checked_pair, masked_mean

__all__ = ["psnr"]


def psnr(
    prediction: Tensor,
    target: Tensor,
    *,
    data_range: float | None = None,
    mask: Tensor | None = None,
    masked: Masked = "restrict",
) -> Tensor:
    r"""Peak signal-to-noise ratio of each image, in decibels.

    .. math:: 10 \log_{10} \frac{R^2}{\frac1N \sum_i (y_i - \hat y_i)^2}

    with the data range R and all N values of an image, channels together. It is infinite for equal
    images, 20 dB for a constant error of R/10, and falls by 6.02 dB when the error doubles. To
    average over images, average the decibels.

    The published program of Mathieu, Couprie and LeCun (2016) scales images in [−1, 1] by 128
    instead of 127.5, which takes 0.034 dB off, and stops at 88.13 dB.

    Args:
        prediction: [B, C, H, W], uint8 or floating point.
        target: The same.
        data_range: R, the difference of the highest and the lowest *possible* value; if None, 255
            for uint8 and 1 for floating point.
        mask: The pixels to look at, bool [B, H, W] or [H, W].
        masked: "restrict" takes the mean over the pixels of the mask; "blank" sets both images to
            zero elsewhere and takes the mean over all, which adds −10 log₁₀(fraction of pixels in
            the mask) dB. The moving areas of videos have been published as "blank".

    Returns:
        float64 [B].

    Raises:
        TypeError: images are not of one dtype, uint8 or floating point.
        ValueError: shapes do not agree, or a mask leaves nothing of an image.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, eq. (4.7).

    Example:
        >>> import torch
        >>> y = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> round(psnr(y + 0.1, y).item(), 4)
        20.0
    """
    x, y, peak, mask = checked_pair("psnr", prediction, target, data_range, mask, masked)
    error = masked_mean("psnr", (x - y).square(), mask)
    return 10 * (peak**2 / error).log10()
