"""Sharpness difference: how alike the gradients of two images are."""

from typing import Literal

from torch import Tensor

from gencore.metrics.images.masks import Masked, checked_pair, masked_mean

__all__ = ["sharpness_difference"]


def sharpness_difference(
    prediction: Tensor,
    target: Tensor,
    *,
    data_range: float | None = None,
    variant: Literal["thesis", "released"] = "thesis",
    mask: Tensor | None = None,
    masked: Masked = "restrict",
) -> Tensor:
    r"""Sharpness difference of each image, in decibels; higher is more alike.

    .. math:: 10 \log_{10} \frac{R^2}{\frac1N \sum_{i,j} \big|
              (\nabla_i y + \nabla_j y) - (\nabla_i \hat y + \nabla_j \hat y)\big|}

    with the absolute differences ∇_i y = |y_{i,j} − y_{i−1,j}| and
    ∇_j y = |y_{i,j} − y_{i,j−1}|. R² stands over a mean that is not squared, so the value
    depends on the scale: of the same images it is 10 log₁₀ 255 = 24.07 dB higher on 0 … 255 than on
    0 … 1. State the scale.

    ``variant="thesis"`` is this formula; N counts the pixels that have a neighbour above and on the
    left, in all channels. Images that differ by a constant have an infinite value.

    ``variant="released"`` is what the authors' published program computes, and its numbers cannot
    be compared with those of the formula. It rescales the images to [−1, 1]; it adds
    |∇_i y − ∇_i ŷ| + |∇_j y − ∇_j ŷ| over all pixels but those of the border, divides by the
    number of all values, multiplies by 128² (as if the differences were squared), raises the result
    to at least 10⁻⁴ and takes 10 log₁₀(255²/result): at most 88.13 dB.

    Args:
        prediction: [B, C, H, W], uint8 or floating point; H, W ≥ 2, or 3 if "released".
        target: The same.
        data_range: R, the difference of the highest and the lowest *possible* value; if None, 255
            for uint8 and 1 for floating point.
        variant: which definition.
        mask: The pixels to look at, bool [B, H, W] or [H, W]: those where the differences end.
        masked: "restrict" takes the mean over the pixels of the mask; "blank" sets both images to
            zero elsewhere and takes the mean over all, with the edges this makes.

    Returns:
        float64 [B].

    Raises:
        TypeError: images are not of one dtype, uint8 or floating point.
        ValueError: shapes do not agree, images are too small, or a mask leaves nothing of one.

    Source:
        Mathieu, Couprie and LeCun, "Deep multi-scale video prediction beyond mean square error",
        2016; Mathieu, "Unsupervised Learning under Uncertainty", 2017, eq. (4.8); the
        program is ``image_error_measures.lua`` of coupriec/VideoPredictionICLR2016.

    Example:
        >>> import torch
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4) / 4
        >>> flat = torch.zeros(1, 1, 4, 4)
        >>> round(sharpness_difference(flat, ramp).item(), 4)  # the mean difference is ¼
        6.0206
    """
    name = "sharpness_difference"
    x, y, peak, mask = checked_pair(name, prediction, target, data_range, mask, masked)
    if variant not in ("thesis", "released"):
        raise ValueError(f"{name}: variant is {variant!r}, expected 'thesis' or 'released'")
    smallest = 2 if variant == "thesis" else 3
    if min(x.shape[2:]) < smallest:
        raise ValueError(
            f"{name}: images of {x.shape[2]} x {x.shape[3]}, expected at least {smallest} x "
            f"{smallest}"
        )
    (rows_x, columns_x), (rows_y, columns_y) = _gradients(x), _gradients(y)
    if mask is not None:
        mask = mask[:, :, 1:, 1:]
    if variant == "thesis":
        difference = ((rows_x + columns_x) - (rows_y + columns_y)).abs()
        return 10 * (peak**2 / masked_mean(name, difference, mask)).log10()
    difference = (rows_x - rows_y).abs() + (columns_x - columns_y).abs()
    inner = difference[:, :, :-1, :-1] * (2 / peak)
    if mask is None:
        error = inner.sum((1, 2, 3)) / x[0].numel()
    else:
        error = masked_mean(name, inner, mask[:, :, :-1, :-1])
    return 10 * (255**2 / (128**2 * error).clamp(min=1e-4)).log10()


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute differences to the pixel above and to the left, each [B, C, H − 1, W − 1]."""
    here = x[:, :, 1:, 1:]
    return (here - x[:, :, :-1, 1:]).abs(), (here - x[:, :, 1:, :-1]).abs()
