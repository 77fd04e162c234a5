"""Streaming measures of predicted images: means over images."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from gencore.metrics.images.masks import Masked
from gencore.metrics.images.psnr import psnr
from gencore.metrics.images.sharpness import sharpness_difference
from gencore.metrics.images.ssim import ssim
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["StreamingPSNR", "StreamingSSIM", "StreamingSharpnessDifference"]


class _MeanOverImages(StreamingMetric):
    """The mean over images of a measure of each.

    Args:
        measure: Maps predictions and targets [B, C, H, W] to a number for each image [B].
        measure_options: keyword arguments of the measure that hold for all batches.
        options: of torchmetrics' ``Metric``.
    """

    total: Tensor
    num_images: Tensor

    def __init__(
        self, measure: Callable[..., Tensor], measure_options: dict[str, Any], **options: Any
    ) -> None:
        super().__init__(**options)
        self.measure, self.measure_options = measure, measure_options
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Add images [B, C, H, W], and the pixels to look at, bool [B, H, W] or [H, W]."""
        values = self.measure(prediction, target, mask=mask, **self.measure_options)
        self.total += values.sum()
        self.num_images += len(values)

    def compute(self) -> Tensor:
        """The mean over images, float64 []."""
        if self.num_images == 0:
            raise ValueError(f"{type(self).__name__}.compute: no images seen")
        return self.total / self.num_images


class StreamingPSNR(_MeanOverImages):
    """Mean over streamed images of :func:`gencore.metrics.psnr`, in decibels.

    Args:
        data_range: As of the function.
        masked: As of the function.
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingPSNR()
        >>> y = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
        >>> metric.update(y + 0.1, y), metric.update(y + 0.01, y)
        (None, None)
        >>> round(metric.compute().item(), 6)
        30.0
    """

    def __init__(
        self, *, data_range: float | None = None, masked: Masked = "restrict", **options: Any
    ) -> None:
        super().__init__(psnr, {"data_range": data_range, "masked": masked}, **options)


class StreamingSSIM(_MeanOverImages):
    """Mean over streamed images of :func:`gencore.metrics.ssim`.

    Args:
        data_range: As of the function, like all that follow.
        masked: "restrict" or "blank".
        channels: "mean" or "luma".
        padding: "valid" or "full".
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingSSIM()
        >>> y = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> metric.update(y, y)
        >>> round(metric.compute().item(), 6)
        1.0
    """

    def __init__(
        self,
        *,
        data_range: float | None = None,
        masked: Masked = "restrict",
        channels: Literal["mean", "luma"] = "mean",
        padding: Literal["valid", "full"] = "valid",
        **options: Any,
    ) -> None:
        measure_options = {
            "data_range": data_range,
            "masked": masked,
            "channels": channels,
            "padding": padding,
        }
        super().__init__(ssim, measure_options, **options)


class StreamingSharpnessDifference(_MeanOverImages):
    """Mean over streamed images of :func:`gencore.metrics.sharpness_difference`, in decibels.

    Args:
        data_range: As of the function, like all that follow.
        variant: "thesis" or "released".
        masked: "restrict" or "blank".
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingSharpnessDifference()
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4) / 4
        >>> metric.update(torch.zeros(1, 1, 4, 4), ramp)
        >>> round(metric.compute().item(), 4)
        6.0206
    """

    def __init__(
        self,
        *,
        data_range: float | None = None,
        variant: Literal["thesis", "released"] = "thesis",
        masked: Masked = "restrict",
        **options: Any,
    ) -> None:
        measure_options = {"data_range": data_range, "variant": variant, "masked": masked}
        super().__init__(sharpness_difference, measure_options, **options)
