"""Structural similarity."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from gencore.metrics.images.masks import Masked, checked_pair, masked_mean

__all__ = ["ssim"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def ssim(
    prediction: Tensor,
    target: Tensor,
    *,
    data_range: float | None = None,
    mask: Tensor | None = None,
    masked: Masked = "restrict",
    channels: Literal["mean", "luma"] = "mean",
    padding: Literal["valid", "full"] = "valid",
    window_size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    r"""Mean structural similarity of each image, in [−1, 1].

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
                   {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
              \qquad C_i = (K_i R)^2

    averaged over the positions of the window. By default it is the SSIM of Wang et al. and of their
    code: a Gaussian window of 11 × 11 with σ = 1.5 whose weights sum to 1, K₁ = 0.01, K₂ = 0.03,
    variances not corrected by N/(N − 1), windows wholly inside the image, no downsampling before.
    Of several channels, each has its own and the mean is taken. This is also scikit-image's with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``. The code of Mathieu,
    Couprie and LeCun (2016) has ``channels="luma", padding="full"`` instead.

    SSIM(y, y) = 1; it is symmetric; of two constant images a and b it is
    (2ab + C₁)/(a² + b² + C₁).

    Args:
        prediction: [B, C, H, W], uint8 or floating point. Zero has to be black.
        target: The same.
        data_range: R, the difference of the highest and the lowest *possible* value; if None, 255
            for uint8 and 1 for floating point.
        mask: The pixels to look at, bool [B, H, W] or [H, W].
        masked: "restrict" takes the mean over windows whose centre is in the mask; "blank" sets
            both images to zero elsewhere and takes the mean over all.
        channels: "mean" over the channels, or "luma", 0.299 R + 0.587 G + 0.114 B of three.
        padding: "valid" for windows inside the image; "full" for all that overlap it, with zeros
            around, where the equal border counts as similar. With "full" a mask cannot be
            restricted to.
        window_size: odd.
        sigma: of the window, in pixels.
        k1: K₁.
        k2: K₂.

    Returns:
        float64 [B].

    Raises:
        TypeError: images are not of one dtype, uint8 or floating point.
        ValueError: shapes do not agree, an image is smaller than the window, luma is asked of
            other than three channels, or a mask leaves nothing of an image.

    Source:
        Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
        Structural Similarity", 2004, eq. (13) to (17).

    Example:
        >>> y = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> round(ssim(y, y).item(), 6)
        1.0
        >>> a, b = torch.full((2, 1, 1, 16, 16), 0.5).mul(torch.tensor([1.0, 0.4])[:, None, None,
        ...     None, None])
        >>> round(ssim(a, b).item(), 6) == round((2 * 0.1 + 1e-4) / (0.29 + 1e-4), 6)
        True
    """
    x, y, peak, mask = checked_pair("ssim", prediction, target, data_range, mask, masked)
    if channels not in ("mean", "luma") or padding not in ("valid", "full"):
        raise ValueError(
            f"ssim: channels is {channels!r} and padding {padding!r}; expected 'mean' or 'luma', "
            "and 'valid' or 'full'"
        )
    if window_size < 1 or window_size % 2 == 0 or not sigma > 0:
        raise ValueError(
            f"ssim: window_size = {window_size} and sigma = {sigma}; expected an odd size and a "
            "positive sigma"
        )
    if channels == "luma":
        if x.shape[1] != 3:
            raise ValueError(f"ssim: luma of {x.shape[1]} channels, expected 3")
        weights = x.new_tensor(_LUMA)[:, None, None]
        x, y = ((image * weights).sum(1, keepdim=True) for image in (x, y))
    radius = window_size // 2
    if padding == "full":
        if mask is not None:
            raise ValueError('ssim: a mask with padding="full" needs masked="blank"')
        x, y = (pad(image, [2 * radius] * 4) for image in (x, y))
    elif min(x.shape[2:]) < window_size:
        raise ValueError(
            f"ssim: images of {x.shape[2]} x {x.shape[3]}, expected at least the window, "
            f"{window_size} x {window_size}"
        )
    offset = torch.arange(window_size, dtype=x.dtype, device=x.device) - radius
    window = torch.exp(offset.square() / (-2 * sigma**2))
    window = window / window.sum()

    mean_x, mean_y = _blur(x, window), _blur(y, window)
    variance_x = _blur(x * x, window) - mean_x.square()
    variance_y = _blur(y * y, window) - mean_y.square()
    covariance = _blur(x * y, window) - mean_x * mean_y
    c1, c2 = (k1 * peak) ** 2, (k2 * peak) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / (mean_x.square() + mean_y.square() + c1)
    similarity = similarity / (variance_x + variance_y + c2)
    if mask is not None:
        height, width = mask.shape[2:]
        mask = mask[:, :, radius : height - radius, radius : width - radius]
    return masked_mean("ssim", similarity, mask)


def _blur(x: Tensor, window: Tensor) -> Tensor:
    """Weighted means over windows inside [B, C, H, W], rows and columns one after the other."""
    num = x.shape[1]
    x = conv2d(x, window.view(1, 1, -1, 1).expand(num, 1, -1, 1), groups=num)
    return conv2d(x, window.view(1, 1, 1, -1).expand(num, 1, 1, -1), groups=num)
